"""Typed request and response to tensors and back, one file per kind of task, found by the file's name.

A task module offers ``create(bundle, limits) -> Task``; its name is the ``kind`` in the manifest's task settings.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from pydantic import BaseModel

from app.bundle.golden import GoldenRows
from app.bundle.loader import Bundle
from app.errors import BundleError, RequestError
from app.tasks.decoding import raw
from app.tasks.decoding.named import NamedRows
from app.tasks.decoding.raw import RawRows
from app.tasks.decoding.strict_json import JsonLimits
from app.tensors import LENGTHS, Array, Tensors, take, trim


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may hold."""

    max_instances: int
    max_image_pixels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NaturalInput:
    """What stands for the tensors of a model where a door takes elements of bytes: a text, a picture's file.

    Attributes:
        name: Of the input.
        description: What one element is.
        decode: From the elements, one for each row, to the inputs of the manifest; raises :class:`InvalidInput`, with
            faults that name the input.
    """

    name: str
    description: str
    decode: Callable[[Sequence[bytes]], Tensors]


class Task(Protocol):
    """One model's translation between bodies and tensors. Pure: it keeps nothing between calls.

    Attributes:
        request_model: The body of a prediction request; documents and, where the fast decoder declines, validates it.
        response_model: The body of the answer.
        options_model: The query parameters that shape the answer.
        media_types: What a raw body may be, beside JSON; empty where the task takes JSON only.
        json_limits: What its largest good JSON body holds.
        raw: Reads bodies of plain bytes; None where the inputs of the model are not one array.
        named: Reads named tensors.
        natural: What a row may come as instead of its tensors, beside JSON; None where there is no such thing.
    """

    request_model: type[BaseModel]
    response_model: type[BaseModel]
    options_model: type[BaseModel]
    media_types: tuple[str, ...]
    json_limits: JsonLimits
    raw: RawRows | None
    named: NamedRows
    natural: NaturalInput | None

    def decode_fast(self, body: bytes) -> Tensors | None:
        """Return the tensors of a plain, valid JSON body; None where there is any doubt, and never a fault.

        Only on the event loop's thread.
        """
        ...

    def decode_json(self, document: object) -> Tensors:
        """Return the tensors of a parsed JSON body.

        Raises:
            InvalidInput: With every fault, by its place.
            TooManyInstances: More than the limit.
        """
        ...

    def decode_file(self, data: bytes) -> Tensors:
        """Return the tensors, one row, of a raw body of one of ``media_types``.

        Raises:
            InvalidInput: The file is not what its media type says, or not what the model takes.
        """
        ...

    def parse_options(self, query: Mapping[str, str]) -> Any:
        """Read the query parameters that this task knows.

        Raises:
            InvalidInput: A value is impossible.
        """
        ...

    def encode(self, outputs: Tensors, options: Any) -> list[dict[str, Any]]:
        """Return one prediction per row, ready for JSON; ``options`` as :meth:`parse_options` returned them."""
        ...

    def columns(self, outputs: Tensors) -> dict[str, Array]:
        """Return members of the predictions that are one value a row, as arrays of shape (B,), for tables.

        What is here is what :meth:`encode` says, whichever options; members that no array holds are missing.
        """
        ...

    def conversion(self) -> str | None:
        """Say what is done to files that are not quite what the model takes; None where nothing is."""
        ...

    def example(self) -> dict[str, Any]:
        """Return a body that works when it is sent as it stands."""
        ...


def body_types(task: Task) -> tuple[str, ...]:
    """Return every media type that a body for a task may have; a task that takes files takes them as an upload too."""
    upload = ("multipart/form-data",) if task.media_types else ()
    return ("application/json", *task.media_types, *upload, *((raw.MEDIA_TYPE,) if task.raw is not None else ()))


class _TaskModule(Protocol):
    def create(self, bundle: Bundle, limits: Limits) -> Task: ...


def kinds() -> tuple[str, ...]:
    """Return the kinds of all tasks: the files of this folder."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg))


def create(bundle: Bundle, limits: Limits) -> Task:
    """Return the task of a bundle.

    Raises:
        BundleError: The manifest's tensors are not those of its task, or a file that the task needs is missing, is not
            the one that the manifest describes, or cannot be used.
    """
    module = cast(_TaskModule, importlib.import_module(f"{__name__}.{bundle.manifest.task.kind}"))
    return module.create(bundle, limits)


def check_contract(task: Task, golden: GoldenRows) -> None:
    """Hold the task against the trainer: golden requests become golden tensors, golden outputs golden responses.

    This is what makes a skew between training and serving impossible to miss: both sides are compared bit for bit.
    Golden inputs of different lengths are padded to the longest row; a request alone is not, so each row is compared
    without its padding, which has to be zeros.

    Raises:
        BundleError: They do not; the message names the row.
    """
    for row, request in enumerate(golden.requests):
        try:
            tensors = task.decode_json({"instances": [request]})
        except RequestError as exc:
            raise BundleError(f"golden request {row} is refused: {exc}") from exc
        padded = take(golden.inputs, row, row + 1)
        expected = trim(padded)
        for name in golden.inputs:
            if name not in tensors or not _same(tensors[name], expected[name]):
                raise BundleError(f"golden request {row} does not become its golden input {name!r}")
            if LENGTHS in padded and name != LENGTHS and np.any(padded[name][:, expected[name].shape[1] :]):
                raise BundleError(f"golden input {name!r} is padded with other than zeros in row {row}")
    for row, (prediction, response) in enumerate(
        zip(task.encode(golden.outputs, task.parse_options({})), golden.responses, strict=True)
    ):
        if prediction != response:
            raise BundleError(f"golden output {row} does not become its golden response")


def _same(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and np.array_equal(a, b)
