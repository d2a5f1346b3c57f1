"""The plots that show pictures: mistakes, and reconstructions. They hold rows of the test set: public data only."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from app.tensors import Array
from training.report.figures import shortened, svg

COLUMNS = 6
MOST_MISTAKES = 18
NUM_REBUILT = 10


@svg
def worst_mistakes(
    images_NHW: Array,
    labels_N: NDArray[np.int64],
    predicted_N: NDArray[np.int64],
    probabilities_N: Array,
    labels: Sequence[str],
) -> Figure:
    """Draw pictures with what they are, what they are called, and how surely.

    Args:
        images_NHW: The mistakes, worst first; those over 18 are left out.
        labels_N: True classes.
        predicted_N: Classes given.
        probabilities_N: Of the classes given.
        labels: The name of each class.
    """
    count = min(len(images_NHW), MOST_MISTAKES)
    num_rows = max(1, -(-count // COLUMNS))
    figure = Figure(figsize=(1.75 * COLUMNS, 2.2 * num_rows + 0.4))
    figure.suptitle("The surest mistakes on the test set", x=0.01, ha="left")
    panels = figure.subplots(num_rows, COLUMNS, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for index, axes in zip(range(count), panels, strict=False):
        _picture(axes, images_NHW[index])
        true, given = shortened(labels[labels_N[index]]), shortened(labels[predicted_N[index]])
        axes.set_title(f"{true}\ncalled {given}\n{_sure(probabilities_N[index])}", fontsize=9, loc="center")
    return figure


@svg
def reconstructions(originals_NHW: Array, rebuilt_NHW: Array, errors_N: Array) -> Figure:
    """Draw test pictures above what is left of them, from the best rebuilt to the worst, at equal steps of rank.

    Args:
        originals_NHW: Any scale.
        rebuilt_NHW: The same scale.
        errors_N: Mean squared error of each.
    """
    order_N = np.argsort(errors_N, kind="stable")
    chosen = order_N[np.linspace(0, len(order_N) - 1, min(NUM_REBUILT, len(order_N))).round().astype(int)]
    figure = Figure(figsize=(1.1 * max(len(chosen), 4), 3.0))
    figure.suptitle("Test pictures (above) and their reconstructions (below), best to worst", x=0.01, ha="left")
    panels = figure.subplots(2, len(chosen), squeeze=False)
    for column, index in enumerate(chosen):
        for axes, image in zip(panels[:, column], (originals_NHW[index], rebuilt_NHW[index]), strict=True):
            axes.set_axis_off()
            _picture(axes, image, low=originals_NHW[index].min(), high=originals_NHW[index].max())
        panels[1, column].set_title(f"{errors_N[index]:.4f}", fontsize=9, loc="center")
    return figure


def _sure(probability: float) -> str:
    return "over 99.9%" if probability > 0.999 else f"{probability:.1%}"


def _picture(axes: Axes, image_HW: Array, *, low: float | None = None, high: float | None = None) -> None:
    axes.imshow(image_HW, cmap="gray", vmin=low, vmax=high, interpolation="none")
