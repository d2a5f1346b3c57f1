"""A batch of any size comes out whole and in its order, whatever the limits are and whoever is first."""

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.python.tests.support.callers import Caller
from clients.python.tests.support.flowing import run
from clients.python.tests.support.scripted import CARD, Asked, Reply, echo, in_turn, problem, scripted
from zero_to_one_client import InvalidInput, Options, RetryPolicy, TooLarge
from zero_to_one_client.calls import Calls
from zero_to_one_client.flows import HttpRequest, HttpResponse
from zero_to_one_client.splitting import halves, split

SIZES = st.lists(st.integers(1, 50), max_size=60)


@given(SIZES, st.integers(1, 20), st.integers(1, 200))
def test_parts_hold_everything_once_and_keep_the_limits(sizes: list[int], max_rows: int, max_bytes: int) -> None:
    parts = split(sizes, max_rows=max_rows, max_bytes=max_bytes)
    assert [index for part in parts for index in range(part.start, part.stop)] == list(range(len(sizes)))
    for part in parts:
        held = sizes[part]
        assert 1 <= len(held) <= max_rows
        assert sum(held) <= max_bytes or len(held) == 1


@given(SIZES, st.integers(1, 20), st.integers(1, 200))
def test_no_part_has_room_for_the_next_instance(sizes: list[int], max_rows: int, max_bytes: int) -> None:
    for part in split(sizes, max_rows=max_rows, max_bytes=max_bytes)[:-1]:
        held = sizes[part.start : part.stop + 1]
        assert len(held) > max_rows or sum(held) > max_bytes


@given(st.integers(0, 100), st.integers(2, 100))
def test_halves_are_the_whole(start: int, count: int) -> None:
    left, right = halves(slice(start, start + count))
    assert (left.start, left.stop, right.stop) == (start, right.start, start + count)
    assert 0 <= (left.stop - left.start) - (right.stop - right.start) + 1 <= 1


def card_with(**limits: int) -> dict[str, Any]:
    return CARD | {"limits": CARD["limits"] | limits}


@given(
    count=st.integers(1, 40),
    told=st.integers(1, 20),
    kept=st.integers(1, 20),
    max_bytes=st.integers(60, 400),
    is_binary=st.booleans(),
    data=st.data(),
)
def test_predictions_stand_where_their_instances_stood(
    count: int, told: int, kept: int, max_bytes: int, is_binary: bool, data: st.DataObject
) -> None:
    """The card may tell other limits than are kept by now, and the parts may be answered in any order."""
    asked: list[int] = []

    def service(request: HttpRequest) -> HttpResponse:
        if request.method == "GET":
            return HttpResponse(status=200, headers={}, body=json.dumps(card_with(max_instances=told)).encode())
        if is_binary:
            rows = list(struct.unpack(f"<{len(request.body) // 4}f", request.body))
        else:
            rows = [row["features"]["x"] for row in json.loads(request.body)["instances"]]
        if len(rows) > kept or (len(request.body) > max_bytes and len(rows) > 1):
            return HttpResponse(status=413, headers={}, body=b"")
        asked.append(len(rows))
        if is_binary:
            headers = {
                "content-type": "application/octet-stream",
                "x-tensor": f"value; dtype=float32; shape={len(rows)}",
            }
            return HttpResponse(status=200, headers=headers, body=request.body)
        body = json.dumps({"version": "1", "predictions": [{"value": x} for x in rows]}).encode()
        return HttpResponse(status=200, headers={"content-type": "application/json"}, body=body)

    def order(number: int) -> list[int]:
        return data.draw(st.permutations(range(number)))

    values = np.arange(count, dtype=np.float32)
    instances = values[:, None] if is_binary else [{"x": float(value)} for value in values]
    flow = Calls(Options()).predict("echo", instances, None, version=None, top_k=None, outputs=())
    answer = run(flow, service, order)
    assert [prediction.value for prediction in answer] == values.tolist()  # type: ignore[union-attr]
    assert [receipt.rows for receipt in answer.receipts] == (
        sorted(asked) if len(asked) == 1 else [receipt.rows for receipt in answer.receipts]
    )
    assert sorted(receipt.rows for receipt in answer.receipts) == sorted(asked)
    assert sum(asked) == count


def test_parts_are_asked_for_side_by_side_and_joined_in_order(caller: Caller) -> None:
    rows = [{"x": float(x)} for x in range(25)]
    with scripted(echo, card_with(max_instances=4)) as server:
        answer = caller.client(server.url, Options(max_parallel=3)).predict("echo", rows)
    assert [prediction.value for prediction in answer] == [float(x) for x in range(25)]
    assert [receipt.rows for receipt in answer.receipts] == [4] * 6 + [1]
    assert answer.version == "7"
    assert answer[1:3] == answer.predictions[1:3]


def test_an_instance_that_is_too_large_alone_is_told_by_its_place(caller: Caller) -> None:
    def answer(asked: Asked) -> Reply:
        return problem(413, "body_too_large") if b"2.0" in asked.body else echo(asked)

    with scripted(answer) as server, pytest.raises(TooLarge, match="of instances 2 to 2: it is body_too_large"):
        caller.client(server.url).predict("echo", [{"x": float(x)} for x in range(4)])


def test_one_part_that_fails_fails_all_and_is_told_by_its_place(caller: Caller) -> None:
    fault = {"pointer": "#/instances/1/features/x", "code": "out_of_range", "detail": "too large"}

    def answer(asked: Asked) -> Reply:
        return problem(422, "invalid_input", errors=[fault]) if b"5.0" in asked.body else echo(asked)

    with scripted(answer, card_with(max_instances=4)) as server, pytest.raises(InvalidInput) as raised:
        caller.client(server.url).predict("echo", [{"x": float(x)} for x in range(200)])
    assert [fault.pointer for fault in raised.value.faults] == ["#/instances/5/features/x"]
    assert len(server.asked) < 50


def test_a_part_that_would_be_tried_again_ends_as_soon_as_another_fails(caller: Caller) -> None:
    def answer(asked: Asked) -> Reply:
        return problem(503, "overloaded", retry_after="0") if b"0.0" in asked.body else problem(422, "invalid_input")

    options = Options(retry=RetryPolicy(max_tries=100_000))
    with scripted(answer, card_with(max_instances=1)) as server, pytest.raises(InvalidInput):
        caller.client(server.url, options).predict("echo", [{"x": 0.0}, {"x": 1.5}])
    assert len(server.asked) < 10_000


@pytest.mark.parametrize("code", ["too_many_characters", "too_many_numbers"])
def test_what_is_too_much_together_is_sent_apart(caller: Caller, code: str) -> None:
    fault = {"pointer": "#", "code": code, "detail": "send several requests"}
    with scripted(in_turn(problem(422, "invalid_input", errors=[fault]), echo)) as server:
        answer = caller.client(server.url).predict("echo", [{"x": 1.0}, {"x": 2.0}, {"x": 3.0}])
    assert [prediction.value for prediction in answer] == [1.0, 2.0, 3.0]
    assert [receipt.rows for receipt in answer.receipts] == [1, 2]
