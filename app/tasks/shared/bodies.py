"""The bodies that all tasks have in common: ``{"instances": [...]}`` in, ``{"predictions": [...]}`` out."""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from app.bundle.manifest import Manifest
from app.errors import TooManyInstances
from app.tasks import Limits
from app.tasks.decoding.faults import expect_few_members, invalid_input

ModelT = TypeVar("ModelT", bound=BaseModel)
STRICT = ConfigDict(extra="forbid", frozen=True)


def request_model(manifest: Manifest, limits: Limits, **fields: Any) -> type[BaseModel]:
    """Return the type of a request, whose instances have the given fields, each a type and its default or ``...``."""
    prefix = type_prefix(manifest)
    name: Any = Literal[manifest.name]
    instance: Any = create_model(f"{prefix}Instance", __config__=STRICT, **fields)
    return create_model(
        f"{prefix}Request",
        __config__=STRICT,
        model=(name, Field(default=manifest.name)),
        instances=(list[instance], Field(min_length=1, max_length=limits.max_instances)),
    )


def response_model(manifest: Manifest, **fields: Any) -> type[BaseModel]:
    """Return the type of an answer, whose predictions have the given fields, each a type and ``...``."""
    prefix = type_prefix(manifest)
    name: Any = Literal[manifest.name]
    prediction: Any = create_model(f"{prefix}Prediction", **fields)
    return create_model(f"{prefix}Response", model=(name, ...), version=(str, ...), predictions=(list[prediction], ...))


def read_instances(
    model: type[BaseModel],
    document: object,
    limits: Limits,
    *,
    members: Mapping[str, int] | None = None,
    context: object = None,
) -> Any:
    """Validate a request and return its instances.

    Args:
        model: From :func:`request_model`.
        document: The parsed body, whatever it is.
        limits: What one request may hold.
        members: Most members that the object behind a key of an instance may have.
        context: Of the validation; what the types of the instances make of it is theirs.

    Raises:
        InvalidInput: With every fault, by its place.
        TooManyInstances: More than the limit.
    """
    expect_few_members(document)
    instances = document.get("instances") if isinstance(document, dict) else None
    if isinstance(instances, list):
        if len(instances) > limits.max_instances:
            raise TooManyInstances(len(instances), limits.max_instances)
        for index, instance in enumerate(instances):
            expect_few_members(instance, "instances", index)
            for key, most in (members or {}).items() if isinstance(instance, dict) else ():
                expect_few_members(instance.get(key), "instances", index, key, most=most)
    try:
        request: Any = model.model_validate(document, context=context)
    except ValidationError as exc:
        raise invalid_input(exc) from exc
    return request.instances


def read_options(model: type[ModelT], query: Mapping[str, str]) -> ModelT:
    """Validate the query parameters of a task.

    Raises:
        InvalidInput: One is unknown, or its value impossible.
    """
    try:
        return model.model_validate(query)
    except ValidationError as exc:
        raise invalid_input(exc, place="query") from exc


def type_prefix(manifest: Manifest) -> str:
    """Return what the names of a model's types start with."""
    return manifest.name.capitalize()  # and nothing else changed, so that no two models share the name of a type
