"""The journal goes back to what the files really hold."""

from pathlib import Path

import pytest

from app.predict.errors import BadUse
from app.predict.journal import Growing, Journal, Progress

HEAD = {"input": {"size": 3}}


def grow(folder: Path, parts: list[bytes]) -> list[Progress]:
    """Write a file part by part, each noted; return what was noted."""
    journal = Journal(folder / "journal")
    journal.begin(HEAD)
    file = Growing(folder / "file", 0, 0)
    noted = []
    for rows, part in enumerate(parts, 1):
        file.write(part)
        noted.append(Progress(position={"row": rows}, rows=rows, files={"output": (file.size, file.crc)}))
        journal.add(noted[-1])
    file.close()
    journal.close()
    return noted


def agreed(folder: Path) -> Progress:
    journal = Journal(folder / "journal")
    progress = journal.agree({"output": folder / "file"})
    journal.close()
    return progress


def test_goes_on_after_all_that_was_noted(tmp_path: Path) -> None:
    noted = grow(tmp_path, [b"one", b"two", b"three"])
    with (tmp_path / "file").open("ab") as file:
        file.write(b"never noted")
    assert agreed(tmp_path) == noted[2]
    assert agreed(tmp_path) == noted[2]


@pytest.mark.parametrize("left", range(12))
def test_goes_back_to_what_a_file_cut_short_still_holds(left: int, tmp_path: Path) -> None:
    noted = grow(tmp_path, [b"one", b"two", b"three"])
    data = (tmp_path / "file").read_bytes()
    (tmp_path / "file").write_bytes(data[:left])
    whole = sum(left >= progress.files["output"][0] for progress in noted)
    assert agreed(tmp_path) == (noted[whole - 1] if whole else Progress())


def test_zeros_where_bytes_should_be_are_found(tmp_path: Path) -> None:
    noted = grow(tmp_path, [b"one", b"two", b"three"])
    (tmp_path / "file").write_bytes(b"one" + b"\0" * 8)
    assert agreed(tmp_path) == noted[0]


def test_a_missing_file_is_begun_anew(tmp_path: Path) -> None:
    grow(tmp_path, [b"one"])
    (tmp_path / "file").unlink()
    assert agreed(tmp_path) == Progress()


@pytest.mark.parametrize("torn", [b'{"position": {"ro', b"\0\0\0\0\n", b'{"position": 1}\n', b"[]\n"])
def test_a_torn_line_is_as_if_it_were_not_there(torn: bytes, tmp_path: Path) -> None:
    noted = grow(tmp_path, [b"one", b"two"])
    with (tmp_path / "journal").open("ab") as file:
        file.write(torn)
    assert agreed(tmp_path) == noted[1]


def test_what_is_noted_after_going_back_is_found(tmp_path: Path) -> None:
    grow(tmp_path, [b"one", b"two"])
    (tmp_path / "file").write_bytes(b"one")
    journal = Journal(tmp_path / "journal")
    assert journal.agree({"output": tmp_path / "file"}).rows == 1
    file = Growing(tmp_path / "file", 3, journal.last.files["output"][1])  # type: ignore[union-attr]
    file.write(b"2")
    journal.add(Progress(position={"row": 9}, rows=9, files={"output": (file.size, file.crc)}))
    file.close()
    journal.close()
    assert agreed(tmp_path).rows == 9


def test_a_second_process_is_kept_away(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    with pytest.raises(BadUse, match="another process"):
        Journal(tmp_path / "journal")
    journal.close()
    Journal(tmp_path / "journal").close()


def test_a_journal_of_nothing_is_not_left_behind(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    with journal.unless_empty():
        pass
    assert not (tmp_path / "journal").exists()


@pytest.mark.parametrize("data", [b"my precious weights", b"{}\n", b'{"schema": 1}\n'])
def test_a_file_that_is_no_journal_is_left_alone(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(data)
    with pytest.raises(BadUse, match="is no checkpoint"):
        Journal(tmp_path / "journal")
    assert (tmp_path / "journal").read_bytes() == data


@pytest.mark.parametrize("data", [b"", b"{", b'{"schema_version": 1, "inp', b"\0" * 40])
def test_a_head_that_was_torn_off_is_begun_anew(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(data)
    journal = Journal(tmp_path / "journal")
    assert journal.head is None
    journal.close()
