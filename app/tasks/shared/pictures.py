"""The request of a picture model: ``{"image": ...}``, rows of numbers or an encoded file; or the file itself."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from app.bundle.manifest import Manifest
from app.errors import BundleError, Fault, InvalidInput, TooManyInstances
from app.preprocess.image import ImageInput, ImageRefused, decode_image
from app.tasks import Limits, NaturalInput
from app.tasks.decoding.fast_json import FastDecoder
from app.tasks.decoding.named import InputRule, NamedRows, input_pointer
from app.tasks.decoding.pictures import PixelBudget, describe, encoded_picture, picture_type
from app.tasks.decoding.raw import RawRows
from app.tasks.decoding.strict_json import JsonLimits
from app.tasks.shared.bodies import read_instances, request_model
from app.tensors import Tensors

NATURAL_INPUT = "image"


class PictureRequests:
    """The half of a task that turns pictures into the one input, float32 of shape (B, H, W).

    Raises:
        BundleError: The manifest has another input.
    """

    media_types: tuple[str, ...] = ("image/png", "image/jpeg")

    def __init__(self, manifest: Manifest, image: ImageInput, limits: Limits) -> None:
        kind = manifest.task.kind
        if len(manifest.inputs) != 1 or manifest.inputs[0].shape[1:] != (image.height, image.width):
            raise BundleError(f"{kind} takes one input of shape (batch, {image.height}, {image.width})")
        if manifest.inputs[0].dtype != "float32":
            raise BundleError(f"{kind} feeds float32, the input is {manifest.inputs[0].dtype}")
        self._image = image
        self._limits = limits
        self._input_name = manifest.inputs[0].name
        self._fast = FastDecoder(manifest.name, max_instances=limits.max_instances)
        instances = limits.max_instances
        self.json_limits = JsonLimits(
            arrays=1 + instances * (1 + image.height),
            objects=1 + instances,
            members=2 + instances,
            values=1 + instances * image.height * image.width,
        )
        self.raw = RawRows(manifest.inputs[0], low=image.low, high=image.high, max_rows=instances)
        self.named = NamedRows(
            [InputRule(spec=manifest.inputs[0], low=image.low, high=image.high)],
            max_rows=instances,
            max_numbers=instances * image.height * image.width,
        )
        self.natural: NaturalInput | None = NaturalInput(
            name=NATURAL_INPUT,
            description=f"a PNG or JPEG file, as it is or as base64; {self.conversion()}",
            decode=self._decode_files,
        )
        self.request_model = request_model(manifest, limits, image=(picture_type(image), ...))

    def decode_fast(self, body: bytes) -> Tensors | None:
        """Read rows of numbers; see :class:`app.tasks.Task`."""
        image = self._image
        pixels_BHW = self._fast.matrices(body, "image", (image.height, image.width), image.low, image.high)
        return None if pixels_BHW is None else {self._input_name: pixels_BHW}

    def decode_json(self, document: object) -> Tensors:
        """Validate whatever is there; see :class:`app.tasks.Task`."""
        budget = PixelBudget(self._limits.max_image_pixels)
        instances = read_instances(self.request_model, document, self._limits, context=budget)
        return {self._input_name: np.stack([instance.image for instance in instances])}

    def decode_file(self, data: bytes) -> Tensors:
        """Decode one picture; see :class:`app.tasks.Task`."""
        try:
            pixels_HW = decode_image(data, self._image, max_pixels=self._limits.max_image_pixels)
        except ImageRefused as exc:
            raise InvalidInput(Fault(pointer="#", code=exc.code, message=str(exc), limit=exc.limit)) from exc
        return {self._input_name: pixels_HW[None]}

    def _decode_files(self, files: Sequence[bytes]) -> Tensors:
        if len(files) > self._limits.max_instances:
            raise TooManyInstances(len(files), self._limits.max_instances)
        budget = PixelBudget(self._limits.max_image_pixels)
        pictures = []
        for index, data in enumerate(files):
            try:
                pictures.append(budget.decode(encoded_picture(data), self._image))
            except ImageRefused as exc:
                place, told = input_pointer(NATURAL_INPUT), f"element {index}: {exc}"
                raise InvalidInput(Fault(pointer=place, code=exc.code, message=told, limit=exc.limit)) from exc
        return {self._input_name: np.stack(pictures)}

    def conversion(self) -> str:
        """Say what is done to pictures of another size or mode; see :class:`app.tasks.Task`."""
        return describe(self._image)

    def example(self) -> dict[str, Any]:
        """Return a request with a gradient as a PNG; see :class:`app.tasks.Task`."""
        image = self._image
        ramp_HW = np.linspace(0, 255, image.height * image.width).reshape(image.height, image.width)
        buffer = io.BytesIO()
        Image.fromarray(ramp_HW.astype(np.uint8)).save(buffer, "PNG")
        return {"instances": [{"image": base64.b64encode(buffer.getvalue()).decode()}]}
