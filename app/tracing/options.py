"""What the ``OTEL_*`` variables ask for. Imports nothing of OpenTelemetry.

Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/. What the SDK's own parts read
(endpoints, headers, certificates, timeouts, resource attributes) is left to them; but numbers that they would raise at,
when the service has already started, are refused here.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from app.errors import SettingsError

_ENDPOINTS = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)
_PROTOCOL = "http/protobuf"
# the specification's defaults
_QUEUE_SPANS, _BATCH_SPANS = 2048, 512
# name: the ratio, None where it is an argument; and whether a caller's flag decides
_SAMPLERS: dict[str, tuple[float | None, bool]] = {
    "always_on": (1.0, False),
    "always_off": (0.0, False),
    "traceidratio": (None, False),
    "parentbased_always_on": (1.0, True),
    "parentbased_always_off": (0.0, True),
    "parentbased_traceidratio": (None, True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is sent.

    Attributes:
        with_traces: Whether spans are.
        with_metrics: Whether metrics are.
        ratio: Of the requests that are sampled, 0 to 1, where no caller decides.
        heeds_parent: Whether the flag in a caller's ``traceparent`` decides.
        queue_spans: Most spans that wait to be sent.
        batch_spans: Most that are sent together.
    """

    with_traces: bool
    with_metrics: bool
    ratio: float
    heeds_parent: bool
    queue_spans: int = _QUEUE_SPANS
    batch_spans: int = _BATCH_SPANS

    def __str__(self) -> str:
        """Return what the log says of it."""
        kinds = [kind for kind, is_on in (("spans", self.with_traces), ("metrics", self.with_metrics)) if is_on]
        parent = ", and whatever its caller samples" if self.heeds_parent else ""
        return f"{' and '.join(kinds)}; of requests a share of {self.ratio:g}{parent}"


def is_wanted(asked: bool | None, environ: Mapping[str, str]) -> bool:
    """Tell whether OpenTelemetry is on: where the setting says so, or says nothing and an endpoint is named."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    return any(environ.get(name) for name in _ENDPOINTS) if asked is None else asked


def read(environ: Mapping[str, str]) -> Options:
    """Return what is asked for.

    Raises:
        SettingsError: A variable asks for what is not here.
    """
    if find_spec("opentelemetry.exporter") is None or find_spec("opentelemetry.sdk") is None:
        raise SettingsError("OpenTelemetry is not installed; pip install 'zero-to-one[otel]', or set ZTO_OTEL=0")
    for name in ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
                 "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"):  # fmt: skip
        if (protocol := environ.get(name, "").strip()) not in ("", _PROTOCOL):
            raise SettingsError(f"{name}={protocol!r}: this service speaks {_PROTOCOL} to its collector, on port 4318")
    ratio, heeds_parent = _sampler(environ)
    queue_spans = _whole_number("OTEL_BSP_MAX_QUEUE_SIZE", environ, default=_QUEUE_SPANS)
    # whoever makes the queue short means the batches with it
    batch_spans = _whole_number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", environ, default=min(_BATCH_SPANS, queue_spans))
    if batch_spans > queue_spans:
        raise SettingsError(
            f"OTEL_BSP_MAX_EXPORT_BATCH_SIZE={batch_spans} is more than OTEL_BSP_MAX_QUEUE_SIZE={queue_spans}"
        )
    for name in ("OTEL_BSP_SCHEDULE_DELAY", "OTEL_METRIC_EXPORT_INTERVAL"):
        _expect_milliseconds(name, environ)
    return Options(
        with_traces=_is_exported("OTEL_TRACES_EXPORTER", environ),
        with_metrics=_is_exported("OTEL_METRICS_EXPORTER", environ),
        ratio=ratio,
        heeds_parent=heeds_parent,
        queue_spans=queue_spans,
        batch_spans=batch_spans,
    )


def _whole_number(name: str, environ: Mapping[str, str], *, default: int) -> int:
    text = environ.get(name, "").strip()
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) > 0):
        raise SettingsError(f"{name}={text[:32]!r}: expected a whole number above 0")
    return int(text)


def _expect_milliseconds(name: str, environ: Mapping[str, str]) -> None:
    text = environ.get(name, "").strip() or "1"
    try:
        milliseconds = float(text)
    except ValueError:
        milliseconds = 0.0
    if not 0 < milliseconds < math.inf:
        raise SettingsError(f"{name}={text[:32]!r}: expected milliseconds above 0")


def _is_exported(name: str, environ: Mapping[str, str]) -> bool:
    exporter = environ.get(name, "").strip() or "otlp"
    if exporter not in ("otlp", "none"):
        raise SettingsError(f"{name}={exporter!r}: expected otlp or none")
    return exporter == "otlp"


def _sampler(environ: Mapping[str, str]) -> tuple[float, bool]:
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() or "parentbased_always_on"
    if name not in _SAMPLERS:
        raise SettingsError(f"OTEL_TRACES_SAMPLER={name!r}: expected one of {', '.join(_SAMPLERS)}")
    ratio, heeds_parent = _SAMPLERS[name]
    if ratio is None:
        argument = environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip() or "1"
        try:
            ratio = float(argument)
        except ValueError:
            ratio = -1.0
        if not 0 <= ratio <= 1:
            raise SettingsError(f"OTEL_TRACES_SAMPLER_ARG={argument!r}: expected a share from 0 to 1")
    return ratio, heeds_parent
