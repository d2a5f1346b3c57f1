"""What a config may say of a problem: options, by name, and data of the kind that the problem takes."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from training.data import DataSet
from training.errors import ConfigError

PartT = TypeVar("PartT", bound=BaseModel)


def expect_options(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options given, with the defaults of the others.

    Raises:
        ConfigError: There is no such option, or its value is not of its default's type; the message names it.
    """
    if unknown := sorted(set(given) - set(defaults)):
        have = ", ".join(sorted(defaults)) or "none"
        raise ConfigError(f"there is no data option {unknown[0]!r}; there are: {have}")
    for name, value in given.items():
        if type(value) is not type(defaults[name]):
            expected = type(defaults[name]).__name__
            raise ConfigError(f"the data option {name!r} must be of type {expected}, got {value!r}")
    return {**defaults, **given}


def expect_positive(options: Mapping[str, Any], *names: str) -> None:
    """Refuse what is not above 0.

    Raises:
        ConfigError: One is not; the message names it.
    """
    for name in names:
        if not options[name] > 0:
            raise ConfigError(f"the data option {name!r} must be above 0, got {options[name]!r}")


def expect_rows(data: DataSet[Any], kind: type, *, problem: str) -> None:
    """Refuse a data set whose rows are of another kind, rather than fail somewhere within.

    Args:
        data: Any.
        kind: Of the rows that the problem takes.
        problem: Its name, for the error.

    Raises:
        ConfigError: They are.
    """
    if not isinstance(data.train, kind):
        raise ConfigError(f"{problem} takes {kind.__name__}, and {data.name} has {type(data.train).__name__}")


def part_of_manifest(part: Callable[..., PartT], **fields: Any) -> PartT:
    """Return a part of the manifest that options decide: before an hour of training, not after it.

    Raises:
        ConfigError: The service would not take it; the message is the manifest's own, in one line.
    """
    try:
        return part(**fields)
    except ValidationError as exc:
        faults = [(".".join(map(str, error["loc"])), error["msg"]) for error in exc.errors()]
        told = "; ".join(f"{place}: {fault}" if place else fault for place, fault in faults)
        raise ConfigError(f"the service would not take these data options: {told}") from exc
