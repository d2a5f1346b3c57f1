import importlib.util
import sys

import pytest

from app.errors import SettingsError
from app.metrics import Metrics
from app.settings import Settings
from app.tracing import options
from app.watch import Watch

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("asked", "environ", "is_on"),
    [
        (None, {}, False),
        (None, ENDPOINT, True),
        (None, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x/v1/traces"}, True),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        (True, {}, True),
        (False, ENDPOINT, False),
        (True, ENDPOINT | {"OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_it_is_on_where_it_is_asked_for(asked: bool | None, environ: dict[str, str], is_on: bool) -> None:
    assert options.is_wanted(asked, environ) is is_on


@pytest.mark.parametrize(
    ("environ", "ratio", "heeds_parent"),
    [
        ({}, 1.0, True),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, 1.0, False),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, 0.0, True),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, 0.25, False),
        ({"OTEL_TRACES_SAMPLER": "ParentBased_TraceIdRatio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}, 0.01, True),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}, 1.0, True),
    ],
)
def test_samplers_are_those_of_the_specification(environ: dict[str, str], ratio: float, heeds_parent: bool) -> None:
    found = options.read(environ)
    assert (found.ratio, found.heeds_parent) == (ratio, heeds_parent)


def test_each_kind_can_be_left_out() -> None:
    found = options.read({"OTEL_TRACES_EXPORTER": "none"})
    assert (found.with_traces, found.with_metrics) == (False, True)
    assert str(found) == "metrics; of requests a share of 1, and whatever its caller samples"


def test_a_shorter_queue_has_shorter_batches() -> None:
    found = options.read({"OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": ""})
    assert (found.queue_spans, found.batch_spans) == (100, 100)
    found = options.read({})
    assert (found.queue_spans, found.batch_spans) == (2048, 512)


IMPOSSIBLE = [
    ({"OTEL_TRACES_SAMPLER": "jaeger_remote"}, "OTEL_TRACES_SAMPLER='jaeger_remote': expected one of always_on"),
    ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"}, "expected a share from 0 to 1"),
    ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "half"}, "expected a share from 0 to 1"),
    ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "speaks http/protobuf to its collector, on port 4318"),
    ({"OTEL_METRICS_EXPORTER": "prometheus"}, "OTEL_METRICS_EXPORTER='prometheus': expected otlp or none"),
    # which the SDK raises at, once the service has started
    ({"OTEL_BSP_MAX_QUEUE_SIZE": "-1"}, "OTEL_BSP_MAX_QUEUE_SIZE='-1': expected a whole number above 0"),
    ({"OTEL_BSP_MAX_QUEUE_SIZE": "many"}, "OTEL_BSP_MAX_QUEUE_SIZE='many': expected a whole number above 0"),
    ({"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "0"}, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE='0': expected a whole number"),
    ({"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4096"}, "4096 is more than OTEL_BSP_MAX_QUEUE_SIZE=2048"),
    ({"OTEL_BSP_SCHEDULE_DELAY": "-5"}, "OTEL_BSP_SCHEDULE_DELAY='-5': expected milliseconds above 0"),
    ({"OTEL_METRIC_EXPORT_INTERVAL": "0"}, "OTEL_METRIC_EXPORT_INTERVAL='0': expected milliseconds above 0"),
    ({"OTEL_METRIC_EXPORT_INTERVAL": "nan"}, "OTEL_METRIC_EXPORT_INTERVAL='nan': expected milliseconds above 0"),
]


@pytest.mark.parametrize(("environ", "told"), IMPOSSIBLE)
def test_what_cannot_be_is_told(environ: dict[str, str], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        options.read(environ)


@pytest.mark.parametrize(("environ", "told"), [*IMPOSSIBLE[:1], IMPOSSIBLE[5]])
def test_a_platforms_endpoint_keeps_nobody_from_serving(
    environ: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in (ENDPOINT | environ).items():
        monkeypatch.setenv(name, value)
    assert Watch(Settings(), Metrics()).observer is None
    assert told in caplog.text
    with pytest.raises(SettingsError, match=next(iter(environ))):
        Watch(Settings(otel=True), Metrics())


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(options, "find_spec", lambda name: None if "exporter" in name else found(name))
    with pytest.raises(SettingsError, match=r"pip install 'zero-to-one\[otel\]'"):
        Watch(Settings(otel=True), Metrics())


def test_nothing_of_the_sdk_is_imported_where_it_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    program = (
        "import sys; from app.main import create_app; from app.settings import Settings; create_app(Settings()); "
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
