import json

import pytest

from app.errors import InvalidInput, MalformedBody
from app.protocols.open_inference.repository import expect_parameters, outcome, read_command, read_index_request
from app.serving.repository import Reached, Wish


@pytest.mark.parametrize(
    ("body", "only_ready"),
    [(b"", False), (b" \n", False), (b"{}", False), (b'{"ready": false}', False), (b'{"ready": true}', True),
     (b'{"repository_name": "", "ready": true}', True)],
)  # fmt: skip
def test_index_is_of_everything_unless_it_is_asked_for_less(body: bytes, only_ready: bool) -> None:
    assert read_index_request(body) is only_ready


@pytest.mark.parametrize("body", [b"null", b"[]", b'"x"', b"1", b'{"ready": "yes"}', b'{"ready": null}', b'{"all": 1}'])
def test_body_that_is_no_request_for_the_index_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_index_request(body)


@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"ready": true, "ready": false}', b"\xef\xbb\xbf{}"])
def test_body_that_is_no_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        read_index_request(body)
    with pytest.raises(MalformedBody):
        read_command(body, "load")


@pytest.mark.parametrize("wish", ["load", "unload"])
@pytest.mark.parametrize("body", [b"", b"{}", b'{"parameters": {}}'])
def test_command_needs_no_body(body: bytes, wish: Wish) -> None:
    read_command(body, wish)


@pytest.mark.parametrize("value", [True, False])
def test_dependents_may_be_unloaded_since_there_are_none(value: bool) -> None:
    read_command(json.dumps({"parameters": {"unload_dependents": value}}).encode(), "unload")


@pytest.mark.parametrize(
    ("wish", "parameters", "message"),
    [
        ("load", {"config": "{}"}, "parameter:config: models are loaded as they lie in the models folder"),
        ("load", {"file:1/model.onnx": "AAAA"}, "parameter:file:1/model.onnx: models are loaded as they lie"),
        ("load", {"unload_dependents": True}, "#/parameters/unload_dependents: nothing of that name is read here"),
        ("unload", {"config": "{}"}, "#/parameters/config: nothing of that name is read here; there is: unload_dep"),
        ("unload", {"unload_dependents": 1}, "parameter:unload_dependents: expected true or false, found 1"),
        ("unload", {"x" * 10_000: 1}, "#/parameters/xxxx"),
    ],
)
def test_parameters_that_are_not_offered_are_refused(wish: Wish, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        expect_parameters(parameters, wish)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("body", [b"[]", b'{"parameters": []}', b'{"config": "{}"}'])
def test_body_that_is_no_command_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_command(body, "load")


def test_outcome_names_each_worker_and_what_it_serves() -> None:
    reached = [Reached(worker=0, ready=("1", "2")), Reached(worker=1, ready=("2",))]
    assert outcome("cnn", "load", reached) == {
        "name": "cnn",
        "state": "READY",
        "workers": [{"worker": 0, "versions": ["1", "2"]}, {"worker": 1, "versions": ["2"]}],
    }
    assert outcome("cnn", "unload", [])["state"] == "UNAVAILABLE"
