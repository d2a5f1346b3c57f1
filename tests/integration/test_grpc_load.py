"""Over gRPC under load: deadlines, full queues, and callers who leave."""

import queue
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton

from tests.support.bundles import dummy_bundle, held
from tests.support.grpc_calls import INFER, PICTURE, counted, inputs_of, message, queue_rows, refusal, send
from tests.support.server import RunningService, serve
from tests.support.workers import wait_for

SLOW = message(model="slow").SerializeToString()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dummy_bundle(tmp_path_factory.mktemp("models"), "slow", behavior={"heeds_faults": True}, rows=2, max_rows=1)


@pytest.fixture(scope="module")
def slow(folder: Path) -> Iterator[RunningService]:
    with serve(folder.parents[1], grpc_port=0, run_on="thread", max_queue_rows=8, max_instances=8) as running:
        yield running


def of_rows(rows: int) -> bytes:
    return message({"image": np.ones((rows, 2, 3), np.float32)}, model="slow").SerializeToString()


def test_a_deadline_that_cannot_be_kept_is_told_at_once(slow: RunningService, folder: Path) -> None:
    failed = refusal(slow, SLOW, metadata=(("x-request-timeout-ms", "x"),))
    assert failed.code() is grpc.StatusCode.INVALID_ARGUMENT
    with held(folder), grpc.insecure_channel(slow.grpc_target) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(INFER)(SLOW, timeout=0.1)
        assert isinstance(caught.value, grpc.Call)
        # refused since it would come too late, or given up on: never answered late
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def test_a_full_queue_refuses_and_says_when_to_come_back(slow: RunningService, folder: Path) -> None:
    with grpc.insecure_channel(slow.grpc_target) as channel:
        infer = channel.unary_unary(INFER)
        with held(folder) as is_waiting:
            first = infer.future(of_rows(8), timeout=60)
            wait_for(is_waiting, slow)
            for call in [infer.future(of_rows(8), timeout=60) for _ in range(5)]:
                assert isinstance(call.exception(), grpc.RpcError)
                assert call.code() is grpc.StatusCode.UNAVAILABLE
                assert int(dict(call.trailing_metadata())["retry-after"]) >= 1
            assert not first.done()
        assert first.exception() is None


def test_messages_that_are_held_are_bounded_together(tmp_path: Path) -> None:
    folder = dummy_bundle(tmp_path, "slow", behavior={"heeds_faults": True}, rows=2, max_rows=1)
    limits = {"max_incoming_bytes": 1024, "max_body_bytes": 1024, "run_on": "thread"}
    with (
        serve(tmp_path, grpc_port=0, **limits) as running,
        triton.InferenceServerClient(running.grpc_target) as client,
    ):
        ended: queue.Queue[Exception | None] = queue.Queue()
        padded = inputs_of(PICTURE)

        def end(result: object, error: Exception | None) -> None:
            ended.put(error)

        with held(folder):
            for number in range(40):
                client.async_infer("slow", padded, end, request_id=f"{number:0>200}", client_timeout=60)
            told = [ended.get(timeout=60) for _ in range(36)]  # four are as large as may be
        told += [ended.get(timeout=60) for _ in range(4)]
        refused = [error for error in told if error is not None]
        assert all("too many large bodies are on their way" in str(error) for error in refused)
        assert len(refused) == 36
        client.infer("slow", padded)


def test_who_gives_up_is_dropped_from_the_queue(slow: RunningService, folder: Path) -> None:
    before = counted(slow, door="grpc", model="slow", status="CANCELLED")
    with grpc.insecure_channel(slow.grpc_target) as channel:
        with held(folder):
            calls = [channel.unary_unary(INFER).future(of_rows(4), timeout=60) for _ in range(2)]
            wait_for(lambda: queue_rows(slow, "slow") == 7, slow)  # and one runs
            for call in calls:
                call.cancel()
            wait_for(lambda: counted(slow, door="grpc", model="slow", status="CANCELLED") == before + 2, slow)
        # what had begun is finished, and nothing of what was waiting is
        send(slow, SLOW)
        assert queue_rows(slow, "slow") == 0
