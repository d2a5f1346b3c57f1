import pytest

from app.tracing.context import Trace, new_id, parse
from app.tracing.tracer import Tracer

ID, PARENT = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"
GOOD = b"00-" + ID + b"-" + PARENT + b"-01"


@pytest.mark.parametrize(
    ("header", "is_sampled"),
    [
        (GOOD, True),
        (b" " + GOOD + b"\t", True),
        (GOOD[:-2] + b"00", False),
        (GOOD[:-2] + b"03", True),
        (b"cc" + GOOD[2:] + b"-what-comes-later", True),
    ],
)
def test_a_header_is_read(header: bytes, is_sampled: bool) -> None:
    trace = parse(header)
    assert trace is not None
    assert (trace.trace_id, trace.parent_id, trace.is_sampled) == (ID, int(PARENT, 16), is_sampled)
    assert trace.span_id == 0


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"00",
        GOOD[:-1],
        GOOD + b"0",
        GOOD + b"-more",  # version 00 ends with its flags
        GOOD.upper(),
        b"ff" + GOOD[2:],
        b"00-" + b"0" * 32 + b"-" + PARENT + b"-01",
        b"00-" + ID + b"-" + b"0" * 16 + b"-01",
        GOOD.replace(b"-", b"_"),
        b"x" * 10_000,
    ],
)
def test_what_is_no_header_is_passed_over(header: bytes) -> None:
    assert parse(header) is None


def test_ids_are_never_zero_and_differ() -> None:
    assert len({new_id(64) for _ in range(1000)} - {0}) == 1000


def begun(count: int, *, ratio: float, heeds_parent: bool = True, header: bytes | None = None) -> list[Trace]:
    tracer = Tracer(lambda span: None, ratio=ratio, heeds_parent=heeds_parent)
    return [tracer.begin(None if header is None else parse(header)) for _ in range(count)]


@pytest.mark.parametrize(("ratio", "least", "most"), [(0.0, 0, 0), (0.1, 100, 320), (1.0, 2000, 2000)])
def test_a_share_of_the_traces_that_begin_here_is_sampled(ratio: float, least: int, most: int) -> None:
    traces = begun(2000, ratio=ratio)
    assert least <= sum(trace.is_sampled for trace in traces) <= most
    assert all(bool(trace.span_id) is trace.is_sampled for trace in traces)
    assert len({trace.trace_id for trace in traces}) == 2000


@pytest.mark.parametrize(("ratio", "flags"), [(0.0, b"01"), (1.0, b"00")])
def test_a_caller_decides_where_callers_are_heeded(ratio: float, flags: bytes) -> None:
    header = GOOD[:-2] + flags
    assert [trace.is_sampled for trace in begun(1, ratio=ratio, header=header)] == [flags == b"01"]
    assert [trace.is_sampled for trace in begun(1, ratio=ratio, heeds_parent=False, header=header)] == [flags == b"00"]


def test_the_sampler_decides_as_the_sdks_own() -> None:
    from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

    theirs = TraceIdRatioBased(0.3)
    for trace in begun(500, ratio=0.3):
        result = theirs.should_sample(None, int(trace.trace_id, 16), "any")
        assert result.decision.is_sampled() == trace.is_sampled
