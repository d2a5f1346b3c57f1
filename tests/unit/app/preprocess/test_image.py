import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from app.preprocess.image import ImageConversion, ImageInput, ImageRefused, decode_image
from app.tensors import Array

MAX_PIXELS = 1_000_000
NOISE_HW = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)


def spec(height: int = 28, width: int = 28, *, low: float = 0.0, high: float = 255.0, **conversion: Any) -> ImageInput:
    return ImageInput(height=height, width=width, low=low, high=high, conversion=ImageConversion(**conversion))


def encode(image: Image.Image, fmt: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def decode(image: Image.Image | bytes, wanted: ImageInput) -> Array:
    return decode_image(image if isinstance(image, bytes) else encode(image), wanted, max_pixels=MAX_PIXELS)


def refusal(data: Image.Image | bytes, wanted: ImageInput) -> str:
    with pytest.raises(ImageRefused) as caught:
        decode(data, wanted)
    assert str(caught.value)
    return caught.value.code


def attempt(data: bytes, wanted: ImageInput) -> Array | str:
    """Return the pixels, or the code of the refusal; anything else fails the test."""
    try:
        return decode(data, wanted)
    except ImageRefused as exc:
        return exc.code


def filled(color: Any, mode: str = "RGB", size: tuple[int, int] = (2, 2)) -> Image.Image:
    return Image.new(mode, size, color)


def test_a_grey_picture_of_the_right_size_is_taken_as_it_is() -> None:
    pixels_HW = decode(Image.fromarray(NOISE_HW), spec())
    assert pixels_HW.dtype == np.float32
    assert pixels_HW.tolist() == NOISE_HW.tolist()


def test_height_and_width_are_not_confused() -> None:
    picture_HW = NOISE_HW[:3, :5]
    assert decode(Image.fromarray(picture_HW), spec(3, 5)).tolist() == picture_HW.tolist()


@pytest.mark.parametrize(
    ("color", "grey"),
    [((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29), ((255, 255, 255), 255), ((10, 20, 30), 18)],
)
def test_color_is_weighed_by_itu_r_601(color: tuple[int, int, int], grey: int) -> None:
    expected = (299 * color[0] + 587 * color[1] + 114 * color[2]) / 1000
    assert abs(grey - expected) <= 0.5
    assert decode(filled(color), spec(2, 2)).tolist() == [[grey] * 2] * 2


@pytest.mark.parametrize(
    ("image", "grey"),
    [
        (filled((100, 200), "LA"), 100 * 200 / 255 + 40 * 55 / 255),
        (filled((100, 100, 100, 200), "RGBA"), 100 * 200 / 255 + 40 * 55 / 255),
        (filled((255, 0, 0, 0), "RGBA"), 40),
        (filled((255, 0, 0, 255), "RGBA"), 76),
        (filled((7, 0), "LA"), 40),
    ],
)
def test_transparency_is_put_on_the_background(image: Image.Image, grey: float) -> None:
    pixels_HW = decode(image, spec(2, 2, background=40))
    assert np.abs(pixels_HW - grey).max() <= 1


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1"])
def test_a_color_declared_transparent_is_put_on_the_background(mode: str) -> None:
    colors: dict[str, tuple[Any, Any, Any]] = {
        "P": (1, 2, 1), "L": (90, 200, 90), "RGB": ((9, 9, 9), (200, 200, 200), (9, 9, 9)), "1": (0, 1, 0),
    }  # fmt: skip
    transparent, opaque, declared = colors[mode]
    image = Image.new(mode, (2, 1), opaque)
    if mode == "P":
        image.putpalette([0, 0, 0, 9, 9, 9, 200, 200, 200])
    image.putpixel((0, 0), transparent)
    data = encode(image, transparency=declared)
    white = 255 if mode == "1" else 200
    assert decode(data, spec(1, 2, background=40)).tolist() == [[40, white]]


def test_a_palette_is_looked_up() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((1, 0), 1)
    assert decode(image, spec(1, 2)).tolist() == [[0, 76]]


def test_one_bit_is_black_or_white() -> None:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    assert decode(image, spec(1, 2)).tolist() == [[0, 255]]


def test_sixteen_bits_are_scaled_to_eight_and_not_clipped() -> None:
    image = Image.fromarray(np.array([[0, 257, 32_768, 65_535]], np.uint16))
    assert image.mode == "I;16"
    assert decode(image, spec(1, 4)).tolist() == [[0, 1, 128, 255]]


def test_a_grey_of_sixteen_bits_declared_transparent_is_put_on_the_background() -> None:
    image = Image.fromarray(np.array([[25_700, 25_701]], np.uint16))
    assert decode(encode(image, transparency=25_700), spec(1, 2, background=40)).tolist() == [[40, 100]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
def test_a_picture_of_many_strips_is_that_of_one(mode: str) -> None:
    """A picture is turned grey some rows at a time: none is lost, repeated or moved."""
    noise_HWC = np.random.default_rng(1).integers(0, 256, (700, 1000, 4), np.uint8)
    image = Image.fromarray(noise_HWC).convert("RGB" if mode == "P" else "RGBA").convert(mode)
    whole = Image.new("RGBA", image.size, (40, 40, 40, 255))
    whole.alpha_composite(image.convert("RGBA"))
    assert decode(image, spec(700, 1000, background=40)).tolist() == np.asarray(whole.convert("L")).tolist()


def test_a_grey_jpeg_is_decoded() -> None:
    pixels_HW = decode(encode(filled(77, "L", (28, 28)), "JPEG"), spec())
    assert pixels_HW.shape == (28, 28)
    assert np.abs(pixels_HW - 77).max() <= 1


@pytest.mark.parametrize(("mode", "color"), [("RGB", (255, 0, 0)), ("CMYK", (0, 255, 255, 0))])
def test_a_color_jpeg_is_turned_grey(mode: str, color: tuple[int, ...]) -> None:
    assert np.abs(decode(encode(filled(color, mode, (28, 28)), "JPEG"), spec()) - 76).max() <= 2


def test_a_photograph_is_shrunk_to_the_mean_of_its_parts() -> None:
    photograph_HW = np.full((800, 800), 50, np.uint8)
    photograph_HW[:, 400:] = 200
    pixels_HW = decode(encode(Image.fromarray(photograph_HW), "JPEG", quality=95), spec(2, 2))
    assert np.abs(pixels_HW - [[50, 200], [50, 200]]).max() <= 2


@pytest.mark.parametrize("fmt", ["PNG", "JPEG"])
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, [[0, 80], [160, 240]]),
        (2, [[80, 0], [240, 160]]),
        (3, [[240, 160], [80, 0]]),
        (4, [[160, 240], [0, 80]]),
        (5, [[0, 160], [80, 240]]),
        (6, [[160, 0], [240, 80]]),
        (7, [[240, 80], [160, 0]]),
        (8, [[80, 240], [0, 160]]),
    ],
)
def test_a_picture_is_turned_upright_as_its_exif_says(fmt: str, orientation: int, upright: list[list[int]]) -> None:
    stored_HW = np.kron(np.array([[0, 80], [160, 240]], np.uint8), np.ones((8, 8), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(stored_HW), fmt, exif=exif)
    assert np.abs(decode(data, spec(2, 2)) - upright).max() <= 2


@pytest.mark.parametrize("fmt", ["PNG", "JPEG"])
@pytest.mark.parametrize(("stored_size", "code"), [((8, 16), None), ((16, 8), "wrong_size")])
def test_the_size_that_counts_is_that_of_the_upright_picture(
    fmt: str, stored_size: tuple[int, int], code: str | None
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    data = encode(filled(90, "L", stored_size), fmt, exif=exif)
    wanted = spec(height=8, width=16, resize="reject")
    if code is None:
        assert np.abs(decode(data, wanted) - 90).max() <= 1
    else:
        assert refusal(data, wanted) == code


def test_padding_keeps_the_aspect_ratio_and_stretching_does_not() -> None:
    wide = filled(200, "L", (8, 4))
    padded_HW = decode(wide, spec(4, 4, fit="pad", background=9))
    assert padded_HW.tolist() == [[9] * 4, [200] * 4, [200] * 4, [9] * 4]
    tall = filled(200, "L", (4, 8))
    assert decode(tall, spec(4, 4, fit="pad", background=9)).tolist() == [[9, 200, 200, 9]] * 4
    assert decode(wide, spec(4, 4, fit="stretch", background=9)).tolist() == [[200] * 4] * 4


@pytest.mark.parametrize("size", [(1, 10_000), (10_000, 1), (1, 57), (1, 2)])
def test_a_thin_picture_does_not_vanish(size: tuple[int, int]) -> None:
    pixels_HW = decode(filled(200, "L", size), spec(background=0))
    shown = (int(pixels_HW.any(axis=0).sum()), int(pixels_HW.any(axis=1).sum()))
    assert shown == tuple(max(1, round(28 * side / max(size))) for side in size)


def test_each_filter_is_the_one_that_it_is_named_after() -> None:
    """Pillow's own words for what it does: https://pillow.readthedocs.io, concepts, filters."""
    ramp_HW = np.linspace(0, 255, 64).reshape(8, 8).astype(np.uint8) ** 2
    results = {}
    for name in ("box", "bilinear", "bicubic", "lanczos"):
        results[name] = decode(Image.fromarray(ramp_HW), spec(3, 3, resize=name, fit="stretch")).tolist()
        method = getattr(Image.Resampling, name.upper())
        assert results[name] == np.asarray(Image.fromarray(ramp_HW).resize((3, 3), method)).tolist()
    assert len({str(result) for result in results.values()}) == 4


def test_the_box_filter_is_the_mean() -> None:
    picture_HW = NOISE_HW[:4, :4]
    means_HW = picture_HW.reshape(2, 2, 2, 2).mean(axis=(1, 3))
    assert np.abs(decode(Image.fromarray(picture_HW), spec(2, 2)) - means_HW).max() <= 1


@pytest.mark.parametrize("image", [filled((1, 2, 3)), filled((1, 2, 3, 4), "RGBA"), filled(1, "P")])
def test_color_is_refused_where_the_model_says_so(image: Image.Image) -> None:
    assert refusal(image, spec(2, 2, color="reject")) == "color_image"
    assert decode(image, spec(2, 2)).shape == (2, 2)


@pytest.mark.parametrize("image", [filled(1, "1"), filled(1, "L"), filled((1, 1), "LA"), filled(1, "I;16")])
def test_grey_is_taken_where_color_is_refused(image: Image.Image) -> None:
    assert decode(image, spec(2, 2, color="reject")).shape == (2, 2)


@pytest.mark.parametrize("size", [(2, 3), (3, 2), (200, 300), (1, 1)])
@pytest.mark.parametrize("fmt", ["PNG", "JPEG"])
def test_another_size_is_refused_where_the_model_says_so(size: tuple[int, int], fmt: str) -> None:
    with pytest.raises(ImageRefused, match=f"is {size[0]}x{size[1]} .width x height., the model takes 2x2") as caught:
        decode(encode(filled(1, "L", size), fmt), spec(2, 2, resize="reject"))
    assert caught.value.code == "wrong_size"


def test_grey_values_are_scaled_to_the_range_of_the_model() -> None:
    image = Image.fromarray(np.array([[0, 51, 255]], np.uint8))
    pixels_HW = decode(image, spec(1, 3, low=-1.0, high=1.0))
    assert pixels_HW.dtype == np.float32
    assert np.allclose(pixels_HW, [[-1.0, -0.6, 1.0]], atol=1e-6)
    assert decode(image, spec(1, 3, low=0.0, high=1.0)).tolist() == [[0.0, pytest.approx(0.2), 1.0]]


@pytest.mark.parametrize("fmt", ["PNG", "JPEG"])
def test_a_picture_without_all_its_pixels_is_refused_wherever_it_was_cut(fmt: str) -> None:
    data = encode(Image.fromarray(NOISE_HW[:9, :9]), fmt)
    whole_HW = decode(data, spec(9, 9))
    accepted = []
    for length in range(len(data)):
        result = attempt(data[:length], spec(9, 9))
        if isinstance(result, str):
            assert result in ("not_an_image", "damaged_image")
        else:
            accepted.append(length)
            assert result.tolist() == whole_HW.tolist()
    # only what stands behind the last pixel may be missing: check sums, and the end mark
    assert all(length >= len(data) - 20 for length in accepted)


@pytest.mark.parametrize("fmt", ["PNG", "JPEG"])
@given(data=st.data())
def test_flipped_bytes_are_refused_or_harmless(fmt: str, data: st.DataObject) -> None:
    picture = bytearray(encode(Image.fromarray(NOISE_HW[:9, :9]), fmt))
    for position in data.draw(st.lists(st.integers(0, len(picture) - 1), min_size=1, max_size=4)):
        picture[position] = data.draw(st.integers(0, 255))
    result = attempt(bytes(picture), spec(9, 9))
    if isinstance(result, str):
        assert result in ("not_an_image", "damaged_image", "too_many_pixels")
    else:
        assert (result.shape, result.dtype) == ((9, 9), np.float32)


@given(st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe1"]), st.binary(max_size=200))
def test_random_bytes_are_refused(start: bytes, rest: bytes) -> None:
    assert refusal(start + rest, spec()) in ("not_an_image", "damaged_image", "too_many_pixels")


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00", b"this is a text that calls itself x.png\n", b"%PDF-1.7", b"<svg/>", b"\x89PNG", b"GIF89a"],
)
def test_what_is_no_picture_is_told(data: bytes) -> None:
    assert refusal(data, spec()) == "not_an_image"


@pytest.mark.parametrize("fmt", ["GIF", "WEBP", "BMP", "TIFF", "ICO", "PPM"])
def test_other_formats_are_refused(fmt: str) -> None:
    with pytest.raises(ImageRefused, match="no PNG or JPEG") as caught:
        decode(encode(filled((1, 2, 3), size=(28, 28)), fmt), spec())
    assert caught.value.code == "not_an_image"


@pytest.mark.parametrize(
    "values",
    [
        {"height": 0, "width": 1},
        {"height": 1, "width": 4097},
        {"height": 1, "width": 1, "low": 255.0},
        {"height": 1, "width": 1, "low": 256.0},
        {"height": 1, "width": 1, "high": float("nan")},
        {"height": 1, "width": 1, "high": float("inf")},
        {"height": 1, "width": 1, "mode": "RGB"},
        {"height": 1, "width": 1, "hight": 2},
        {"height": 1, "width": 1, "conversion": {"resize": "nearest"}},
        {"height": 1, "width": 1, "conversion": {"background": 256}},
        {"height": 1, "width": 1, "conversion": {"fit": "crop"}},
    ],
)
def test_an_impossible_contract_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ImageInput.model_validate(values)
