"""One parser for each thread, whatever the model: what each keeps is many times its largest body."""

import threading

import pytest
import simdjson

from app.tasks.decoding import parsers
from app.tasks.decoding.parsers import KEPT_BODY_BYTES, parser_for
from tests.support.tasks import task_of

BODY = b'{"instances":[{"image":[[1,2,3],[4,5,6]]}]}'
DEEP = b'{"instances":' + b"[" * 5000 + b"]" * 5000 + b"}"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every parser that is made meanwhile."""
    found: list[object] = []

    class Noted(simdjson.Parser):  # type: ignore[misc]
        def __init__(self) -> None:
            found.append(self)

    monkeypatch.setattr(parsers.simdjson, "Parser", Noted)
    return found


def test_all_models_of_a_thread_read_with_one_parser(made: list[object]) -> None:
    def read() -> None:
        for name in ("cnn", "mlp", "autoencoder"):
            assert task_of(name=name, height=2, width=3).decode_fast(BODY) is not None

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert len(made) == 1


def test_threads_do_not_share_one() -> None:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(parser_for(1)))
    thread.start()
    thread.join()
    assert found
    assert found[0] is not parser_for(1)


def test_a_body_beyond_the_bound_gets_a_parser_that_nobody_keeps() -> None:
    assert parser_for(KEPT_BODY_BYTES) is parser_for(KEPT_BODY_BYTES)
    assert parser_for(KEPT_BODY_BYTES + 1) is not parser_for(KEPT_BODY_BYTES + 1)
    assert parser_for(KEPT_BODY_BYTES + 1) is not parser_for(1)


def test_a_body_beyond_the_bound_is_read_as_any_other(made: list[object]) -> None:
    task, padded = task_of(height=2, width=3), BODY + b" " * KEPT_BODY_BYTES
    for body in (padded, BODY, padded):
        read = task.decode_fast(body)
        assert read is not None
        assert read["image"].tolist() == [[[1, 2, 3], [4, 5, 6]]]
    assert len(made) >= 2


@pytest.mark.parametrize("bad", [DEEP, BODY[:-1], b"", b'{"instances":[{"image":[[1,2,3],[4,5,"6"]]}]}'])
def test_what_cannot_be_read_keeps_nobody_else_from_reading(bad: bytes) -> None:
    one, other = task_of(name="one", height=2, width=3), task_of(name="other", height=2, width=3)
    assert one.decode_fast(bad) is None
    assert other.decode_fast(BODY) is not None
