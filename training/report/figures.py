"""How every plot of a report looks, and how it becomes an SVG of the same bytes each time."""

import io
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Params = ParamSpec("Params")

# Told apart by all kinds of color vision (Okabe and Ito, 2008).
BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7"
GRAY, INK = "#9A9A9A", "#222222"

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.constrained_layout.use": True,
    "figure.titlesize": 12,
    "font.size": 10,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    # the ids inside an SVG are random without it
    "svg.hashsalt": "zero-to-one",
    # a label may hold a dollar sign
    "text.parse_math": False,
}


def svg(draw: Callable[Params, Figure]) -> Callable[Params, bytes]:
    """Make a function that draws a figure return it as an SVG; the same figure always gives the same bytes."""

    @wraps(draw)
    def drawn(*args: Params.args, **kwargs: Params.kwargs) -> bytes:
        # whatever the user's own settings are
        with style.context(STYLE, after_reset=True):
            buffer = io.BytesIO()
            draw(*args, **kwargs).savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        return buffer.getvalue()

    return drawn


def one_panel(title: str, *, width: float = 6.0, height: float = 4.5) -> tuple[Figure, Axes]:
    """Return a figure, its size in inches, and its only panel."""
    figure = Figure(figsize=(width, height))
    axes = figure.subplots()
    axes.set_title(title)
    return figure, axes


def shortened(label: str, *, limit: int = 18) -> str:
    """Return a label that fits beside an axis."""
    return label if len(label) <= limit else f"{label[: limit - 1]}…"
