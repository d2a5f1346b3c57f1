"""The request of a tabular model: ``{"features": {name: number, ...}}``, every name typed, no order expected."""

from typing import Annotated, Any

import numpy as np
from pydantic import Field, PlainValidator, WithJsonSchema, create_model

from app.bundle.manifest import Feature, Manifest
from app.errors import BundleError, UnsupportedMedia
from app.tasks import Limits, NaturalInput
from app.tasks.decoding.fast_json import FastDecoder
from app.tasks.decoding.faults import MAX_MEMBERS
from app.tasks.decoding.named import InputRule, NamedRows
from app.tasks.decoding.numbers import number_fault
from app.tasks.decoding.raw import RawRows
from app.tasks.decoding.strict_json import JsonLimits
from app.tasks.shared.bodies import STRICT, read_instances, request_model, type_prefix
from app.tensors import Array, Tensors


class FeatureRequests:
    """The half of a task that turns rows of named numbers into the one input, float32 of shape (B, F).

    Raises:
        BundleError: The manifest has another input.
    """

    media_types: tuple[str, ...] = ()

    def __init__(self, manifest: Manifest, features: tuple[Feature, ...], limits: Limits) -> None:
        kind = manifest.task.kind
        if len(manifest.inputs) != 1 or manifest.inputs[0].shape[1:] != (len(features),):
            raise BundleError(f"{kind} takes one input of shape (batch, {len(features)})")
        if manifest.inputs[0].dtype != "float32":
            raise BundleError(f"{kind} feeds float32, the input is {manifest.inputs[0].dtype}")
        self._features = features
        self._limits = limits
        self._input_name = manifest.inputs[0].name
        self._fast = FastDecoder(manifest.name, max_instances=limits.max_instances)
        self._names = tuple(feature.name for feature in features)
        self._low_F = np.array([feature.low for feature in features])
        self._high_F = np.array([feature.high for feature in features])
        instances = limits.max_instances
        self.json_limits = JsonLimits(
            arrays=1,
            objects=1 + 2 * instances,
            members=2 + instances * (1 + len(features)),
            values=1 + instances * len(features),
        )
        self.raw = RawRows(manifest.inputs[0], low=self._low_F, high=self._high_F, max_rows=instances)
        self.named = NamedRows(
            [InputRule(spec=manifest.inputs[0], low=self._low_F, high=self._high_F)],
            max_rows=instances,
            max_numbers=instances * len(features),
        )
        self.natural: NaturalInput | None = None
        row: Any = create_model(f"{type_prefix(manifest)}Features", __config__=STRICT, **_fields(features))
        self.request_model = request_model(manifest, limits, features=(row, ...))

    def decode_fast(self, body: bytes) -> Tensors | None:
        """Read rows of named numbers; see :class:`app.tasks.Task`."""
        rows_BF = self._fast.rows(body, "features", self._names, self._low_F, self._high_F)
        return None if rows_BF is None else self._tensors(rows_BF)

    def decode_json(self, document: object) -> Tensors:
        """Validate whatever is there; see :class:`app.tasks.Task`."""
        members = {"features": len(self._features) + MAX_MEMBERS}
        instances = read_instances(self.request_model, document, self._limits, members=members)
        # the attributes stand in the order of the features, whatever the order in the body
        return self._tensors(np.array([list(vars(instance.features).values()) for instance in instances], np.float64))

    def decode_file(self, data: bytes) -> Tensors:
        """Refuse: a row of a table has no file format; see :class:`app.tasks.Task`."""
        raise UnsupportedMedia("this model takes application/json")

    def conversion(self) -> None:
        """Say nothing: numbers are taken as they come; see :class:`app.tasks.Task`."""

    def example(self) -> dict[str, Any]:
        """Return a request with the example of every feature; see :class:`app.tasks.Task`."""
        return {"instances": [{"features": {feature.name: feature.typical for feature in self._features}}]}

    def _tensors(self, rows_BF: Array) -> Tensors:
        return {self._input_name: rows_BF.astype(np.float32)}


def _fields(features: tuple[Feature, ...]) -> dict[str, Any]:
    """Return one field per feature; its name may be any text, so it is an alias, and Python's own name a number."""
    return {
        f"feature_{index}": (_number_type(feature), Field(alias=feature.name)) for index, feature in enumerate(features)
    }


def _number_type(feature: Feature) -> Any:
    low, high = feature.low, feature.high

    def validate(value: Any) -> float:
        if fault := number_fault(value, low, high):
            raise fault
        return float(value)

    return Annotated[float, PlainValidator(validate), WithJsonSchema(_json_schema(feature))]


def _json_schema(feature: Feature) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "title": feature.name if feature.unit is None else f"{feature.name} ({feature.unit})",
        "type": "number",
        "format": "float",
        "minimum": feature.low,
        "maximum": feature.high,
        "description": feature.description or None,
        "examples": [feature.typical],
    }
    return {key: value for key, value in schema.items() if value is not None}
