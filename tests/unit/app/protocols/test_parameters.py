import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.protocols import parameters
from app.protocols.parameters import NONE, Parameters


@given(st.text(max_size=20), st.booleans())
def test_no_body_with_the_member_goes_unnoticed(key: str, ascii_only: bool) -> None:
    body = json.dumps({key: {}, "instances": []}, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert parameters.may_hold(body) or key != "parameters"


@pytest.mark.parametrize("spelled", ["parameters", "p\\u0061rameters", "\\u0070arameter\\u0073"])
def test_however_the_member_is_spelled_it_is_noticed(spelled: str) -> None:
    body = f'{{"instances": [], "{spelled}": {{"top_k": 1}}}}'
    assert parameters.may_hold(body.encode())
    rest, found = parameters.part(json.loads(body))
    assert (rest, found) == ({"instances": []}, Parameters(options={"top_k": 1}))


@pytest.mark.parametrize("document", [[], "parameters", None, 1, {}, {"instances": []}])
def test_a_document_without_the_member_is_left_as_it_is(document: Any) -> None:
    assert parameters.part(document) == (document, NONE)


@pytest.mark.parametrize(
    ("member", "found"),
    [
        (None, NONE),
        ({}, NONE),
        ({"model": "cnn"}, Parameters("cnn")),
        ({"version": 2}, Parameters(version="2")),
        ({"version": 2.0}, Parameters(version="2")),
        ({"version": "x"}, Parameters(version="x")),
        ({"a": 1, "version": "1", "b": []}, Parameters(version="1", options={"a": 1, "b": []})),
    ],
)
def test_model_and_version_are_told_apart_from_options(member: object, found: Parameters) -> None:
    document = {"instances": [1], "parameters": member}
    assert parameters.part(document) == ({"instances": [1]}, found)
    assert "parameters" in document  # it is the caller's


@pytest.mark.parametrize("version", [True, 1.5, float("inf"), float("nan"), None, [], {}])
def test_a_version_that_is_none_is_refused(version: object) -> None:
    with pytest.raises(InvalidInput, match="#/parameters/version: expected a version"):
        parameters.part({"parameters": {"version": version}})


@pytest.mark.parametrize("model", [True, 1, None, [], {}])
def test_a_model_that_is_no_name_is_refused(model: object) -> None:
    with pytest.raises(InvalidInput, match="#/parameters/model: expected the name of a model"):
        parameters.part({"parameters": {"model": model}})


def test_two_names_of_a_model_have_to_be_the_same() -> None:
    document = {"model": "cnn", "parameters": {"model": "cnn"}}
    assert parameters.part(document) == ({"model": "cnn"}, Parameters("cnn"))
    with pytest.raises(InvalidInput, match=r"#/parameters/model: .*'cnn', found 'mlp'"):
        parameters.part(document | {"parameters": {"model": "mlp"}})
    with pytest.raises(InvalidInput, match=r"#/parameters/model: expected 'cnn'.*'mlp'"):
        Parameters("mlp").expect("cnn")
    assert Parameters().expect("cnn") == Parameters("cnn").expect("cnn") == "cnn"
