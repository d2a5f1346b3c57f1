import io

import numpy as np
import pytest
from PIL import Image

from training.explain import pictures as plots

RNG = np.random.default_rng(2)
IMAGES = RNG.integers(0, 256, (2, 8, 8))
DRAWN = {
    "overlay_grid": lambda sign: plots.overlay_grid(IMAGES, {"a method": sign * RNG_MAP}, ["one", "two"]),
    "bars": lambda sign: plots.bars(["a", "b"], [1.0, 2.0 * sign], label="nats", errors=[0.1, 0.2]),
    "bars_per_class": lambda sign: plots.bars_per_class({"x": [("a", 1.0 * sign)], "y": [("b", 2.0)]}, label="nats"),
    "attention_maps": lambda sign: plots.attention_maps(
        {"m": np.array([[0.5, 0.5], [0.5 - sign / 4, 0.5]])}, ["a", "b"]
    ),
    "time_by_channel": lambda sign: plots.time_by_channel({"m": sign * RNG_MAP[0]}, [*"abcdefgh"], label="", axis="t"),
    "strips": lambda sign: plots.strips(IMAGES[None] if sign > 0 else 255 - IMAGES[None], ["code 1"], label="value"),
    "curves": lambda sign: plots.curves({"m": np.linspace(1, 0.5 - sign / 2, 5)}, x_label="share", y_label="p"),
}
RNG_MAP = RNG.random((2, 8, 8))


def decoded(content):
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG"
        assert "Software" not in image.info
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_the_same_numbers_give_the_same_bytes_and_others_another_picture(draw):
    assert draw(1) == draw(1)
    one, other = decoded(draw(1)), decoded(draw(-1))
    assert one.shape != other.shape or (one != other).any()


def test_what_speaks_for_is_red_and_what_speaks_against_is_blue():
    pixels = decoded(plots.bars(["a", "b"], [1.0, -1.0], label="nats")).astype(int)
    height = len(pixels)
    red = (pixels[..., 0] > 150) & (pixels[..., 2] < 80)
    blue = (pixels[..., 2] > 120) & (pixels[..., 0] < 80)
    assert red.sum() > 1000
    assert blue.sum() > 1000
    # from the top, in the order of the names
    assert np.argwhere(red)[:, 0].mean() < np.argwhere(blue)[:, 0].mean() < height


def test_a_map_without_anything_is_drawn_all_the_same():
    decoded(plots.overlay_grid(IMAGES, {"empty": np.zeros((2, 8, 8))}, ["one", "two"]))
    decoded(plots.time_by_channel({"empty": np.zeros((4, 2))}, ["a", "b"], label="", axis="t"))
