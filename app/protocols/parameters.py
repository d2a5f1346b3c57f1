"""The member ``"parameters"`` that bodies for platforms may hold beside ``"instances"``: what a query says elsewhere.

Platforms hand a body on, and no query. So who is to answer and how stands in the body, as Vertex AI has it::

    {"instances": [...], "parameters": {"top_k": 3, "version": "2"}}
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from app.errors import Fault, InvalidInput, quoted
from app.tasks import Task
from app.tasks.decoding.faults import expect_few_members, pointer
from app.tasks.decoding.numbers import kind_of

MEMBER = "parameters"
# an option that every model has: which output an answer in bytes is made of
TENSOR = "tensor"
# of the member itself; what a plain body cannot do without
_MARKS = (b'"parameters"', b"\\u")


class Parameters(NamedTuple):
    """What stands in the member.

    Attributes:
        model: Who is to answer; None where it does not say.
        version: Of the model; None where it does not say.
        options: The others, as they came.
    """

    model: str | None = None
    version: str | None = None
    options: Mapping[str, Any] = MappingProxyType({})

    def expect(self, model: str) -> str:
        """Return the name of the model that is asked already.

        Raises:
            InvalidInput: The parameters name another.
        """
        if self.model not in (None, model):
            message = f"expected {model!r}, which the path or a header names, found {quoted(str(self.model))!r}"
            raise InvalidInput(Fault(pointer=place_of("model"), code="wrong_type", message=message))
        return model


NONE = Parameters()


def may_hold(body: bytes) -> bool:
    """Tell whether a JSON body may hold the member: its name cannot be written without one of the marks."""
    return any(mark in body for mark in _MARKS)


def part(document: object) -> tuple[object, Parameters]:
    """Return a parsed body without the member, and what the member says.

    Raises:
        InvalidInput: It is no object, has far too many members, or names no model or version.
    """
    if not isinstance(document, dict) or MEMBER not in document:
        return document, NONE
    rest = {name: value for name, value in document.items() if name != MEMBER}
    members = document[MEMBER]
    if members is None:  # clients that always write it
        return rest, NONE
    if not isinstance(members, dict):
        raise _wrong_type(MEMBER, message=f"expected an object, found {kind_of(members)}")
    expect_few_members(members, MEMBER)
    options = dict(members)
    version = _version(options.pop("version")) if "version" in options else None
    model = options.pop("model") if "model" in options else None
    if "model" in members and not isinstance(model, str):
        raise _wrong_type(MEMBER, "model", message=f"expected the name of a model, found {kind_of(model)}")
    named = rest.get("model", model)
    if model is not None and named != model:
        message = f'expected the model that "model" names beside it, {quoted(str(named))!r}, found {quoted(model)!r}'
        raise InvalidInput(Fault(pointer=pointer(MEMBER, "model"), code="wrong_type", message=message))
    return rest, Parameters(model, version, options)


def as_query(parameters: Parameters, task: Task) -> dict[str, str]:
    """Return the options as a query would have them.

    Raises:
        InvalidInput: One is not of its type; whether its name is known and its value possible is the task's to say.
    """
    properties = task.options_model.model_json_schema()["properties"]
    return {
        name: _as_text(name, value, _type(properties.get(name, {}))) if name in properties or name == TENSOR else ""
        for name, value in parameters.options.items()
    }


def blame(error: InvalidInput, places: Mapping[str, str]) -> InvalidInput:
    """Return a fault of a query, pointing to where its parameter stood.

    Args:
        error: From :meth:`app.tasks.Task.parse_options` and its like.
        places: By the name of the parameter; those that are not there stood in the query.
    """
    faults = [
        Fault(pointer=places.get(fault.pointer.removeprefix("query:"), fault.pointer), code=fault.code,
              message=fault.message)
        for fault in error.faults
    ]  # fmt: skip
    return InvalidInput(*faults)


def place_of(name: str) -> str:
    """Return the pointer to a parameter in the body."""
    return pointer(MEMBER, name)


def _as_text(name: str, value: object, kind: str) -> str:
    if kind == "integer":
        # numbers that have come through Protocol Buffers, as with Vertex AI, may be written 3.0
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        raise _wrong_type(MEMBER, name, message=f"expected an integer, found {kind_of(value)}")
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return ",".join(value)
    if isinstance(value, str):
        return value
    raise _wrong_type(MEMBER, name, message=f"expected a string or a list of strings, found {kind_of(value)}")


def _type(schema: Mapping[str, Any]) -> str:
    """Return the JSON type of an option."""
    plain = next((each for each in schema.get("anyOf", ()) if each.get("type") != "null"), schema)
    return str(plain.get("type", "string"))


def _version(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise _wrong_type(MEMBER, "version", message=f'expected a version, as 2 or "2", found {kind_of(value)}')


def _wrong_type(*place: str, message: str) -> InvalidInput:
    return InvalidInput(Fault(pointer=pointer(*place), code="wrong_type", message=message))
