import os
import threading
from collections.abc import Iterator
from multiprocessing import get_context

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.workers import board as module
from app.workers.board import Board


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board(3)
    yield board
    board.close()


def test_fresh_board_is_empty_and_nobody_serves(board: Board) -> None:
    assert [board.read(place) for place in range(3)] == [b"", b"", b""]
    assert board.serving() == (False, False, False)


@given(st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=100)), max_size=20))
def test_the_last_note_of_each_place_is_read(notes: list[tuple[int, bytes]]) -> None:
    board, last = Board(3), {0: b"", 1: b"", 2: b""}
    for place, note in notes:
        board.post(place, note)
        last[place] = note
        assert {other: board.read(other) for other in last} == last
    board.close()


def test_marks_are_of_one_place_each(board: Board) -> None:
    board.mark(1, is_serving=True)
    assert board.serving() == (False, True, False)
    board.mark(1, is_serving=False)
    assert board.serving() == (False, False, False)


def test_that_somebody_has_served_stays_known(board: Board) -> None:
    assert not board.has_served
    board.mark(2, is_serving=True)
    board.mark(2, is_serving=False)
    assert board.has_served
    assert board.serving() == (False, False, False)


@pytest.mark.parametrize("torn_bytes", [1, 10, 20, 21, 60, 119])
def test_note_whose_writer_was_killed_midway_leaves_the_one_before(board: Board, torn_bytes: int) -> None:
    for number in range(4):
        board.post(0, bytes([number]) * 100)
    before = board.read(0)
    whole = Board(1)
    for number in range(5):  # the next, as it would have been written
        whole.post(0, bytes([number]) * 100)
    half = 5 % 2 * module._HALF_BYTES
    os.pwrite(board._notes[0].file, os.pread(whole._notes[0].file, torn_bytes, half), half)
    whole.close()
    assert board.read(0) == before
    board.post(0, b"next")
    assert board.read(0) == b"next"


def write_many(board: Board, stop: threading.Event) -> None:
    number = 0
    while not stop.is_set():
        board.post(0, number.to_bytes(8, "big") * 1000)
        number += 1


def test_reader_beside_a_writer_never_sees_half_a_note_nor_an_older_one(board: Board) -> None:
    stop, last = threading.Event(), -1
    writer = threading.Thread(target=write_many, args=(board, stop))
    writer.start()
    try:
        reads = 0
        while reads < 3000 or last < 1:  # until the writer has had its turn as well
            assert writer.is_alive()
            reads += 1
            note = board.read(0)
            if note:
                number = int.from_bytes(note[:8], "big")
                assert note == note[:8] * 1000
                assert number >= last
                last = number
    finally:
        stop.set()
        writer.join()


def test_it_goes_to_a_spawned_process_and_outlives_it(board: Board) -> None:
    process = get_context("spawn").Process(target=post_from_elsewhere, args=(board,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert board.read(2) == b"from elsewhere"
    assert board.serving() == (False, False, True)


def post_from_elsewhere(board: Board) -> None:
    board.post(2, b"from elsewhere")
    board.mark(2, is_serving=True)
