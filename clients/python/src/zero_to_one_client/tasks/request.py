"""What every request is, whatever it asks."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeAlias, TypeVar

from zero_to_one_client import extras
from zero_to_one_client.cards import ModelCard
from zero_to_one_client.documents import Document
from zero_to_one_client.errors import InvalidRequest, WrongTask

P = TypeVar("P", covariant=True)

# a list of whatever the task takes, or an array whose first axis counts the instances
Instances: TypeAlias = Iterable[Any]


@dataclass(frozen=True, kw_only=True)
class Request(ABC, Generic[P]):
    """Instances for a model, and what is to be told of them.

    Attributes:
        model: Who is asked.
        version: The version that is to answer, by number or label; None for what the model's policy says.
    """

    kind: ClassVar[str]
    # the field that holds the instances
    field_name: ClassVar[str]
    # whether an instance may be an array of numbers
    takes_arrays: ClassVar[bool] = True
    # the one output that a prediction can be made of; None where it takes more than one
    answer_tensor: ClassVar[str | None] = None

    model: str
    version: str | None = None

    @classmethod
    def of(cls, model: str, instances: Instances, version: str | None, **options: Any) -> Self:
        """Return a request by the parts that all of them have."""
        return cls(model=model, version=version, **{cls.field_name: instances}, **options)

    @abstractmethod
    def to_json(self, instance: Any, card: ModelCard) -> Mapping[str, Any]:
        """Return an instance as JSON has it."""

    @abstractmethod
    def read(self, prediction: Document) -> P:
        """Return a prediction that came as JSON."""

    def read_rows(self, rows: Any, card: ModelCard) -> list[P]:
        """Return the predictions that came as the array ``answer_tensor``."""
        raise NotImplementedError(f"{type(self).__name__} cannot be answered by one tensor")

    def query(self) -> dict[str, str]:
        """Return the parameters of the request's query."""
        if self.version is None:
            return {}
        version = str(self.version)
        if not version.isascii():
            raise InvalidRequest(f"version: {version!r} is no number")
        return {"version": version}

    def instances(self, card: ModelCard) -> Sequence[Any]:
        """Return the instances; those of an array as views of it.

        Raises:
            WrongTask: The model does something else.
            InvalidRequest: There are none, or what is given is one instance instead of a list of them.
        """
        if card.task != self.kind:
            raise WrongTask(f"{type(self).__name__} asks for {self.kind}, and the task of {card.name!r} is {card.task}")
        given = getattr(self, self.field_name)
        if _is_one(given) or (self.takes_arrays and _is_one_array(given, card)):
            raise InvalidRequest(f"expected a list of instances, found one {type(given).__name__}; write [it]")
        instances = given if extras.is_array(given) else list(given)
        if not len(instances):
            raise InvalidRequest("expected at least one instance, found none")
        return instances


def _is_one(given: object) -> bool:
    return isinstance(given, (str, bytes, bytearray, memoryview, Mapping, os.PathLike)) or extras.is_picture(given)


def _is_one_array(given: Any, card: ModelCard) -> bool:
    return extras.is_array(given) and given.ndim < len(card.inputs[0].shape)


def one_of_many(names: Sequence[str]) -> dict[str, str]:
    """Return the query that selects members of the predictions; empty for all."""
    if isinstance(names, str):
        raise InvalidRequest(f"outputs: expected names in a list, found {names!r}")
    return {"outputs": ",".join(names)} if names else {}
