import os
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.outlet import Outlet

LINE = b"x" * 99 + b"\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_lines_come_out_of_a_pipe_in_their_order(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    outlet = Outlet(writer)
    lines = [b"%d\n" % number for number in range(1000)]
    outlet.write(lines)
    outlet.close()
    assert os.read(reader, 100_000) == b"".join(lines)
    dropped: list[int] = []
    outlet.on_drop = dropped.append
    outlet.write([b"late\n"])
    assert dropped == [1]


@pytest.mark.parametrize("patience_s", [0.0, 0.05])
def test_a_pipe_that_nobody_empties_costs_the_lines_and_nobodys_time(pipe: tuple[int, int], patience_s: float) -> None:
    reader, writer = pipe
    dropped: list[int] = []
    outlet = Outlet(writer, dropped.append)
    outlet.write([LINE] * 5000, patience_s=patience_s)  # would wait for ever where it waited
    kept = 5000 - sum(dropped)
    assert 0 < kept < 5000
    assert os.get_blocking(writer)  # others write to it as well, and expect it so
    held = b""
    while len(held) < kept * len(LINE):
        held += os.read(reader, 1 << 20)
    assert held == LINE * kept
    dropped.clear()
    outlet.write([LINE])
    assert (os.read(reader, 1000), dropped) == (LINE, [])
    outlet.close()


def test_what_is_no_pipe_of_ours_is_asked_for_room_first() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        dropped: list[int] = []
        outlet = Outlet(ours.fileno(), dropped.append)
        outlet.write([LINE] * 50_000)
        assert 0 < sum(dropped) < 50_000
        assert theirs.recv(len(LINE)) == LINE


def test_a_line_that_finds_room_within_the_patience_is_written(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    dropped: list[int] = []
    full, outlet = Outlet(writer), Outlet(writer, dropped.append)
    full.write([LINE] * 5000)
    reading = threading.Timer(0.05, os.read, (reader, 1 << 20))
    reading.start()
    outlet.write([b"late\n"], patience_s=30.0)
    reading.join()
    assert dropped == []
    assert os.read(reader, 1 << 20).endswith(b"late\n")
    full.close()
    outlet.close()


def test_pieces_hold_whole_lines_and_stay_together_in_a_pipe(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    outlets = [Outlet(writer) for _ in range(4)]
    lines = [bytes([ord("a") + number]) * 99 + b"\n" for number in range(4)]
    read: list[bytes] = []

    def keep_reading() -> None:
        while data := os.read(reader, 1 << 16):
            read.append(data)
            if data.endswith(b"end\n"):
                return

    reading = threading.Thread(target=keep_reading)
    reading.start()
    writing = [
        threading.Thread(target=outlet.write, args=([line] * 400,), kwargs={"patience_s": 5.0})
        for outlet, line in zip(outlets, lines, strict=True)
    ]
    for thread in writing:
        thread.start()
    for thread in writing:
        thread.join()
    os.write(writer, b"end\n")
    reading.join()
    assert set(b"".join(read).splitlines(keepends=True)) <= {*lines, b"end\n"}
    assert max(len(line) for line in lines) < select.PIPE_BUF
    for outlet in outlets:
        outlet.close()


def test_a_line_behind_one_that_was_cut_off_is_whole(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    dropped: list[int] = []
    outlet = Outlet(writer, dropped.append)
    outlet.write([b"y" * 500_000 + b"\n", LINE])
    assert dropped == [1, 1]
    torn = os.read(reader, 1 << 20)
    assert torn == b"y" * len(torn)
    outlet.write([LINE])
    outlet.write([LINE])
    assert os.read(reader, 1 << 20) == b"\n" + LINE + LINE
    assert dropped == [1, 1]
    outlet.close()


def test_a_file_takes_all(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        dropped: list[int] = []
        Outlet(file.fileno(), dropped.append).write([LINE] * 5000)
    assert (path.read_bytes(), dropped) == (LINE * 5000, [])


def test_a_reader_who_has_gone_costs_the_lines() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    dropped: list[int] = []
    outlet = Outlet(writer, dropped.append)
    outlet.write([LINE, LINE])
    outlet.close()
    os.close(writer)
    Outlet(writer, dropped.append).write([LINE])  # closed: somebody else's mistake, and no reason to fail
    assert sum(dropped) == 3
