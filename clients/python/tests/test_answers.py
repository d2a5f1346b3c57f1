"""What is answered is held against what was asked; what is not ready yet is waited for."""

import struct
import sys
from typing import Any

import httpx
import numpy as np
import pytest

from clients.python.tests.support.callers import Caller, Failing
from clients.python.tests.support.scripted import CARD, HANG_UP, Answering, Reply, echo, in_turn, scripted
from zero_to_one_client import (
    DeadlineExceeded,
    InvalidRequest,
    MissingExtra,
    NotFound,
    ServiceFailed,
    Timing,
    UnexpectedAnswer,
    extras,
)
from zero_to_one_client.receipts import Receipt

OCTETS = "application/octet-stream"
FEATURES = np.zeros((2, 1), np.float32)


def tensor(told: str | None, body: bytes) -> Answering:
    headers = {"content-type": OCTETS, "x-model-version": "7"} | ({} if told is None else {"x-tensor": told})
    return in_turn(Reply(headers=headers, body=body))


def test_a_tensor_is_read_as_it_is_described(caller: Caller) -> None:
    with scripted(tensor("value; dtype=float32; shape=2", struct.pack("<2f", 1.5, -2))) as server:
        answer = caller.client(server.url).predict("echo", FEATURES)
    assert [prediction.value for prediction in answer] == [1.5, -2.0]
    (asked,) = server.asked
    assert (asked.headers["accept"], asked.headers["content-type"]) == (OCTETS, OCTETS)
    assert asked.path == "/predict/echo?tensor=value"
    assert asked.body == bytes(8)


@pytest.mark.parametrize(
    ("told", "body"),
    [
        (None, bytes(8)),
        ("value", bytes(8)),
        ("value; dtype=object; shape=2", bytes(8)),
        ("value; dtype=float32; shape=-2", bytes(8)),
        ("value; dtype=float32; shape=2", bytes(7)),
        ("value; dtype=float32; shape=3", bytes(12)),
        ("value; dtype=float32; shape=2,1", bytes(8)),
        ("value; dtype=float7; shape=2", bytes(8)),
        (f"value; dtype=float32; shape={'9' * 5000}", bytes(8)),
    ],
)
def test_a_tensor_that_is_not_what_was_asked_for_is_no_answer(caller: Caller, told: str | None, body: bytes) -> None:
    with scripted(tensor(told, body)) as server, pytest.raises(UnexpectedAnswer):
        caller.client(server.url).predict("echo", FEATURES)


def test_probabilities_of_other_labels_are_no_answer(caller: Caller) -> None:
    card = CARD | {"task": "tabular_classification", "task_settings": CARD["task_settings"] | {"labels": ["a", "b"]}}
    script = tensor("probabilities; dtype=float32; shape=2,3", bytes(24))
    wrong = pytest.raises(UnexpectedAnswer, match="expected 2 probabilities a row")
    with scripted(script, card) as server, wrong:
        caller.client(server.url).predict("echo", FEATURES)


def test_an_answer_in_json_is_read_where_bytes_were_asked_for(caller: Caller) -> None:
    document = {"version": "7", "predictions": [{"value": 1}, {"value": 2.5}]}
    with scripted(in_turn(Reply(document=document))) as server:
        answer = caller.client(server.url).predict("echo", FEATURES)
    assert [prediction.value for prediction in answer] == [1.0, 2.5]
    assert answer.version == "7"


def test_what_is_no_row_of_the_model_goes_as_json(caller: Caller) -> None:
    """So that the service says in its own words what is wrong with it."""
    card = CARD | {"inputs": [{"name": "features", "dtype": "float32", "shape": ["batch", 2]}]}
    with scripted(echo, card) as server:
        client = caller.client(server.url)
        for rows in ([{"x": np.float32(1)}], [{"x": 1.0}, {"x": np.int64(2)}]):
            client.predict("echo", rows)
        with pytest.raises(InvalidRequest, match="expected 1 numbers"):
            client.predict("echo", np.zeros((2, 3)))
    with scripted(echo) as other:
        caller.client(other.url).predict("echo", np.array([[1.5]], object))
    asked = [*server.asked, *other.asked]
    assert [one.headers["content-type"] for one in asked] == ["application/json"] * 3


@pytest.mark.parametrize(
    "document",
    [
        {"version": "1", "predictions": [{"value": "x"}]},
        {"version": "1", "predictions": [{"value": True}]},
        {"version": "1", "predictions": [{}]},
        {"version": "1", "predictions": 5},
        {"version": 1, "predictions": [{"value": 1.0}]},
        {"predictions": [{"value": 1.0}]},
    ],
)
def test_a_prediction_of_another_form_is_no_answer(caller: Caller, document: Any) -> None:
    with scripted(in_turn(Reply(document=document))) as server, pytest.raises(UnexpectedAnswer):
        caller.client(server.url).predict("echo", [{"x": 1.0}])


@pytest.mark.parametrize("anomaly", [None, 0, "no"])
def test_an_anomaly_is_true_or_false(caller: Caller, anomaly: Any) -> None:
    image = {"height": 1, "width": 1, "mode": "L", "low": 0, "high": 255}
    card = CARD | {"task": "image_reconstruction", "task_settings": {"image": image, "threshold": 0.1}}
    script = in_turn(Reply(document={"version": "1", "predictions": [{"anomaly": anomaly}]}))
    with scripted(script, card) as server, pytest.raises(UnexpectedAnswer):
        caller.client(server.url).predict("echo", [[[0]]])


LABELED = CARD | {
    "task": "tabular_classification",
    "task_settings": CARD["task_settings"] | {"labels": ["no", "yes"]},
    "outputs": [{"name": "probabilities", "dtype": "float32", "shape": ["batch", 2]}],
}


def test_a_model_that_was_exchanged_is_read_by_its_own_labels(caller: Caller) -> None:
    card = LABELED | {"version": "1", "versions": []}
    with scripted(tensor("probabilities; dtype=float32; shape=1,2", struct.pack("<2f", 0.75, 0.25)), card) as server:
        client = caller.client(server.url)
        assert client.card("echo").labels == ("no", "yes")
        card |= {"version": "7", "task_settings": {**LABELED["task_settings"], "labels": ["yes", "no"]}}
        (prediction,) = client.predict("echo", FEATURES[:1])
    assert prediction.label == "yes"
    assert prediction.probabilities == {"yes": 0.75, "no": 0.25}


@pytest.mark.parametrize("count", [0, -1, 2.5, "2"])
def test_labels_that_cannot_be_counted_are_refused_for_bytes_as_for_json(caller: Caller, count: Any) -> None:
    with scripted(in_turn(HANG_UP), LABELED) as server:
        client = caller.client(server.url)
        for instances in (FEATURES, FEATURES.tolist()):
            with pytest.raises(InvalidRequest, match="top_k: expected a whole number above 0"):
                client.predict("echo", instances, top_k=count)
    assert not server.asked


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": "time_travel"}, "'time_travel', which this client does not know"),
        ({"task": None, "reason": "no manifest", "task_settings": None}, "no task: no manifest"),
    ],
)
def test_a_task_that_is_not_known_is_named(caller: Caller, change: dict[str, Any], said: str) -> None:
    with scripted(echo, CARD | change) as server, pytest.raises(InvalidRequest, match=said):
        caller.client(server.url).predict("echo", [{"x": 1.0}])


def test_a_card_without_the_output_of_its_task_says_so(caller: Caller) -> None:
    with scripted(echo) as server:
        card = caller.client(server.url).card("echo")
    assert card.output("value").shape == ("batch",)
    with pytest.raises(UnexpectedAnswer, match="'logits'"):
        card.output("logits")


def test_a_card_is_kept_as_soon_as_it_tells_the_task(caller: Caller) -> None:
    card = dict(CARD) | {"task": None}
    with scripted(echo, card) as server:
        client = caller.client(server.url)
        assert client.card("echo").task is None
        card |= CARD
        kept = client.card("echo")
        assert kept.task == "tabular_regression"
        assert client.card("echo") is kept


@pytest.mark.parametrize(
    ("header", "timing"),
    [
        (
            'parse;dur=0.970, queue;dur=0.026, compute;dur=0.463, batch;desc="rows=3"',
            Timing(parse_ms=0.97, queue_ms=0.026, compute_ms=0.463, batch_rows=3),
        ),
        ("parse;dur=0.970", None),
        ('parse;dur=.., queue;dur=0.026, compute;dur=0.463, batch;desc="rows=3"', None),
        ("", None),
        ("cdn-cache; desc=HIT", None),
    ],
)
def test_a_receipt_tells_what_the_headers_do(header: str, timing: Timing | None) -> None:
    receipt = Receipt.of({"server-timing": header}, version="3", rows=2, tries=1)
    assert receipt == Receipt(request_id="", version="3", timing=timing, rows=2, tries=1)


def ready(status: str, state: str, reason: str | None = None) -> Reply:
    models = {"echo": {"state": state, "reason": reason}}
    return Reply(status=200 if status == "ready" else 503, document={"status": status, "models": models})


def test_a_service_that_is_on_its_way_is_waited_for(caller: Caller) -> None:
    nobody = Reply(status=503, body=b"<html>no upstream</html>")
    script = in_turn(HANG_UP, nobody, ready("not_ready", "loading"), ready("ready", "ready"))
    with scripted(script) as server:
        assert caller.client(server.url).wait_until_ready(10).is_ready
    assert len(server.asked) == 4
    assert caller.clock.slept_s == [0.1] * 3


def test_one_model_may_be_ready_before_the_service_is(caller: Caller) -> None:
    with scripted(in_turn(ready("not_ready", "ready"))) as server:
        assert not caller.client(server.url).wait_until_ready(10, models=["echo"]).is_ready
        with pytest.raises(DeadlineExceeded, match="within 1 s: not_ready"):
            caller.client(server.url).wait_until_ready(1)


def test_what_is_waited_for_in_vain_is_told(caller: Caller) -> None:
    with scripted(in_turn(ready("not_ready", "failed", "the digest"))) as server:
        with pytest.raises(DeadlineExceeded, match="not ready within 1 s: echo: the digest"):
            caller.client(server.url).wait_until_ready(1)
        failing = Failing(httpx.ReadTimeout("slow"))
        with pytest.raises(DeadlineExceeded, match="not ready within 1 s: no answer yet"):
            caller.client(server.url, transport_of_http=failing).wait_until_ready(1)


@pytest.mark.parametrize(("status", "error"), [(404, NotFound), (500, ServiceFailed), (204, UnexpectedAnswer)])
def test_what_will_never_be_ready_is_not_waited_for(caller: Caller, status: int, error: type[Exception]) -> None:
    with scripted(in_turn(Reply(status=status))) as server, pytest.raises(error):
        caller.client(server.url).wait_until_ready(10)
    assert len(server.asked) == 1


def test_an_address_below_a_path_is_kept(caller: Caller) -> None:
    with scripted(in_turn(Reply(document={"models": []}))) as server:
        assert caller.client(f"{server.url}/below/").models() == ()
    assert server.asked[0].path == "/below/models"


def test_what_needs_numpy_says_so_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert not extras.is_array(FEATURES)
    with pytest.raises(MissingExtra, match=r"infer needs .*zero-to-one-client\[numpy\]"):
        extras.numpy("infer")
