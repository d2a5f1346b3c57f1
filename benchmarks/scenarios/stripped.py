"""The service beside a stripped app of the same decoder, batcher, backend and encoder: what all the rest costs."""

import sys
from pathlib import Path

from benchmarks import pictures
from benchmarks.findings import Bar, Finding, Setting
from benchmarks.scenarios import _alternate, _command
from benchmarks.scenarios._bundles import MODELS_DIR, newest
from benchmarks.scenarios._stripped_app import BUNDLE
from benchmarks.servers import SERVICE_NAME, Server, service

MODEL = "cnn"
CLIENTS = 32
BAR_SLOWER = 0.12
AIM_SLOWER = 0.06
ASGI_NAME = "stripped, ASGI on uvicorn"
PROTOCOL_NAME = "stripped, a protocol of its own"
STRIPPED_NAMES = (ASGI_NAME, PROTOCOL_NAME)
_MODULE = "benchmarks.scenarios._stripped_app"


def measure(setting: Setting) -> Finding:
    """Measure the service and both stripped apps in turn."""
    bodies = pictures.bodies(64)
    bundle = newest(MODEL)
    contenders = [
        _alternate.Contender(server=server, requests=pictures.http_requests(server.path, bodies))
        for server in (service(MODEL, MODELS_DIR), stripped_asgi(bundle), stripped_protocol(bundle))
    ]
    turns = _alternate.run(contenders, setting, clients=CLIENTS)
    rivals = {name: _alternate.middle(turns, name, lambda sample: sample.requests_per_s) for name in STRIPPED_NAMES}
    faster = max(rivals, key=rivals.__getitem__)
    by_rate = 1 - _alternate.ratio(turns, SERVICE_NAME, faster, lambda sample: sample.requests_per_s)
    by_cpu = 1 - _alternate.ratio(turns, faster, SERVICE_NAME, lambda sample: sample.server_us)
    failures = sum(sample.failures for turn in turns for sample in turn.values())
    return Finding(
        title="The service beside its own stripped app",
        bars=(_bar("by requests/s", by_rate, faster), _bar("by CPU time a request", by_cpu, faster)),
        table_markdown=_command.table(
            (*_alternate.COLUMNS, "this service is slower by"),
            [
                [
                    *_alternate.row(turns, contender.server.name),
                    _slower(turns, contender.server.name),
                ]
                for contender in contenders
            ],
        ),
        notes=(
            f"{MODEL} over JSON, {CLIENTS} clients, one core for all servers: all are up, and one at a time is asked. "
            "Medians over all turns, and of the ratios within each turn. The stripped apps have the same decoder, "
            "batcher, backend and encoder, and no admission, limits, ids, metrics, receipts, deadlines or checks of "
            "what a model answers. The bar is held against the faster of the two."
            + (f" {failures} requests failed." if failures else "")
        ),
        raw={"turns": _alternate.raw(turns)},
    )


def stripped_asgi(bundle: Path) -> Server:
    """Return the stripped app as an ASGI callable on stock uvicorn."""
    options = ("--port=0", "--loop=uvloop", "--http=httptools", "--ws=none", "--no-access-log", "--lifespan=off")
    return _stripped(ASGI_NAME, ("-m", "uvicorn", f"{_MODULE}:asgi_app", "--factory", *options), bundle)


def stripped_protocol(bundle: Path) -> Server:
    """Return the stripped app straight on the wire."""
    return _stripped(PROTOCOL_NAME, ("-m", _MODULE), bundle)


def _stripped(name: str, arguments: tuple[str, ...], bundle: Path) -> Server:
    return Server(name=name, arguments=arguments, environ={BUNDLE: str(bundle)}, path="/predict")


def _slower(turns: list[_alternate.Turn], name: str) -> str:
    if name == SERVICE_NAME:
        return "-"
    by_rate = 1 - _alternate.ratio(turns, SERVICE_NAME, name, lambda sample: sample.requests_per_s)
    by_cpu = 1 - _alternate.ratio(turns, name, SERVICE_NAME, lambda sample: sample.server_us)
    return f"{by_rate:.1%} (by CPU time {by_cpu:.1%})"


def _bar(how: str, slower: float, faster: str) -> Bar:
    return Bar(
        what=f"the service against the same decoder and batcher and nothing else, {how}",
        bar=f"at most {BAR_SLOWER:.0%} slower",
        aim=f"{AIM_SLOWER:.0%}",
        measured=f"{slower:.1%} slower than {faster!r}",
        is_met=slower <= BAR_SLOWER,
        is_aim_met=slower <= AIM_SLOWER,
    )


if __name__ == "__main__":
    sys.exit(_command.run(measure))
