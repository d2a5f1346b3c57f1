"""Pictures in: as files, arrays, pictures of Pillow or rows of numbers."""

import base64
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from zero_to_one_client import documents, extras
from zero_to_one_client.cards import ModelCard
from zero_to_one_client.documents import Document
from zero_to_one_client.errors import InvalidRequest
from zero_to_one_client.tasks.labels import LabelRequest
from zero_to_one_client.tasks.request import Instances, Request, one_of_many

_DATA_URL = "data:"


@dataclass(frozen=True, kw_only=True)
class ImageClassification(LabelRequest):
    """Asks for the labels of pictures.

    Attributes:
        images: Each one of: the bytes of a PNG or JPEG file, the path of one, a picture of Pillow, an array or rows of
            numbers in the size and range that the model takes, or a text of base64 or a ``data:`` URL. Or an array of
            all of them, (B, H, W) or (B, H, W, 3). Files and pictures of other sizes and colors are converted by the
            service as its card says; arrays are not.
    """

    kind: ClassVar[str] = "image_classification"
    field_name: ClassVar[str] = "images"

    images: Instances

    def to_json(self, instance: Any, card: ModelCard) -> Mapping[str, Any]:
        """Return a picture as JSON has it."""
        return {"image": to_json(instance)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconstruction:
    """A picture, drawn again by the model; what was not asked for is None.

    Attributes:
        error: Mean squared difference from the picture, on a scale from 0 to 1.
        anomaly: Whether the error is above the model's threshold.
        code: The numbers that the picture was narrowed to.
        reconstruction: Rows of grey values, in the range of the picture.
    """

    error: float | None
    anomaly: bool | None
    code: Sequence[float] | None
    reconstruction: Sequence[Sequence[float]] | None


@dataclass(frozen=True, kw_only=True)
class ImageReconstruction(Request[Reconstruction]):
    """Asks what is left of pictures after a narrow code.

    Attributes:
        images: As :class:`ImageClassification` takes them.
        outputs: The members to tell, of ``error``, ``anomaly``, ``code``, ``reconstruction``; empty for all.
    """

    kind: ClassVar[str] = "image_reconstruction"
    field_name: ClassVar[str] = "images"

    images: Instances
    outputs: tuple[str, ...] = ()

    def query(self) -> dict[str, str]:
        """Return the parameters of the request's query."""
        return super().query() | one_of_many(self.outputs)

    def to_json(self, instance: Any, card: ModelCard) -> Mapping[str, Any]:
        """Return a picture as JSON has it."""
        return {"image": to_json(instance)}

    def read(self, prediction: Document) -> Reconstruction:
        """Return a prediction that came as JSON."""
        return Reconstruction(
            error=documents.number_or_none(prediction, "error"),
            anomaly=documents.truth(prediction, "anomaly") if "anomaly" in prediction else None,
            code=documents.items(prediction, "code") if "code" in prediction else None,
            reconstruction=documents.items(prediction, "reconstruction") if "reconstruction" in prediction else None,
        )


def to_json(picture: Any) -> Any:
    """Return a picture as JSON has it: base64 of a file, or rows of numbers.

    Raises:
        InvalidRequest: It is a text that looks like the name of a file, or a picture that PNG cannot hold.
        OSError: The file cannot be read.
    """
    if isinstance(picture, str):
        # no base64 has a dot, and most names of files have; a text is never opened, for it may be a stranger's
        if "." in picture and not picture.startswith(_DATA_URL):
            raise InvalidRequest(f"expected base64 or a data: URL, found {picture[:64]!r}; for a file, give a Path")
        return picture
    if isinstance(picture, os.PathLike):
        picture = Path(picture).read_bytes()
    elif extras.is_picture(picture):
        picture = _png_of(picture)
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return base64.b64encode(picture).decode("ascii")
    return picture


def _png_of(picture: Any) -> bytes:
    buffer = io.BytesIO()
    try:
        picture.save(buffer, "PNG")
    except OSError as exc:
        raise InvalidRequest(
            f"PNG holds no picture of mode {picture.mode!r}; .convert('RGB') makes one that fits"
        ) from exc
    return buffer.getvalue()
