"""One picture in, one label out."""

import base64
import io
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from app.bundle.manifest import ImageClassification, Manifest
from app.errors import BundleError, Fault, InvalidInput, TooManyInstances
from app.preprocess.image import ImageRefused, decode_image
from app.tasks import Limits
from app.tasks.decoding.fast_json import FastDecoder
from app.tasks.decoding.faults import expect_few_members, invalid_input
from app.tasks.decoding.pictures import picture_type
from app.tasks.decoding.strict_json import JsonLimits
from app.tensors import Tensors


class Options(BaseModel):
    """Query parameters of a classification."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    top_k: Annotated[
        int | None, Field(ge=1, description="Shorten `probabilities` to the k most probable labels, best first.")
    ] = None


class ImageClassificationTask:
    """Pictures to the one input tensor, its ``probabilities`` to labels; see :class:`app.tasks.Task`."""

    media_types = ("image/png", "image/jpeg")
    options_model = Options

    def __init__(self, manifest: Manifest, settings: ImageClassification, limits: Limits) -> None:
        self._settings = settings
        self._limits = limits
        self._input_name = manifest.inputs[0].name
        self._fast = FastDecoder(manifest.name, max_instances=limits.max_instances)
        instances, image = limits.max_instances, settings.image
        self.json_limits = JsonLimits(
            arrays=1 + instances * (1 + image.height),
            objects=1 + instances,
            members=2 + 2 * instances,  # a data: URL has a colon of its own
            values=1 + instances * image.height * image.width,
        )
        self.request_model = _request_model(manifest, settings, limits)
        self.response_model = _response_model(manifest, settings)

    def decode_fast(self, body: bytes) -> Tensors | None:
        """Read rows of numbers; see :class:`app.tasks.Task`."""
        image = self._settings.image
        pixels_BHW = self._fast.matrices(body, "image", (image.height, image.width), image.low, image.high)
        return None if pixels_BHW is None else {self._input_name: pixels_BHW}

    def decode_json(self, document: object) -> Tensors:
        """Validate whatever is there; see :class:`app.tasks.Task`."""
        expect_few_members(document)
        instances = document.get("instances") if isinstance(document, dict) else None
        if isinstance(instances, list):
            if len(instances) > self._limits.max_instances:
                raise TooManyInstances(len(instances), self._limits.max_instances)
            for index, instance in enumerate(instances):
                expect_few_members(instance, "instances", index)
        try:
            request: Any = self.request_model.model_validate(document)
        except ValidationError as exc:
            raise invalid_input(exc) from exc
        return {self._input_name: np.stack([instance.image for instance in request.instances])}

    def decode_file(self, data: bytes) -> Tensors:
        """Decode one picture; see :class:`app.tasks.Task`."""
        try:
            pixels_HW = decode_image(data, self._settings.image, max_pixels=self._limits.max_image_pixels)
        except ImageRefused as exc:
            raise InvalidInput(Fault(pointer="#", code=exc.code, message=str(exc))) from exc
        return {self._input_name: pixels_HW[None]}

    def parse_options(self, query: Mapping[str, str]) -> Options:
        """Read ``top_k``; see :class:`app.tasks.Task`."""
        if not query:
            return _NO_OPTIONS
        try:
            return Options.model_validate(query)
        except ValidationError as exc:
            raise invalid_input(exc, place="query") from exc

    def encode(self, outputs: Tensors, options: Options) -> list[dict[str, Any]]:
        """Name the most probable label of every row; see :class:`app.tasks.Task`."""
        probabilities_BC = outputs["probabilities"]
        best_B = probabilities_BC.argmax(axis=1).tolist()
        labels = self._settings.labels
        predictions = []
        for best, row in zip(best_B, probabilities_BC.tolist(), strict=True):
            named = dict(zip(labels, row, strict=True)) if options.top_k is None else _top(labels, row, options.top_k)
            predictions.append({"label": labels[best], "index": best, "probability": row[best], "probabilities": named})
        return predictions

    def example(self) -> dict[str, Any]:
        """Return a request with a gradient as a PNG; see :class:`app.tasks.Task`."""
        image = self._settings.image
        ramp_HW = np.linspace(0, 255, image.height * image.width).reshape(image.height, image.width)
        buffer = io.BytesIO()
        Image.fromarray(ramp_HW.astype(np.uint8)).save(buffer, "PNG")
        return {"instances": [{"image": base64.b64encode(buffer.getvalue()).decode()}]}


_NO_OPTIONS = Options()


def create(manifest: Manifest, limits: Limits) -> ImageClassificationTask:
    """Return the task of a manifest; see :func:`app.tasks.create`."""
    settings = manifest.task
    image = settings.image
    if len(manifest.inputs) != 1 or manifest.inputs[0].shape[1:] != (image.height, image.width):
        raise BundleError(f"image_classification takes one input of shape (batch, {image.height}, {image.width})")
    if manifest.inputs[0].dtype != "float32":
        raise BundleError(f"image_classification feeds float32, the input is {manifest.inputs[0].dtype}")
    shapes = {spec.name: spec.shape[1:] for spec in manifest.outputs}
    if shapes.get("probabilities") != (len(settings.labels),):
        raise BundleError(
            f"image_classification needs an output 'probabilities' of shape (batch, {len(settings.labels)})"
        )
    return ImageClassificationTask(manifest, settings, limits)


def _top(labels: tuple[str, ...], row: list[float], k: int) -> dict[str, float]:
    return dict(sorted(zip(labels, row, strict=True), key=lambda item: -item[1])[:k])


def _request_model(manifest: Manifest, settings: ImageClassification, limits: Limits) -> type[BaseModel]:
    prefix = _type_prefix(manifest.name)
    name: Any = Literal[manifest.name]
    picture = picture_type(settings.image, max_pixels=limits.max_image_pixels)
    strict = ConfigDict(extra="forbid", frozen=True)
    instance: Any = create_model(f"{prefix}Instance", __config__=strict, image=(picture, ...))
    return create_model(
        f"{prefix}Request",
        __config__=strict,
        model=(name, Field(default=manifest.name)),
        instances=(list[instance], Field(min_length=1, max_length=limits.max_instances)),
    )


def _response_model(manifest: Manifest, settings: ImageClassification) -> type[BaseModel]:
    prefix = _type_prefix(manifest.name)
    name: Any = Literal[manifest.name]
    label: Any = Literal[settings.labels]
    probability: Any = Annotated[float, Field(ge=0, le=1)]
    prediction: Any = create_model(
        f"{prefix}Prediction",
        label=(label, ...),
        index=(Annotated[int, Field(ge=0, lt=len(settings.labels))], ...),
        probability=(probability, ...),
        probabilities=(dict[label, probability], ...),
    )
    return create_model(f"{prefix}Response", model=(name, ...), version=(str, ...), predictions=(list[prediction], ...))


def _type_prefix(name: str) -> str:
    return name.capitalize()  # and nothing else changed, so that no two models share the name of a type
