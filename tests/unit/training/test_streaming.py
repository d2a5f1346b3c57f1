import gzip
import json
import os
import random
import struct
import subprocess
import sys
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from training.errors import DataError
from training.streaming import RowStream, picture, read_lines, read_pictures, shuffled

ROWS = 103


@pytest.fixture
def lines(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(b'{"row": %d}\n' % number for number in range(ROWS)))
    return path


def number_of(line):
    return json.loads(line)["row"]


def stream(path, buffer_rows=16, seed=0):
    return RowStream(partial(read_lines, path), number_of, buffer_rows=buffer_rows, seed=seed)


def idx_files(folder, images, labels, *, packed=False):
    contents = {"images": (images, 3), "labels": (labels, 1)}
    paths = []
    for name, (array, rank) in contents.items():
        content = bytes([0, 0, 8, rank]) + struct.pack(f">{rank}I", *array.shape) + array.tobytes()
        path = folder / name
        path.write_bytes(gzip.compress(content) if packed else content)
        paths.append(path)
    return paths


@pytest.mark.parametrize("buffer_rows", [1, 2, 16, ROWS, 1000])
def test_every_row_comes_once_an_epoch(lines, buffer_rows):
    assert sorted(stream(lines, buffer_rows)) == list(range(ROWS))


def test_a_buffer_of_one_row_keeps_the_order_of_the_file(lines):
    assert list(stream(lines, 1)) == list(range(ROWS))


def test_seed_and_epoch_decide_the_order_and_nothing_else_does(lines):
    rows = stream(lines)
    first = list(rows)
    random.seed(5)
    torch.manual_seed(5)
    assert list(rows) == first == list(stream(lines))
    assert first != sorted(first)
    rows.set_epoch(2)
    assert list(rows) != first
    assert list(stream(lines, seed=1)) != first


@pytest.mark.slow
def test_two_workers_bring_each_row_once_and_see_the_next_epoch(lines):
    rows = RowStream(partial(read_lines, lines), json.loads, buffer_rows=16, seed=0)
    # spawned, as a worker is on systems without fork, so that all of a stream must travel to it
    loader = DataLoader(rows, batch_size=8, num_workers=2, persistent_workers=True, multiprocessing_context="spawn")
    first = torch.cat([batch["row"] for batch in loader]).tolist()
    assert Counter(first) == Counter(range(ROWS))
    rows.set_epoch(2)
    second = torch.cat([batch["row"] for batch in loader]).tolist()
    assert sorted(second) == list(range(ROWS))
    assert second != first


def test_the_buffer_never_holds_more_than_its_bound():
    read = 0

    def counting():
        nonlocal read
        for number in range(500):
            read += 1
            yield number

    for drawn, _ in enumerate(shuffled(counting(), 20, random.Random(0))):
        assert read - drawn <= 21


@pytest.mark.parametrize("buffer_rows", [0, -1])
def test_a_buffer_of_nothing_is_refused(lines, buffer_rows):
    with pytest.raises(ValueError, match="buffer_rows must be 1 or more"):
        stream(lines, buffer_rows)


def test_lines_are_read_packed_or_plain_and_empty_ones_skipped(tmp_path):
    content = b"one\n\n  \ntwo\r\nthree"
    (tmp_path / "plain").write_bytes(content)
    (tmp_path / "packed").write_bytes(gzip.compress(content))
    assert list(read_lines(tmp_path / "plain")) == list(read_lines(tmp_path / "packed")) == [b"one", b"two", b"three"]


def test_a_line_over_the_bound_is_named_and_not_read(tmp_path):
    path = tmp_path / "rows"
    path.write_bytes(b"short\n" + b"x" * 50 + b"\n")
    assert len(list(read_lines(path, max_bytes=50))) == 2
    with pytest.raises(DataError, match="line 2 is longer than 49 bytes"):
        list(read_lines(path, max_bytes=49))


def test_missing_and_cut_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"none cannot be read: No such file"):
        list(read_lines(tmp_path / "none"))
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(os.urandom(1000))[:-300])
    with pytest.raises(DataError, match=r"cut.gz is damaged or cut off"):
        list(read_lines(path))


@pytest.mark.parametrize("packed", [False, True])
def test_pictures_come_as_the_files_hold_them(tmp_path, packed):
    random_ = np.random.default_rng(0)
    images = random_.integers(0, 256, (30, 4, 5)).astype(np.uint8)
    labels = random_.integers(0, 10, 30).astype(np.uint8)
    paths = idx_files(tmp_path, images, labels, packed=packed)
    rows = RowStream(partial(read_pictures, *paths), partial(picture, height=4, width=5), buffer_rows=1, seed=0)
    pixels, classes = next(iter(DataLoader(rows, batch_size=30)))
    np.testing.assert_array_equal(pixels.numpy(), images)
    np.testing.assert_array_equal(classes.numpy(), labels)
    assert (pixels.dtype, classes.dtype) == (torch.uint8, torch.int64)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("which", [0, 1])
def test_a_cut_file_of_pictures_is_the_one_that_is_named(tmp_path, packed, which):
    # noise, so that packing does not make it smaller than what is cut off
    noise = np.random.default_rng(0).integers(0, 256, 3000).astype(np.uint8)
    paths = idx_files(tmp_path, noise.reshape(3000, 1, 1), noise, packed=packed)
    paths[which].write_bytes(paths[which].read_bytes()[:-100])
    with pytest.raises(DataError, match=rf"{paths[which].name} is (damaged or )?cut off"):
        list(read_pictures(*paths))


def test_as_many_labels_as_pictures_are_asked_for(tmp_path):
    paths = idx_files(tmp_path, np.zeros((3, 2, 2), np.uint8), np.zeros(2, np.uint8))
    with pytest.raises(DataError, match=r"holds 3 images, but .* 2 labels"):
        list(read_pictures(*paths))


def test_pictures_beyond_the_bound_are_refused_before_they_are_read(tmp_path):
    paths = idx_files(tmp_path, np.zeros((1, 2000, 2000), np.uint8), np.zeros(1, np.uint8))
    with pytest.raises(DataError, match="2000x2000"):
        list(read_pictures(*paths))


GIVEN_MIB = 16
LIMITED = f"""
import resource, sys
from functools import partial
from pathlib import Path
from torch.utils.data import DataLoader
from training.streaming import RowStream, read_lines

path = Path(sys.argv[1])
rows = RowStream(partial(read_lines, path), len, buffer_rows=64, seed=0)
loader = DataLoader(rows, batch_size=32)
next(iter(loader))  # what is imported for the first batch is no cost of the file's size
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {GIVEN_MIB} * 2**20,) * 2)
print(sum(int(batch.sum()) for batch in loader))
try:
    path.read_bytes()
except MemoryError:
    print("the whole file does not fit")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and limits the address space")
def test_a_file_is_streamed_that_is_four_times_the_memory_that_is_given(tmp_path, repository):
    path, line_bytes, num_lines = tmp_path / "large", 8192, 8192
    with path.open("wb") as file:
        for _ in range(num_lines):
            file.write(b"x" * (line_bytes - 1) + b"\n")
    assert path.stat().st_size == 4 * GIVEN_MIB * 2**20
    command = [sys.executable, "-c", LIMITED, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=repository, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(num_lines * (line_bytes - 1)), "the whole file does not fit"]
