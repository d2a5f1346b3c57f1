"""Triton's model repository extension: what is asked of :class:`app.serving.repository.Repository`, and answered.

The states are Triton's: ``READY``, ``LOADING``, ``UNLOADING``, ``UNAVAILABLE``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from app.errors import Fault, InvalidInput, quoted
from app.serving.orders import Reached
from app.serving.repository import Repository, Wish
from app.serving.versions import State
from app.tasks.decoding.strict_json import JsonLimits, parse_json

_STATES = {
    State.LOADING: "LOADING",
    State.PROVING: "LOADING",
    State.READY: "READY",
    State.SICK: "UNAVAILABLE",
    State.FAILED: "UNAVAILABLE",
    State.UNLOADING: "UNLOADING",
    State.UNLOADED: "UNAVAILABLE",
}
_REASONS = {State.UNLOADING: "what waits is still answered", State.UNLOADED: "unloaded"}
_LIMITS = JsonLimits(arrays=1, objects=2, members=8, values=8)


def index(repository: Repository, *, only_ready: bool = False) -> list[dict[str, str]]:
    """Return the list of all versions: name, version, state, and why it is in no better one."""
    return [
        {
            "name": entry.name,
            "version": entry.version,
            "state": _STATES[entry.state],
            "reason": entry.reason or _REASONS.get(entry.state, ""),
        }
        for entry in repository.index(only_ready=only_ready)
    ]


def outcome(name: str, wish: Wish, reached: Sequence[Reached]) -> dict[str, Any]:
    """Return what is answered to a command that every worker has carried out."""
    state = _STATES[State.READY if wish == "load" else State.UNLOADED]
    workers = [{"worker": each.worker, "versions": list(each.ready)} for each in reached]
    return {"name": name, "state": state, "workers": workers}


def read_index_request(body: bytes) -> bool:
    """Return whether only what is ready is asked for.

    Raises:
        MalformedBody, TooManyValues: The body is no good JSON.
        InvalidInput: It is not what is asked for here.
    """
    document = _object(body)
    _expect_only(document, "", ("ready", "repository_name"))
    ready = document.get("ready", False)
    if not isinstance(ready, bool):
        raise InvalidInput(
            Fault(pointer="#/ready", code="wrong_type", message=f"expected true or false, {_found(ready)}")
        )
    return ready


def read_command(body: bytes, wish: Wish) -> None:
    """Hold the body of a command against what can be asked.

    Raises:
        MalformedBody, TooManyValues: The body is no good JSON.
        InvalidInput: It asks for what is not offered.
    """
    document = _object(body)
    _expect_only(document, "", ("parameters",))
    parameters = document.get("parameters", {})
    if not isinstance(parameters, dict):
        message = f"expected an object, {_found(parameters)}"
        raise InvalidInput(Fault(pointer="#/parameters", code="wrong_type", message=message))
    expect_parameters(parameters, wish)


def expect_parameters(parameters: Mapping[str, object], wish: Wish) -> None:
    """Refuse parameters of a command that are not offered.

    Models here do not depend on each other, so ``unload_dependents`` asks for nothing.

    Raises:
        InvalidInput: One of them is there.
    """
    for name in parameters:
        if wish == "load" and (name == "config" or name.startswith("file:")):
            message = (
                "models are loaded as they lie in the models folder, where each is proven against its own golden rows; "
                "put a new version there, and load without parameters"
            )
            raise InvalidInput(Fault(pointer=f"parameter:{quoted(name)}", code="not_offered", message=message))
    _expect_only(parameters, "/parameters", ("unload_dependents",) if wish == "unload" else ())
    dependents = parameters.get("unload_dependents", False)
    if not isinstance(dependents, bool):
        message = f"expected true or false, {_found(dependents)}"
        raise InvalidInput(Fault(pointer="parameter:unload_dependents", code="wrong_type", message=message))


def _object(body: bytes) -> dict[str, Any]:
    """Return the object that a body holds; an empty one asks for nothing in particular."""
    document = parse_json(body, _LIMITS) if body.strip() else {}
    if not isinstance(document, dict):
        raise InvalidInput(Fault(pointer="#", code="wrong_type", message=f"expected an object, {_found(document)}"))
    return document


def _expect_only(members: Mapping[str, object], place: str, known: Sequence[str]) -> None:
    for name in members:
        if name not in known:
            told = f"nothing of that name is read here; there is: {', '.join(known) or 'nothing'}"
            raise InvalidInput(Fault(pointer=f"#{place}/{quoted(name)}", code="extra_forbidden", message=told))


def _found(value: object) -> str:
    return f"found {quoted(repr(value))}"
