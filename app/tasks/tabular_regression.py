"""One row of a table in, one number out."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.bundle.loader import Bundle
from app.bundle.manifest import Manifest, TabularRegression, Target
from app.errors import BundleError
from app.tasks import Limits
from app.tasks.shared.bodies import read_options, response_model
from app.tasks.shared.features import FeatureRequests
from app.tensors import Array, Tensors


class Options(BaseModel):
    """Query parameters of a regression: none."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TabularRegressionTask(FeatureRequests):
    """Rows of features to the one input tensor, its ``value`` to a number; see :class:`app.tasks.Task`."""

    options_model = Options

    def __init__(self, manifest: Manifest, settings: TabularRegression, limits: Limits) -> None:
        super().__init__(manifest, settings.features, limits)
        if {spec.name: spec.shape[1:] for spec in manifest.outputs}.get("value") != ():
            raise BundleError("tabular_regression needs an output 'value' of shape (batch)")
        value = Field(title=settings.target.name, description=_describe(settings.target))
        self.response_model = response_model(manifest, value=(float, value))

    def parse_options(self, query: Mapping[str, str]) -> Options:
        """Refuse whatever is there; see :class:`app.tasks.Task`."""
        return read_options(Options, query)

    def encode(self, outputs: Tensors, options: Options) -> list[dict[str, Any]]:
        """Return the value of every row; see :class:`app.tasks.Task`."""
        return [{"value": value} for value in outputs["value"].tolist()]

    def columns(self, outputs: Tensors) -> dict[str, Array]:
        """Return the value; see :class:`app.tasks.Task`."""
        return {"value": outputs["value"]}


def create(bundle: Bundle, limits: Limits) -> TabularRegressionTask:
    """Return the task of a bundle; see :func:`app.tasks.create`."""
    assert isinstance(bundle.manifest.task, TabularRegression)
    return TabularRegressionTask(bundle.manifest, bundle.manifest.task, limits)


def _describe(target: Target) -> str:
    return ", ".join(part for part in (target.description, target.unit and f"in {target.unit}") if part)
