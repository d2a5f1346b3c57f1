"""Plots for a bundle's report, as PNG bytes: small, and the same for the same numbers.

Shape suffixes: B rows of the batch, H height, W width, T steps or tokens, K channels.
"""

import io
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from app.tensors import Array

DPI = 110
FOR, AGAINST = "#c0392b", "#2471a3"
# Any: matplotlib types the keys as literals, the values of which are no one type
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
}
# colors of a palette: enough for a plot, and a third of the bytes
NUM_COLORS = 256
SIGNED, UNSIGNED = "RdBu_r", "inferno"


def overlay_grid(
    images_BHW: Array, maps: Mapping[str, Array], titles: Sequence[str], *, plain: Collection[str] = ()
) -> bytes:
    """Draw pictures, and below each its attributions, column by column.

    Args:
        images_BHW: Grey values, any real dtype.
        maps: By the name of the method: shape (B, H, W). A map with negative numbers is drawn in red (for) and blue
            (against), others from black to yellow; each picture on its own scale.
        titles: Above each picture.
        plain: Names of maps that are pictures themselves, and drawn as such.
    """
    num = len(images_BHW)
    with rc_context(STYLE):
        figure = Figure(figsize=(0.98 * num + 1.0, 1.02 * (len(maps) + 1) + 0.35), layout="constrained")
        axes = figure.subplots(len(maps) + 1, num, squeeze=False)
        for column, (image_HW, title) in enumerate(zip(images_BHW, titles, strict=True)):
            axes[0, column].imshow(image_HW, cmap="gray")
            axes[0, column].set_title(title, fontsize=7)
            for row, (name, map_BHW) in enumerate(maps.items(), start=1):
                if name in plain:
                    axes[row, column].imshow(map_BHW[column], cmap="gray")
                    continue
                _draw_map(axes[row, column], image_HW, map_BHW[column], signed=bool(map_BHW.min() < 0))
        for row, name in enumerate(["picture", *maps]):
            axes[row, 0].set_ylabel(name.replace(" ", "\n"), fontsize=7)
        for ax in axes.flat:
            _without_ticks(ax)
        return _png(figure)


def bars(names: Sequence[str], values: Sequence[float], *, label: str, errors: Sequence[float] | None = None) -> bytes:
    """Draw one bar a name, from the top: red where positive, blue where negative.

    Args:
        names: In the order of the bars.
        values: Their lengths.
        label: Of the axis, with its unit.
        errors: Half the length of each bar's error line.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(5.6, 0.19 * len(names) + 0.8), layout="constrained")
        _draw_bars(figure.subplots(), names, values, errors)
        figure.axes[0].set_xlabel(label)
        return _png(figure)


def bars_per_class(words: Mapping[str, Sequence[tuple[str, float]]], *, label: str) -> bytes:
    """Draw one bar chart for each class side by side.

    Args:
        words: By class: names and values, from the top.
        label: Of the axes, with its unit.
    """
    longest = max((len(rows) for rows in words.values()), default=0)
    with rc_context(STYLE):
        figure = Figure(figsize=(3.1 * len(words), 0.19 * longest + 1.0), layout="constrained")
        for ax, (title, rows) in zip(figure.subplots(1, len(words), squeeze=False)[0], words.items(), strict=True):
            _draw_bars(ax, [name for name, _ in rows], [value for _, value in rows], None)
            ax.set_title(title)
            ax.set_xlabel(label)
        return _png(figure)


def attention_maps(maps: Mapping[str, Array], tokens: Sequence[str]) -> bytes:
    """Draw what each token (down) takes from each token (across).

    Args:
        maps: By title: shape (T, T), rows sum to 1.
        tokens: T of them.
    """
    num, side = len(maps), 0.17 * len(tokens) + 0.9
    with rc_context(STYLE):
        figure = Figure(figsize=(side * num + 0.5, side + 0.3), layout="constrained")
        # one scale for all of them, so that they can be compared; what stays where it is would fill it
        others_TT = ~np.eye(len(tokens), dtype=bool)
        highest = max((float(map_TT[others_TT].max(initial=0)) for map_TT in maps.values()), default=0) or 1.0
        for column, (ax, (title, map_TT)) in enumerate(
            zip(figure.subplots(1, num, squeeze=False)[0], maps.items(), strict=True)
        ):
            image = ax.imshow(map_TT, cmap="viridis", vmin=0, vmax=highest)
            ax.set_title(title)
            ax.set_xticks(range(len(tokens)), tokens, rotation=90)
            ax.set_yticks(range(len(tokens)), tokens if column == 0 else [""] * len(tokens))
        figure.colorbar(image, ax=figure.axes, shrink=0.8, label="share")
        return _png(figure)


def time_by_channel(maps: Mapping[str, Array], channels: Sequence[str], *, label: str, axis: str) -> bytes:
    """Draw attributions of series: channels down, time across.

    Args:
        maps: By title: shape (T, K). Where any is negative, red is for and blue against; all share one scale.
        channels: K names.
        label: Of the color scale, with its unit.
        axis: Of the time, with its unit.
    """
    highest = max(float(abs(map_TK).max()) for map_TK in maps.values()) or 1.0
    signed = any(bool(map_TK.min() < 0) for map_TK in maps.values())
    num_columns = min(3, len(maps))
    num_rows = -(-len(maps) // num_columns)
    with rc_context(STYLE):
        figure = Figure(
            figsize=(2.3 * num_columns + 0.9, (0.13 * len(channels) + 0.75) * num_rows), layout="constrained"
        )
        axes = figure.subplots(num_rows, num_columns, squeeze=False)
        for ax, (title, map_TK) in zip(axes.flat, maps.items(), strict=False):
            image = ax.imshow(
                map_TK.T,
                aspect="auto",
                interpolation="nearest",
                cmap=SIGNED if signed else UNSIGNED,
                vmin=-highest if signed else 0,
                vmax=highest,
            )
            ax.set_title(title)
            ax.set_yticks(range(len(channels)), channels)
            ax.set_xlabel(axis)
        for ax in axes.flat[len(maps) :]:
            ax.set_visible(False)
        figure.colorbar(image, ax=figure.axes, label=label, shrink=0.9)
        return _png(figure)


def strips(pictures_DVHW: Array, names: Sequence[str], *, label: str) -> bytes:
    """Draw rows of pictures without a gap, each with its name.

    Args:
        pictures_DVHW: Grey values from 0 to 255, shape (D, V, H, W).
        names: D of them.
        label: Below all.
    """
    num_rows, num_columns, height, width = pictures_DVHW.shape
    with rc_context(STYLE):
        figure = Figure(figsize=(0.51 * num_columns + 0.6, 0.51 * num_rows + 0.35), layout="constrained")
        ax = figure.subplots()
        joined_HW = pictures_DVHW.transpose(0, 2, 1, 3).reshape(num_rows * height, num_columns * width)
        ax.imshow(joined_HW, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        _without_ticks(ax)
        ax.set_yticks((np.arange(num_rows) + 0.5) * height, names)
        ax.tick_params(length=0)
        ax.set_xlabel(label)
        return _png(figure)


def curves(lines: Mapping[str, Array], *, x_label: str, y_label: str) -> bytes:
    """Draw lines over the same axis from 0 to 1.

    Args:
        lines: By name: shape (S,), all of one length.
        x_label: With its unit.
        y_label: With its unit.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(4.6, 2.9), layout="constrained")
        ax = figure.subplots()
        for name, line_S in lines.items():
            ax.plot(np.linspace(0, 1, len(line_S)), line_S, label=name, linewidth=1.4)
        ax.set(xlabel=x_label, ylabel=y_label, xlim=(0, 1), ylim=(0, 1))
        ax.legend(frameon=False, fontsize=7)
        return _png(figure)


def _draw_map(ax: Axes, image_HW: Array, map_HW: Array, *, signed: bool) -> None:
    # single pixels that stand far out would leave all others in the dark
    highest = float(np.quantile(abs(map_HW), 0.995)) or 1.0
    if signed:
        ax.imshow(image_HW, cmap="gray_r", alpha=0.35)
        ax.imshow(map_HW, cmap=SIGNED, vmin=-highest, vmax=highest, alpha=0.75)
    else:
        ax.imshow(image_HW, cmap="gray")
        ax.imshow(map_HW, cmap=UNSIGNED, vmin=0, vmax=highest, alpha=0.7)


def _draw_bars(ax: Axes, names: Sequence[str], values: Sequence[float], errors: Sequence[float] | None) -> None:
    places = range(len(names))
    colors = [FOR if value >= 0 else AGAINST for value in values]
    ax.barh(places, values, xerr=errors, color=colors, height=0.72, error_kw={"elinewidth": 0.8, "ecolor": "#555555"})
    ax.set_yticks(places, names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.axvline(0, color="black", linewidth=0.6)


def _without_ticks(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def _png(figure: Figure) -> bytes:
    drawn, packed = io.BytesIO(), io.BytesIO()
    # the name and version of the library would make other bytes of the same picture
    figure.savefig(drawn, format="png", dpi=DPI, metadata={"Software": None})
    with Image.open(drawn) as image:
        colors = image.convert("RGB").quantize(NUM_COLORS, dither=Image.Dither.NONE)
        colors.save(packed, format="png", optimize=True)
    return packed.getvalue()
