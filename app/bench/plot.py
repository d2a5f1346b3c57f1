"""Time by percentile as an SVG, with an axis on which each further nine of a percentile takes the same room."""

import math
from collections.abc import Sequence
from html import escape

from app.bench.histogram import Histogram

_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 50, 50
_COLORS = ("#1f5fa8", "#c2571a", "#4a7f2c")
_NINES = ("0%", "90%", "99%", "99.9%", "99.99%", "99.999%", "99.9999%")


def latency_svg(title: str, curves: Sequence[tuple[str, Histogram]]) -> str:
    """Return a whole SVG document.

    Args:
        title: Above the plot.
        curves: Name and times of each; those without any are left out.
    """
    curves = [(name, histogram) for name, histogram in curves if histogram.count]
    nines = max([1, *(math.ceil(math.log10(histogram.count)) for _, histogram in curves)])
    nines = min(nines, len(_NINES) - 1)
    top_ms = _round_up(max([1e-3, *(histogram.max_ns / 1e6 for _, histogram in curves)]))
    plot_width, plot_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x_of(share: float) -> float:
        """Place a share of all times: the same distance for 0 to 90%, 90 to 99%, ..."""
        return _LEFT + plot_width * min(1.0, -math.log10(max(1 - share, 10.0**-nines)) / nines)

    def y_of(milliseconds: float) -> float:
        return _TOP + plot_height * (1 - milliseconds / top_ms)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="12" fill="#333">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="22" font-size="14">{escape(title)}</text>',
    ]
    for nine in range(nines + 1):
        x = x_of(1 - 10.0**-nine)
        parts.append(f'<path d="M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{_NINES[nine]}</text>')
    for step in range(6):
        value = top_ms * step / 5
        y = y_of(value)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 10}" text-anchor="middle">percentile</text>')
    parts.append(f'<text x="16" y="{_TOP - 12}">ms</text>')
    for index, (name, histogram) in enumerate(curves):
        color = _COLORS[index % len(_COLORS)]
        points = _points(histogram)
        line = " ".join(f"{x_of(share):.1f},{y_of(value):.1f}" for share, value in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts.append(
            f'<text x="{_WIDTH - _RIGHT - 110 * (len(curves) - index - 1)}" y="{_TOP - 12}" text-anchor="end" '
            f'fill="{color}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _points(histogram: Histogram) -> list[tuple[float, float]]:
    """Return the share of all times below a step, and the time of that step in milliseconds; rising."""
    points: list[tuple[float, float]] = []
    seen = 0
    for step in histogram.steps():
        points.append((seen / histogram.count, step.highest_ns / 1e6))
        seen += step.count
    return [*points, (1.0, histogram.max_ns / 1e6)]


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 2.5, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= value * (1 - 1e-9))
