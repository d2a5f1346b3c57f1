import json
import re
from http import HTTPStatus

import pytest

from app import errors
from app.errors import Fault, InvalidInput, Overloaded, ServingError
from app.protocols import problem
from app.protocols.open_inference.errors import ErrorAnswer, render, status_of
from tests.unit.app.protocols.test_problem import EVERY, make

ID = b"test-1"


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_every_error_is_written_as_the_protocol_does(cls: type[ServingError]) -> None:
    status, headers, body = render(make(cls), ID)
    assert status == status_of(make(cls))
    assert dict(headers)[b"content-type"] == b"application/json"
    assert dict(headers)[b"content-length"] == b"%d" % len(body)
    assert ErrorAnswer.model_validate(json.loads(body), extra="forbid").error == "what happened"


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_statuses_are_those_of_the_other_doors_but_for_bad_tensors(cls: type[ServingError]) -> None:
    status = problem.STATUS[cls]
    assert status_of(make(cls)) == (HTTPStatus.BAD_REQUEST if status == HTTPStatus.UNPROCESSABLE_ENTITY else status)


def test_fault_of_a_tensor_is_told_with_its_place() -> None:
    _, _, body = render(InvalidInput(Fault(pointer="inputs/image", code="wrong_shape", message="too long")), ID)
    assert json.loads(body) == {"error": "inputs/image: too long"}


@pytest.mark.parametrize("message", ["\ud800", "\udfff\x00\x1f", 'quote " back \\ slash', "é 漢 🎈", "line\nbreak"])
def test_any_text_can_be_quoted(message: str) -> None:
    _, _, body = render(errors.MalformedBody(message), ID)
    assert body.isascii()
    assert json.loads(body) == {"error": message}


def test_error_without_words_says_at_least_its_kind() -> None:
    assert json.loads(render(errors.MalformedBody(), ID)[2]) == {"error": "Malformed body"}


@pytest.mark.parametrize("error", [ValueError("a secret path"), KeyError("x"), AssertionError()])
def test_a_defect_of_ours_is_a_500_that_tells_only_where_to_look(error: Exception) -> None:
    status, _, body = render(error, ID)
    assert (status, json.loads(body)) == (500, {"error": "the service failed; its log tells of request test-1"})


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_every_429_and_503_and_nothing_else_says_when_to_come_back(cls: type[ServingError]) -> None:
    status, headers, _ = render(make(cls), ID)
    assert (b"retry-after" in dict(headers)) == (status in (429, 503))
    assert re.fullmatch(rb"[1-9]\d*", dict(headers).get(b"retry-after", b"1"))


def test_overload_is_told_with_the_seconds_that_were_worked_out() -> None:
    assert dict(render(Overloaded("full", retry_after_s=90.5), ID)[1])[b"retry-after"] == b"91"


def test_whoever_has_no_key_is_told_what_kind_of_key() -> None:
    _, headers, _ = render(errors.WrongKey("no key"), ID)
    assert dict(headers)[b"www-authenticate"] == b"Bearer"
