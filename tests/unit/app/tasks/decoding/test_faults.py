import json
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import InvalidInput
from app.tasks.decoding.faults import MAX_FAULTS, invalid_input, pointer


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    numbers: list[Annotated[int, Field(ge=0)]] = []


def translate(document: Any, **options: Any) -> InvalidInput:
    with pytest.raises(ValidationError) as caught:
        Body.model_validate(document)
    return invalid_input(caught.value, **options)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        # RFC 6901, section 6, all of its examples
        ((), "#"),
        (("foo",), "#/foo"),
        (("foo", 0), "#/foo/0"),
        (("",), "#/"),
        (("a/b",), "#/a~1b"),
        (("c%d",), "#/c%25d"),
        (("e^f",), "#/e%5Ef"),
        (("g|h",), "#/g%7Ch"),
        (("i\\j",), "#/i%5Cj"),
        (('k"l',), "#/k%22l"),
        ((" ",), "#/%20"),
        (("m~n",), "#/m~0n"),
        # and beyond it
        (("~1",), "#/~01"),
        (("é",), "#/%C3%A9"),
        (("\ud800",), "#/%3F"),
        (("instances", 12, "image", 0, 27), "#/instances/12/image/0/27"),
    ],
)
def test_pointers_are_escaped_as_rfc_6901_says(parts: tuple[str | int, ...], expected: str) -> None:
    assert pointer(*parts) == expected


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4))
def test_a_pointer_can_be_followed_back(parts: list[str]) -> None:
    text = pointer(*parts)
    assert text.isascii()
    fragment = unquote(urlsplit(text).fragment)
    back = [token.replace("~1", "/").replace("~0", "~") for token in fragment.split("/")[1:]]
    assert back == parts


def test_each_error_is_a_fault_with_place_code_and_message() -> None:
    error = translate({"numbers": [1, -1, "x"], "a/b": 1})
    assert [(fault.pointer, fault.code) for fault in error.faults] == [
        ("#/numbers/1", "greater_than_equal"),
        ("#/numbers/2", "int_parsing"),
        ("#/a~1b", "extra_forbidden"),
    ]
    assert all(fault.message for fault in error.faults)
    assert str(error).startswith("#/numbers/1: ")


def test_a_fault_of_the_whole_body_points_at_it() -> None:
    assert [fault.pointer for fault in translate([]).faults] == ["#"]


def test_a_fault_of_the_query_names_the_parameter() -> None:
    assert [fault.pointer for fault in translate({"numbers": [-1]}, place="query").faults] == ["query:numbers.0"]


@pytest.mark.parametrize(("count", "more"), [(MAX_FAULTS, 0), (MAX_FAULTS + 1, 1), (MAX_FAULTS + 100, 100)])
def test_faults_are_spelled_out_up_to_a_limit_and_counted_beyond(count: int, more: int) -> None:
    error = translate({"numbers": [-1] * count})
    assert len(error.faults) == MAX_FAULTS
    assert (f"(and {more} more)" in str(error)) == (more > 0)


def test_the_values_of_a_request_are_not_repeated() -> None:
    error = translate({"numbers": ["a private letter"]})
    assert "private" not in json.dumps([fault.message for fault in error.faults]) + str(error)
