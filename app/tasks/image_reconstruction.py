"""One picture in; out comes what is left of it after a narrow code, and whether that is too far from the picture."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import MISSING, AfterValidator, BaseModel, ConfigDict, Field

from app.bundle.loader import Bundle
from app.bundle.manifest import ImageReconstruction, Manifest
from app.errors import BundleError, quoted
from app.tasks import Limits
from app.tasks.decoding.numbers import custom_fault
from app.tasks.shared.bodies import read_options, response_model
from app.tasks.shared.pictures import PictureRequests
from app.tensors import Array, Tensors

OUTPUTS = ("error", "anomaly", "code", "reconstruction")


def _known(names: str) -> str:
    for name in names.split(","):
        if name not in OUTPUTS:
            message = f"expected names out of {', '.join(OUTPUTS)}, with commas between, found {quoted(name)!r}"
            raise custom_fault("unknown_output", message)
    return names


class Options(BaseModel):
    """Query parameters of a reconstruction."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    outputs: Annotated[
        str,
        AfterValidator(_known),
        Field(
            description="Members of the predictions, with commas between; all without it.",
            json_schema_extra={"pattern": "^({0})(,({0}))*$".format("|".join(OUTPUTS))},
        ),
    ] = ",".join(OUTPUTS)


class ImageReconstructionTask(PictureRequests):
    """Pictures to the one input tensor, its outputs to error, anomaly, code and picture; see :class:`app.tasks.Task`.

    Raises:
        BundleError: The manifest has other tensors.
    """

    options_model = Options

    def __init__(self, manifest: Manifest, settings: ImageReconstruction, limits: Limits) -> None:
        super().__init__(manifest, settings.image, limits)
        image, code_size = settings.image, settings.code_size
        shapes = {spec.name: spec.shape[1:] for spec in manifest.outputs}
        expected = {"error": (), "code": (code_size,), "reconstruction": (image.height, image.width)}
        for name, shape in expected.items():
            if shapes.get(name) != shape:
                axes = ", ".join(("batch", *map(str, shape)))
                raise BundleError(f"image_reconstruction needs an output {name!r} of shape ({axes})")
        self._threshold = settings.threshold
        row = Annotated[list[float], Field(min_length=image.width, max_length=image.width)]
        self.response_model = response_model(
            manifest,
            error=_selected(float, "mean squared difference from the picture, on a scale from 0 to 1", ge=0),
            anomaly=_selected(bool, f"whether the error is above {settings.threshold:g}"),
            code=_selected(list[float], "what the picture was narrowed to", min_length=code_size, max_length=code_size),
            reconstruction=_selected(
                list[row],
                f"rows of grey values, as the picture from {image.low:g} to {image.high:g}",
                min_length=image.height,
                max_length=image.height,
            ),
        )

    def parse_options(self, query: Mapping[str, str]) -> Options:
        """Read ``outputs``; see :class:`app.tasks.Task`."""
        return read_options(Options, query) if query else _NO_OPTIONS

    def encode(self, outputs: Tensors, options: Options) -> list[dict[str, Any]]:
        """Return what was asked for of every row; see :class:`app.tasks.Task`."""
        asked = options.outputs.split(",")
        columns: dict[str, Callable[[], list[Any]]] = {
            "error": lambda: outputs["error"].tolist(),
            "anomaly": lambda: [error > self._threshold for error in outputs["error"].tolist()],
            "code": lambda: outputs["code"].tolist(),
            "reconstruction": lambda: outputs["reconstruction"].tolist(),
        }
        found = {name: column() for name, column in columns.items() if name in asked}
        return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]

    def columns(self, outputs: Tensors) -> dict[str, Array]:
        """Return the error and what follows from it; see :class:`app.tasks.Task`."""
        return {"error": outputs["error"], "anomaly": outputs["error"].astype(np.float64) > self._threshold}


def create(bundle: Bundle, limits: Limits) -> ImageReconstructionTask:
    """Return the task of a bundle; see :func:`app.tasks.create`."""
    assert isinstance(bundle.manifest.task, ImageReconstruction)
    return ImageReconstructionTask(bundle.manifest, bundle.manifest.task, limits)


_NO_OPTIONS = Options()


def _selected(kind: Any, description: str, **bounds: Any) -> Any:
    """Return the type of a member that is there unless ``?outputs=`` leaves it out; it is never null."""
    return kind | MISSING, Field(default=MISSING, description=f"{description}; absent where not asked for", **bounds)
