"""The tree of errors is the one that is drawn; nothing of httpx gets past the border."""

import inspect
import re
from typing import Any

import httpx
import pytest

import zero_to_one_client
from clients.python.tests.support.callers import Caller, Failing
from clients.python.tests.support.scripted import CARD, Reply, in_turn, problem, scripted
from zero_to_one_client import (
    BadRequest,
    ClientError,
    InvalidRequest,
    Limit,
    MissingExtra,
    Options,
    Problem,
    RetryPolicy,
    ServiceError,
    ServiceFailed,
    UnexpectedAnswer,
    errors,
    transport,
)
from zero_to_one_client.errors import Fault, error_of, placed

RAISED = sorted(transport.TRANSLATIONS, key=lambda error: error.__name__)


def test_the_tree_is_the_one_that_is_drawn() -> None:
    drawing = (errors.__doc__ or "").partition("::\n\n")[2].partition("\n\nA 504")[0]
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in inspect.cleandoc(drawing).splitlines():
        found = re.match(r"([│├└─\s]*)(\w+)", line)
        assert found is not None
        depth = len(found[1]) // 4
        path[depth:] = [found[2]]
        drawn[found[2]] = path[depth - 1] if depth else "Exception"
    classes = {
        name: next(base.__name__ for base in kind.__bases__ if issubclass(base, (ClientError, Exception)))
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, ClientError)
    }
    assert drawn == classes


def test_every_error_is_told_by_the_package() -> None:
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, ClientError)}
    assert kinds <= set(zero_to_one_client.__all__)


def test_no_exception_of_httpx_is_unknown_at_the_border() -> None:
    public = {kind for name in httpx.__all__ if isinstance(kind := getattr(httpx, name), type)}
    known = {*transport.TRANSLATIONS, *transport.NOT_RAISED}
    assert {kind for kind in public if issubclass(kind, Exception)} == known
    assert not set(transport.TRANSLATIONS) & transport.NOT_RAISED


@pytest.mark.parametrize("error", RAISED, ids=lambda error: error.__name__)
def test_an_exception_of_httpx_comes_out_as_one_of_the_client(caller: Caller, error: type[Exception]) -> None:
    failing = Failing(error("what happened"))
    client = caller.client("http://localhost", Options(retry=RetryPolicy(max_tries=1)), transport_of_http=failing)
    with pytest.raises(ClientError, match=error.__name__) as raised:
        client.models()
    assert type(raised.value) is transport.TRANSLATIONS[error]
    assert raised.value.__cause__ is failing.error


def test_an_exception_that_httpx_does_not_have_yet_is_taken_for_its_parent(caller: Caller) -> None:
    class NewError(httpx.ReadError):
        pass

    client = caller.client(
        "http://localhost", Options(retry=RetryPolicy(max_tries=1)), transport_of_http=Failing(NewError("x"))
    )
    with pytest.raises(errors.ConnectionLost):
        client.models()


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://host", "http://", "", "http://host?x=1", "http://host:port", "/path"]
)
def test_what_is_no_address_is_refused_at_once(caller: Caller, url: str) -> None:
    with pytest.raises(InvalidRequest):
        caller.client(url)


@pytest.mark.parametrize(
    "body", [b"<html>", b"[1]", b"\xff", b"", b"{}", b'{"models": 5}', b'{"models": [5]}', b"[" * 100_000]
)
def test_what_no_service_of_ours_says_is_unexpected(caller: Caller, body: bytes) -> None:
    with scripted(lambda _: Reply(body=body)) as server:
        client = caller.client(server.url)
        if body == b"{}":
            assert client.models() == ()
        else:
            with pytest.raises(UnexpectedAnswer):
                client.models()
        with pytest.raises(UnexpectedAnswer):
            client.predict("echo", [{"x": 1.0}])


@pytest.mark.parametrize(
    "change",
    [
        {"limits": None}, {"limits": {}}, {"name": 5}, {"inputs": [{"name": "x"}]}, {"task_settings": []},
        {"limits": CARD["limits"] | {"max_instances": True}},
    ],
)  # fmt: skip
def test_a_card_that_is_none_is_unexpected(caller: Caller, change: dict[str, object]) -> None:
    with scripted(lambda _: Reply(), CARD | change) as server, pytest.raises(UnexpectedAnswer):
        caller.client(server.url).card("echo")


def test_fewer_predictions_than_instances_are_no_answer(caller: Caller) -> None:
    document = {"model": "echo", "version": "1", "predictions": [{"value": 1.0}]}
    fewer = pytest.raises(UnexpectedAnswer, match="expected 2 predictions, found 1")
    with scripted(lambda _: Reply(document=document)) as server, fewer:
        caller.client(server.url).predict("echo", [{"x": 1.0}, {"x": 2.0}])


@pytest.mark.parametrize(
    ("reply", "kind", "code", "detail"),
    [
        (Reply(status=400, document={"error": "no tensor 'x'"}), BadRequest, "bad_request", "no tensor 'x'"),
        (Reply(status=418, body=b"a teapot"), BadRequest, "i'm_a_teapot", "a teapot"),
        (Reply(status=500, body=b"\xff\xfe"), ServiceFailed, "internal_server_error", "\ufffd\ufffd"),
        (Reply(status=400, document=[1]), BadRequest, "bad_request", "[1]"),
        (Reply(status=400, document={"errors": 5, "code": 6}), BadRequest, "bad_request", '{"errors": 5, "code": 6}'),
    ],
)
def test_whoever_wrote_an_error_it_is_read(
    caller: Caller, reply: Reply, kind: type[ServiceError], code: str, detail: str
) -> None:
    with scripted(lambda _: reply) as server, pytest.raises(kind) as raised:
        caller.client(server.url).models()
    assert (raised.value.code, raised.value.problem.detail) == (code, detail)
    assert raised.value.status == reply.status


def test_faults_are_read_by_their_places(caller: Caller) -> None:
    entries = [{"pointer": "#/instances/0/features/x", "code": "wrong_type", "detail": "a text"}, {}, 7]
    script = in_turn(problem(422, "invalid_input", errors=entries))
    with scripted(script) as server, pytest.raises(errors.InvalidInput) as raised:
        caller.client(server.url).predict("echo", [{"x": "y"}])
    assert raised.value.faults == (
        Fault(pointer="#/instances/0/features/x", code="wrong_type", detail="a text"),
        Fault(pointer="#", code="", detail=""),
    )


@pytest.mark.parametrize(
    ("told", "limit"),
    [
        ({"name": "max_body_bytes", "value": 8}, Limit(name="max_body_bytes", value=8)),
        ({"name": "rate_limit", "value": "1 in 60 s"}, Limit(name="rate_limit", value="1 in 60 s")),
        ({"name": "max_body_bytes", "value": True}, None), ({"name": 5, "value": 8}, None), ({"name": "x"}, None),
        ("max_body_bytes", None), (None, None),
    ],
)  # fmt: skip
def test_limit_that_was_met_is_told_and_what_is_none_is_not(caller: Caller, told: Any, limit: Limit | None) -> None:
    script = in_turn(problem(429, "rate_limited", limit=told))
    with scripted(script) as server, pytest.raises(errors.RateLimited) as raised:
        caller.client(server.url).models()
    assert raised.value.limit == raised.value.problem.limit == limit


def test_places_in_a_part_are_counted_over_the_whole_call() -> None:
    pointers = ["#/instances/2/image", "#/instances/0", "#", "query:top_k", "#/instances/x"]
    faults = tuple(Fault(pointer=pointer, code="c", detail="d") for pointer in pointers)
    error = error_of(Problem(status=422, code="invalid_input", title="", detail="why", faults=faults))
    assert isinstance(error, ServiceError)
    moved = placed(error, 1024, 2048)
    assert type(moved) is errors.InvalidInput
    assert [fault.pointer for fault in moved.faults] == [
        "#/instances/1026/image", "#/instances/1024", "#", "query:top_k", "#/instances/x",
    ]  # fmt: skip
    assert "of instances 1024 to 2047: why" in str(moved)


def test_an_extra_that_is_missing_is_named() -> None:
    assert "pip install 'zero-to-one-client[numpy]'" in str(MissingExtra("infer", "numpy"))


@pytest.mark.parametrize("model", ["", ".", "..", "a\ud800", None, 5])
def test_what_no_path_can_hold_is_refused_before_it_is_sent(caller: Caller, model: Any) -> None:
    with scripted(lambda _: Reply()) as server:
        client = caller.client(server.url, Options(binary=False))
        for ask in (
            client.card,
            lambda name: client.predict(name, [{"x": 1}]),
            lambda name: client.infer(name, {"x": [1]}),
        ):
            with pytest.raises(InvalidRequest, match="model: "):
                ask(model)
        with pytest.raises(InvalidRequest, match="version: "):
            client.predict("echo", [{"x": 1}], version="\ud800")
        with pytest.raises(InvalidRequest, match="version: "):
            client.infer("echo", {"features": [[1.0]]}, version="\ud800")
    assert not server.asked


@pytest.mark.parametrize(
    "wrong",
    [
        {"api_key": "ключ"}, {"api_key": "a\nb"}, {"api_key": ""}, {"headers": {"x": "ü"}}, {"headers": {"x y": "1"}},
        {"headers": {"x": "a\r\nb: c"}},
    ],
)  # fmt: skip
def test_what_no_header_can_hold_is_refused_at_once(caller: Caller, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        caller.client("http://127.0.0.1:9", **wrong)
    assert "ключ" not in str(refused.value)
