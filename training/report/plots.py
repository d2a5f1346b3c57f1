"""The plots of curves and counts: each a function from arrays to an SVG.

Shape suffixes: N rows of the split, C classes.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from app.tensors import Array
from training.calibration import CalibrationCheck, Reliability
from training.intervals import wilson
from training.report.figures import BLUE, GRAY, GREEN, INK, ORANGE, VERMILION, one_panel, shortened, svg
from training.verdict import EpochLike

# Lines of that many classes can be told apart; all others are gray.
HIGHLIGHTS = (VERMILION, BLUE, GREEN, ORANGE)
MOST_NUMBERS = 26
MOST_POINTS = 1000
CURVE_POINTS = 300

# A good ROC curve is a corner: as much of it is shown as has every class found but for a few.
ROC_LIMITS, NEARLY_ALL = (0.02, 0.1, 0.3, 1.0), 0.98

# The usual one of logarithmic axes writes mathematics, and labels are not to be read as such.
PLAIN = StrMethodFormatter("{x:g}")


@svg
def learning_curves(
    history: Sequence[EpochLike],
    best_epoch: int,
    *,
    validation_scores: Sequence[float] | None = None,
    score_name: str = "accuracy",
) -> Figure:
    """Draw the losses of both splits, and the validation score where there is one, over the epochs."""
    num_panels = 1 if validation_scores is None else 2
    figure = Figure(figsize=(5.0 * num_panels, 3.8))
    numbers = [epoch.number for epoch in history]
    marker = "o" if len(numbers) <= 12 else None
    panels = figure.subplots(1, num_panels, squeeze=False)[0]
    losses = panels[0]
    losses.plot(numbers, [epoch.train_loss for epoch in history], color=ORANGE, label="training, as it is trained",
                linestyle="--", marker=marker, markersize=4)  # fmt: skip
    losses.plot(numbers, [epoch.validation_loss for epoch in history], color=BLUE, label="validation, plain network",
                marker=marker, markersize=4)  # fmt: skip
    losses.set(title="Loss", ylabel="loss")
    if validation_scores is not None:
        panels[1].plot(numbers, validation_scores, color=BLUE, marker=marker, markersize=4,
                       label="validation, plain network")  # fmt: skip
        panels[1].set(title=f"Validation {score_name}", ylabel=score_name)
    for axes in panels:
        axes.axvline(best_epoch, color=GRAY, linewidth=1.2, linestyle=":", label=f"kept: epoch {best_epoch}")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    return figure


@svg
def confusion_matrix(confusion_CC: NDArray[np.int64], labels: Sequence[str]) -> Figure:
    """Draw how many rows of each class are called what; the color is the share of the true class."""
    num_classes = len(labels)
    side = max(4.2, 0.55 * num_classes + 2.0)
    figure, axes = one_panel("Test rows by true and predicted class", width=side + 0.6, height=side)
    shares_CC = confusion_CC / np.maximum(confusion_CC.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares_CC, cmap="Blues", vmin=0, vmax=1)
    names = [shortened(label) for label in labels]
    axes.set_xticks(range(num_classes), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(num_classes), names)
    axes.set(xlabel="predicted", ylabel="true")
    axes.grid(visible=False)
    if num_classes <= MOST_NUMBERS:
        for (row, column), count in np.ndenumerate(confusion_CC):
            if count:
                color = "white" if shares_CC[row, column] > 0.55 else INK
                axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=9)
    bar = figure.colorbar(image, ax=axes, shrink=0.75, label="share of the true class")
    bar.outline.set_visible(False)
    return figure


@svg
def roc_curves(
    probabilities_NC: Array, labels_N: NDArray[np.int64], labels: Sequence[str], areas: Sequence[float | None]
) -> Figure:
    """Draw the share of each class that is found against the share of others that is called so.

    Args:
        probabilities_NC: Of the test rows.
        labels_N: Their classes.
        labels: The name of each class.
        areas: Of each class; None for one that cannot be told, which is not drawn.
    """
    figure, axes = one_panel(f"ROC: {_whose(labels)} against all others", width=6.4)
    found = []
    for index, color in _emphasized(areas, len(labels)):
        false_share, true_share, _ = roc_curve(labels_N == index, probabilities_NC[:, index])
        _line(axes, false_share, true_share, color, f"{shortened(labels[index])}, AUC {areas[index]:.4f}")
        found.append(np.interp(ROC_LIMITS, false_share, true_share))
    limit = _first_with_nearly_all(found)
    axes.set(xlabel="share of other rows called so", ylabel="share of the class found", ylim=(0, 1.02))
    axes.set_xlim(-0.01 * limit, limit)
    if limit == 1.0:
        axes.plot([0, 1], [0, 1], color=GRAY, linewidth=1, linestyle=":", label="a guess")
    axes.legend(loc="lower right", title=_legend_title(areas, len(labels)))
    return figure


@svg
def precision_recall_curves(
    probabilities_NC: Array, labels_N: NDArray[np.int64], labels: Sequence[str], precisions: Sequence[float | None]
) -> Figure:
    """Draw how many of those called a class are one, against the share of the class that is found.

    Args:
        probabilities_NC: Of the test rows.
        labels_N: Their classes.
        labels: The name of each class.
        precisions: Average precision of each class; None for one that cannot be told, which is not drawn.
    """
    figure, axes = one_panel("Precision and recall of each class", width=6.4)
    chosen = _emphasized(precisions, len(labels), both=True)
    for index, color in chosen:
        precision, recall, _ = precision_recall_curve(labels_N == index, probabilities_NC[:, index])
        _line(axes, recall, precision, color, f"{shortened(labels[index])}, AP {precisions[index]:.4f}")
    axes.set(xlabel="recall: share of the class found", ylabel="precision: share of those called so that are")
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02))
    if chosen:
        axes.legend(loc="lower left", title=_legend_title(precisions, len(labels)))
    return figure


@svg
def reliability_diagram(check: CalibrationCheck) -> Figure:
    """Draw how often the network is right against how sure it is, with and without its temperature."""
    figure = Figure(figsize=(6.0, 5.4))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=GRAY, linewidth=1, linestyle=":", label="as sure as right")
    kinds: list[tuple[Reliability, str, str, str]] = [(check.after, BLUE, "o", f"T = {check.temperature:.3g}")]
    if check.temperature != 1.0:
        kinds.insert(0, (check.before, VERMILION, "s", "plain"))
    for told, color, marker, name in kinds:
        confidence, accuracy = [each.confidence for each in told.bins], [each.accuracy for each in told.bins]
        upper.plot(confidence, accuracy, color=color, marker=marker, markersize=4, linewidth=0.9,
                   label=f"{name}: calibration error {told.ece:.4f}")  # fmt: skip
        lower.bar([each.low for each in told.bins], [each.count for each in told.bins],
                  width=[each.high - each.low for each in told.bins], align="edge", fill=False, edgecolor=color,
                  linewidth=1.5)  # fmt: skip
    for each in check.after.bins:
        ends = wilson(round(each.accuracy * each.count), each.count)
        upper.vlines(each.confidence, ends.low, ends.high, color=BLUE, linewidth=1, alpha=0.5)
    upper.set(title="How sure, and how often right (test rows)", ylabel="share that is right", ylim=(0, 1.02))
    upper.legend(loc="lower right")
    lower.set(xlabel="probability of the label given", ylabel="rows", yscale="log", xlim=(0, 1.01))
    lower.set_ylim(bottom=0.7)
    lower.yaxis.set_major_formatter(PLAIN)
    return figure


@svg
def residuals(values_N: Array, targets_N: Array, *, name: str, unit: str | None = None) -> Figure:
    """Draw predicted values against true ones, and the errors of each."""
    figure = Figure(figsize=(9.0, 4.2))
    left, right = figure.subplots(1, 2)
    shown = slice(None, None, -(-len(values_N) // MOST_POINTS))
    is_crowded = len(values_N[shown]) > 500  # so many points are drawn as one picture
    ends = [min(values_N.min(), targets_N.min()), max(values_N.max(), targets_N.max())]
    left.plot(ends, ends, color=GRAY, linewidth=1, linestyle=":", label="all right")
    left.scatter(targets_N[shown], values_N[shown], s=14, alpha=0.6, color=BLUE, linewidth=0, rasterized=is_crowded)
    told = f"{name} ({unit})" if unit else name
    left.set(title="Predicted against true", xlabel=f"true {told}", ylabel=f"predicted {told}")
    left.legend(loc="upper left")
    right.axhline(0, color=GRAY, linewidth=1, linestyle=":")
    errors_N = values_N - targets_N
    right.scatter(values_N[shown], errors_N[shown], s=14, alpha=0.6, color=VERMILION, linewidth=0,
                  rasterized=is_crowded)  # fmt: skip
    right.set(title="Errors", xlabel=f"predicted {told}", ylabel="predicted less true")
    return figure


@svg
def error_histogram(
    errors_N: Array, threshold: float, *, other_errors_M: Array | None = None, other_name: str = "of another kind"
) -> Figure:
    """Draw how many pictures are rebuilt how badly, and from where on one is called an anomaly.

    Args:
        errors_N: Mean squared error of each test picture.
        threshold: Above it lies an anomaly.
        other_errors_M: Of pictures that are anomalies, where there are any.
        other_name: What those are.
    """
    figure, axes = one_panel("Reconstruction error of each test picture", width=6.6, height=4.0)
    everything = errors_N if other_errors_M is None else np.concatenate([errors_N, other_errors_M])
    # errors of pictures differ by factors, not by amounts
    low, high = np.log10(max(everything.min(), 1e-6)), np.log10(max(everything.max(), threshold, 2e-6))
    edges = np.logspace(low - 0.02, high + 0.02, 50)
    kinds = [(errors_N, BLUE, "test pictures")]
    if other_errors_M is not None:
        kinds.append((other_errors_M, VERMILION, other_name))
    for errors, color, name in kinds:
        counts, _ = np.histogram(np.maximum(errors, 1e-6), edges)
        above = float((errors > threshold).mean())
        axes.stairs(counts / len(errors), edges, fill=True, alpha=0.45, color=color,
                    label=f"{name}: {above:.1%} above")  # fmt: skip
    axes.axvline(threshold, color=INK, linewidth=1.2, linestyle="--", label=f"threshold {threshold:.4f}")
    axes.set(xlabel="mean squared error, pixels from 0 to 1", ylabel="share of the pictures", xscale="log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(PLAIN)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.legend()
    return figure


def _emphasized(scores: Sequence[float | None], num_classes: int, *, both: bool = False) -> list[tuple[int, str]]:
    """Return which classes are drawn, and in which color: the worst few last, in colors, the others in gray.

    Of two classes the ROC curve of one is that of the other, turned around: only the second is drawn, unless ``both``.
    """
    if num_classes == 2 and not both:
        return [(1, BLUE)] if scores[1] is not None else []
    told = sorted((score, index) for index, score in enumerate(scores) if score is not None)
    colors = {index: color for (_, index), color in zip(told, HIGHLIGHTS, strict=False)}
    return [(index, colors.get(index, GRAY)) for _, index in reversed(told)]


def _legend_title(scores: Sequence[float | None], num_classes: int) -> str | None:
    left_over = sum(score is not None for score in scores) - len(HIGHLIGHTS)
    return f"the worst {len(HIGHLIGHTS)}; {left_over} others gray" if num_classes > 2 and left_over > 0 else None


def _first_with_nearly_all(found: list[Array]) -> float:
    """Return the first limit at which every curve has nearly all found, from what each has found at all limits."""
    if not found:
        return ROC_LIMITS[-1]
    has_found = (np.min(found, axis=0) >= NEARLY_ALL).tolist()
    return ROC_LIMITS[has_found.index(True)] if any(has_found) else ROC_LIMITS[-1]


def _whose(labels: Sequence[str]) -> str:
    return shortened(labels[1]) if len(labels) == 2 else "each class"


def _line(axes: Axes, x: Array, y: Array, color: str, label: str) -> None:
    # a curve has as many steps as rows, far more than can be seen
    travelled = np.cumsum(np.abs(np.diff(x, prepend=x[0])) + np.abs(np.diff(y, prepend=y[0])))
    is_gray = color == GRAY
    num_points = CURVE_POINTS // 2 if is_gray else CURVE_POINTS
    kept = np.unique(np.searchsorted(travelled, np.linspace(0, travelled[-1], num_points)))
    axes.plot(x[kept], y[kept], color=color, linewidth=0.9 if is_gray else 1.8, label=None if is_gray else label)
