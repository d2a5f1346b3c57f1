"""Pictures as the model takes them: an encoded file to float32 grey values.

Scaling to the network's own range is part of the exported graph; here pixels keep their 0 to 255.
"""

import io
import re
import struct
from typing import Annotated, Literal, Self

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.errors import Limit
from app.tensors import Array

FORMATS = ("PNG", "JPEG")
FLOAT32_MAX = float(np.finfo(np.float32).max)

# side of a picture: Pillow keeps 8 bytes for each row besides its pixels; no JPEG can be larger
MAX_SIDE = 2**16 - 1
# conversions hold a few copies of what they convert, so they are given this many pixels at a time
_STRIP_PIXELS = 2**18

# Pillow reads each part of a file in Python, 4 us for as few as 4 bytes
_MAX_PNG_CHUNKS = 1000
_BYTES_PER_PNG_CHUNK = 1024  # encoders write 4 KiB and more, so a large file may have more chunks
_MAX_PNG_TEXT_BYTES = 2**23  # Pillow takes 64 MiB, and holds up to four times as much
_MAX_INFLATED_TEXT_BYTES = 2**20  # of one text, in Pillow
_MAX_DEFLATE_RATIO = 1032  # https://zlib.net/zlib_tech.html
_MAX_JPEG_SEGMENTS = 500
# encoders write about ten; each makes the decoder walk over every block, 11 ms for 16 million pixels
_MAX_JPEG_SCANS = 64
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # those that end a scan

_FILTERS = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


class ImageConversion(BaseModel):
    """How a picture of another size or mode becomes what the model takes.

    Attributes:
        color: ``luma`` weighs red, green and blue by ITU-R 601-2; ``reject`` refuses color pictures.
        resize: The filter; ``reject`` refuses other sizes.
        fit: ``stretch`` ignores the aspect ratio, ``pad`` keeps it and fills with the background.
        background: What is put behind transparent pixels and around padded pictures, 0-255.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    color: Literal["luma", "reject"] = "luma"
    resize: Literal["box", "bilinear", "bicubic", "lanczos", "reject"] = "box"
    fit: Literal["stretch", "pad"] = "pad"
    background: Annotated[int, Field(ge=0, le=255)] = 0


class ImageInput(BaseModel):
    """One picture as the model takes it: grey values from ``low`` to ``high``, rows from the top.

    Attributes:
        height: In pixels.
        width: In pixels.
        mode: Pillow's name of the pixel format; ``L`` is 8-bit grey.
        low: The number that black is.
        high: The number that white is.
        conversion: What is done to pictures of another size or mode.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    height: Annotated[int, Field(gt=0, le=4096)]
    width: Annotated[int, Field(gt=0, le=4096)]
    mode: Literal["L"] = "L"
    low: Annotated[float, Field(ge=-FLOAT32_MAX, le=FLOAT32_MAX)] = 0.0
    high: Annotated[float, Field(ge=-FLOAT32_MAX, le=FLOAT32_MAX)] = 255.0
    conversion: ImageConversion = ImageConversion()

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self


class ImageRefused(ValueError):
    """The bytes are no picture that the model can take. ``code`` is stable, for programs; ``limit`` was met, if any."""

    def __init__(self, code: str, message: str, limit: Limit | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.limit = limit


def num_pixels(data: bytes) -> int:
    """Return width times height of a picture that :func:`decode_image` has taken, from its header."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return image.width * image.height


def decode_image(data: bytes, spec: ImageInput, *, max_pixels: int) -> Array:
    """Decode a PNG or JPEG file and convert it as ``spec.conversion`` says.

    The header is read first, and a picture of too many pixels is refused before one of them is decoded. Decoding takes
    up to 8 bytes of memory for each pixel (progressive CMYK; else 6), and 32 MiB for texts, whatever ``data`` says.

    Args:
        data: The file.
        spec: What the model takes.
        max_pixels: Most pixels, width times height, that are decoded.

    Returns:
        Grey values, float32, shape ``(spec.height, spec.width)``.

    Raises:
        ImageRefused: It is no PNG or JPEG, is damaged, too large, or of a kind that ``spec.conversion`` rejects.
    """
    try:
        _check_parts(data)
        grey = _fit(_upright_grey(data, spec, max_pixels), spec)
    except ImageRefused:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        told = f"the picture has more than the {max_pixels} pixels taken"
        raise ImageRefused("too_many_pixels", told, Limit("max_image_pixels", max_pixels)) from exc
    except UnidentifiedImageError as exc:
        raise ImageRefused("not_an_image", f"the bytes are no {' or '.join(FORMATS)} picture") from exc
    except Exception as exc:  # decoders answer a damaged file with many types: OSError, SyntaxError, zlib.error, ...
        raise ImageRefused("damaged_image", f"the picture is damaged: {exc}") from exc
    pixels_HW = np.asarray(grey, np.float32)
    if (spec.low, spec.high) != (0.0, 255.0):
        pixels_HW = np.float32(spec.low) + pixels_HW * np.float32((spec.high - spec.low) / 255.0)
    return pixels_HW


def _check_parts(data: bytes) -> None:
    """Refuse a file of so many parts that it would cost seconds, or of so much text that it would fill the memory."""
    try:
        crowded = data.startswith(b"\x89PNG\r\n\x1a\n") and _is_crowded_png(data)
        crowded = crowded or (data.startswith(b"\xff\xd8") and _is_crowded_jpeg(data))
    except (struct.error, IndexError):  # it ends within a part: the decoder says so, if it needs that part
        return
    if crowded:
        raise ImageRefused("too_many_chunks", "the picture has too many chunks, segments, scans or texts")


def _is_crowded_png(data: bytes) -> bool:
    most_chunks = max(_MAX_PNG_CHUNKS, len(data) // _BYTES_PER_PNG_CHUNK)
    position, num_text_bytes = 8, 0
    for _ in range(most_chunks):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"IEND":
            return False
        if kind in (b"zTXt", b"iTXt"):
            num_text_bytes += max(length, min(_MAX_DEFLATE_RATIO * length, _MAX_INFLATED_TEXT_BYTES))
            if num_text_bytes > _MAX_PNG_TEXT_BYTES:
                return True
        position += 12 + length
    return True


def _is_crowded_jpeg(data: bytes) -> bool:
    position, num_scans = 2, 0
    for _ in range(_MAX_JPEG_SEGMENTS):
        if num_scans:  # pixels stand here
            found = _JPEG_MARKER.search(data, position)
            if found is None or found[0] == b"\xff\xd9":
                return False
            position = found.start()
        start, marker = data[position], data[position + 1]
        if start != 0xFF or marker in (0x00, 0xFF):
            position += 1  # padding or junk, of which Pillow, too, reads one byte at a time
            continue
        num_scans += marker == 0xDA
        if num_scans > _MAX_JPEG_SCANS:
            return True
        has_length = not (marker in (0x01, 0xC8) or 0xD0 <= marker <= 0xD9 or marker >= 0xF0)
        position += 2 + (int(struct.unpack_from(">H", data, position + 2)[0]) if has_length else 0)
    return True


def _check_header(image: Image.Image, spec: ImageInput, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise ImageRefused(
            "too_many_pixels",
            f"the picture has {image.width}x{image.height} pixels, at most {max_pixels} are taken",
            Limit("max_image_pixels", max_pixels),
        )
    if max(image.size) > MAX_SIDE:
        raise ImageRefused(
            "too_many_pixels",
            f"a side of the picture has {max(image.size)} pixels, at most {MAX_SIDE} are taken",
            Limit("max_image_side", MAX_SIDE),
        )
    if spec.conversion.color == "reject" and image.mode not in ("1", "L", "LA", "I;16"):
        raise ImageRefused("color_image", f"the picture is in color ({image.mode}), the model takes grey pictures")
    if spec.conversion.resize == "reject" and sorted(image.size) != sorted((spec.width, spec.height)):
        raise _wrong_size(image, spec)  # however it is turned


def _upright_grey(data: bytes, spec: ImageInput, max_pixels: int) -> Image.Image:
    """Decode a file to 8-bit grey, turned as its EXIF says."""
    grey = _decoded_grey(data, spec, max_pixels)
    ImageOps.exif_transpose(grey, in_place=True)  # by now the decoded picture is gone: a turn takes a copy
    return grey


def _decoded_grey(data: bytes, spec: ImageInput, max_pixels: int) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        _check_header(image, spec, max_pixels)
        if spec.conversion.resize != "reject":
            # JPEG decodes at a fraction of its size for nearly nothing: a photograph never takes its full memory
            image.draft(None, (2 * spec.width, 2 * spec.height))
        image.load()
        grey = Image.new("L", image.size)
        grey.info = image.info  # holds the EXIF, which a PNG may have behind its pixels
        strip_height = max(1, _STRIP_PIXELS // image.width)
        for top in range(0, image.height, strip_height):
            strip = image.crop((0, top, image.width, min(top + strip_height, image.height)))
            grey.paste(_strip_to_grey(strip, spec.conversion.background), (0, top))
        return grey


def _strip_to_grey(strip: Image.Image, background: int) -> Image.Image:
    if strip.mode == "I;16":
        values_HW = np.asarray(strip).astype(np.uint32)
        grey_HW = (values_HW + 128) // 257  # Pillow's own conversion would clip at 255
        if "transparency" in strip.info:
            grey_HW[values_HW == strip.info["transparency"]] = background
        return Image.fromarray(grey_HW.astype(np.uint8))
    if strip.has_transparency_data:
        canvas = Image.new("RGBA", strip.size, (background,) * 3 + (255,))
        strip = Image.alpha_composite(canvas, strip.convert("RGBA"))
    return strip.convert("L")


def _fit(grey: Image.Image, spec: ImageInput) -> Image.Image:
    conversion = spec.conversion
    size = (spec.width, spec.height)
    if grey.size == size:
        return grey
    if conversion.resize == "reject":
        raise _wrong_size(grey, spec)
    method = _FILTERS[conversion.resize]
    if conversion.fit == "stretch":
        return grey.resize(size, method)
    scale = min(spec.width / grey.width, spec.height / grey.height)
    # one pixel at least: ImageOps.pad would let a thin picture vanish
    fitted = grey.resize((max(1, round(grey.width * scale)), max(1, round(grey.height * scale))), method)
    canvas = Image.new("L", size, conversion.background)
    canvas.paste(fitted, (round((spec.width - fitted.width) / 2), round((spec.height - fitted.height) / 2)))
    return canvas


def _wrong_size(image: Image.Image, spec: ImageInput) -> ImageRefused:
    return ImageRefused(
        "wrong_size",
        f"the picture is {image.width}x{image.height} (width x height), the model takes {spec.width}x{spec.height}",
    )
