"""Pictures as the model takes them: an encoded file to float32 grey values.

Scaling to the network's own range is part of the exported graph; here pixels keep their 0 to 255.
"""

import io
from typing import Annotated, Literal, Self

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.tensors import Array

FORMATS = ("PNG", "JPEG")
FLOAT32_MAX = float(np.finfo(np.float32).max)

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
    """The bytes are no picture that the model can take. ``code`` is stable, for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def decode_image(data: bytes, spec: ImageInput, *, max_pixels: int) -> Array:
    """Decode a PNG or JPEG file and convert it as ``spec.conversion`` says.

    The header is read first, and a picture of too many pixels is refused before one of them is decoded.

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
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_header(image, spec, max_pixels)
            grey = _to_grey(image, spec)
    except ImageRefused:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise ImageRefused("too_many_pixels", f"the picture has more than the {max_pixels} pixels taken") from exc
    except UnidentifiedImageError as exc:
        raise ImageRefused("not_an_image", f"the bytes are no {' or '.join(FORMATS)} picture") from exc
    except Exception as exc:  # decoders answer a damaged file with many types: OSError, SyntaxError, zlib.error, ...
        raise ImageRefused("damaged_image", f"the picture is damaged: {exc}") from exc
    pixels_HW = np.asarray(grey, np.float32)
    if (spec.low, spec.high) != (0.0, 255.0):
        pixels_HW = np.float32(spec.low) + pixels_HW * np.float32((spec.high - spec.low) / 255.0)
    return pixels_HW


def _check_header(image: Image.Image, spec: ImageInput, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise ImageRefused(
            "too_many_pixels", f"the picture has {image.width}x{image.height} pixels, at most {max_pixels} are taken"
        )
    if spec.conversion.color == "reject" and image.mode not in ("1", "L", "LA", "I;16"):
        raise ImageRefused("color_image", f"the picture is in color ({image.mode}), the model takes grey pictures")


def _to_grey(image: Image.Image, spec: ImageInput) -> Image.Image:
    conversion = spec.conversion
    size = (spec.width, spec.height)
    if conversion.resize != "reject":
        # JPEG decodes at a fraction of its size for nearly nothing: a photograph never takes its full memory
        image.draft(None, (2 * spec.width, 2 * spec.height))
    image = ImageOps.exif_transpose(image)
    if conversion.resize == "reject" and image.size != size:
        raise ImageRefused(
            "wrong_size",
            f"the picture is {image.width}x{image.height} (width x height), the model takes {spec.width}x{spec.height}",
        )
    if image.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion would clip at 255
        image = Image.fromarray((np.asarray(image, np.float64) / 257).round().astype(np.uint8))
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, (conversion.background,) * 3 + (255,))
        image = Image.alpha_composite(canvas, image.convert("RGBA"))
    grey = image.convert("L")
    if grey.size == size:
        return grey
    method = _FILTERS[conversion.resize]
    if conversion.fit == "stretch":
        return grey.resize(size, method)
    scale = min(spec.width / grey.width, spec.height / grey.height)
    # one pixel at least: ImageOps.pad would let a thin picture vanish
    fitted = grey.resize((max(1, round(grey.width * scale)), max(1, round(grey.height * scale))), method)
    canvas = Image.new("L", size, conversion.background)
    canvas.paste(fitted, (round((spec.width - fitted.width) / 2), round((spec.height - fitted.height) / 2)))
    return canvas
