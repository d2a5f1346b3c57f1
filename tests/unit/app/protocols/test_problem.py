import json
import re
from http import HTTPStatus

import pytest

from app import errors
from app.errors import Fault, InvalidInput, ModelRejectedInput, Overloaded, ServingError
from app.protocols import problem
from app.protocols.problem import STATUS, Problem, render

ID = b"test-1"

EVERY = [
    cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, ServingError)
]  # fmt: skip


def make(cls: type[ServingError], message: str = "what happened") -> ServingError:
    """Return an error of a class, whatever its constructor asks for."""
    error = cls.__new__(cls, message)
    Exception.__init__(error, message)
    for name, value in {"faults": (Fault(pointer="#", code="wrong", message=message),), "rows": (0,)}.items():
        setattr(error, name, value)
    error.retry_after_s = 1.0  # type: ignore[attr-defined]
    return error


def rendered(error: Exception) -> tuple[int, dict[bytes, bytes], Problem]:
    status, headers, body = render(error, ID)
    assert dict(headers)[b"content-length"] == b"%d" % len(body)
    assert dict(headers)[b"content-type"] == b"application/problem+json"
    assert len(dict(headers)) == len(headers)
    document = json.loads(body)
    parsed = Problem.model_validate(document, extra="forbid")
    assert parsed.status == status
    return status, dict(headers), parsed


def test_the_table_names_every_error_and_no_other() -> None:
    assert set(STATUS) == set(EVERY)
    assert len(EVERY) > 15


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_every_error_can_be_written(cls: type[ServingError]) -> None:
    status, _, body = rendered(make(cls))
    assert status == STATUS[cls]
    assert body.type == f"urn:zero-to-one:problem:{cls.code}"
    assert (body.code, body.title, body.detail) == (cls.code, cls.title, "what happened")
    assert body.request_id == "test-1"


@pytest.mark.parametrize("cls", [cls for cls in EVERY if issubclass(cls, errors.RequestError)])
def test_the_caller_s_errors_are_the_caller_s(cls: type[ServingError]) -> None:
    assert 400 <= STATUS[cls] < 500


@pytest.mark.parametrize("cls", [cls for cls in EVERY if issubclass(cls, errors.Unanswered)])
def test_an_answer_that_fails_is_never_a_500(cls: type[ServingError]) -> None:
    assert STATUS[cls] in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT, HTTPStatus.UNPROCESSABLE_ENTITY)


@pytest.mark.parametrize("error", [ValueError("a secret path"), KeyError("x"), AssertionError()])
def test_a_defect_of_ours_is_a_500_that_tells_nothing(error: Exception) -> None:
    status, _, body = rendered(error)
    assert status == 500
    assert body.code == "serving_error"
    assert "secret" not in body.detail


@pytest.mark.parametrize("message", ["\ud800", "\udfff\x00\x1f", 'quote " back \\ slash', "é 漢 🎈", "line\nbreak"])
def test_any_text_can_be_quoted(message: str) -> None:
    error = InvalidInput(Fault(pointer="#/a", code="wrong", message=message))
    _, _, data = render(error, ID)
    assert data.isascii()
    assert json.loads(data)["errors"][0]["detail"] == message


def test_each_fault_is_an_entry() -> None:
    faults = [Fault(pointer=f"#/instances/{row}", code="wrong", message=f"wrong {row}") for row in range(5)]
    _, _, body = rendered(InvalidInput(*faults))
    assert body.errors is not None
    assert [(entry.pointer, entry.code, entry.detail) for entry in body.errors] == [
        (fault.pointer, fault.code, fault.message) for fault in faults
    ]


def test_each_rejected_item_is_an_entry() -> None:
    _, _, body = rendered(ModelRejectedInput("the model fails on it", rows=(2, 5)))
    assert body.errors is not None
    assert [(entry.pointer, entry.code) for entry in body.errors] == [
        ("#/instances/2", "model_rejected_input"),
        ("#/instances/5", "model_rejected_input"),
    ]


def test_other_errors_have_no_entries() -> None:
    _, _, data = render(errors.MalformedBody("no"), ID)
    assert "errors" not in json.loads(data)


@pytest.mark.parametrize(("seconds", "header"), [(0.0, b"1"), (0.2, b"1"), (1.0, b"1"), (1.1, b"2"), (90.5, b"91")])
def test_whoever_is_refused_learns_in_whole_seconds_when_to_come_back(seconds: float, header: bytes) -> None:
    status, headers, _ = rendered(Overloaded("full", retry_after_s=seconds))
    assert (status, headers[b"retry-after"]) == (503, header)


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_every_429_and_503_and_nothing_else_says_when_to_come_back(cls: type[ServingError]) -> None:
    status, headers, _ = rendered(make(cls))
    assert (b"retry-after" in headers) == (status in (429, 503))
    assert re.fullmatch(rb"[1-9]\d*", headers.get(b"retry-after", b"1"))


def test_the_media_type_is_that_of_rfc_9457() -> None:
    assert problem.MEDIA_TYPE == "application/problem+json"
