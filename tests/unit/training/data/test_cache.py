import json
import os
import stat
from pathlib import Path

import pytest

from training.data import _cache
from training.data._cache import cache_folder, cached, key_of


class Preparing:
    """Counts how often it is asked."""

    def __init__(self, value):
        self.value, self.calls = value, 0

    def __call__(self):
        self.calls += 1
        return self.value


def test_what_was_prepared_is_prepared_once(tmp_path):
    prepare = Preparing({"texts": ["é", "\ud800?"]})
    first = cached("x", key_of("a"), prepare, folder=tmp_path / "new")
    assert cached("x", key_of("a"), prepare, folder=tmp_path / "new") == first == prepare.value
    assert prepare.calls == 1


def test_another_key_prepares_anew_and_replaces(tmp_path):
    assert cached("x", key_of("a"), Preparing(1), folder=tmp_path) == 1
    assert cached("x", key_of("b"), Preparing(2), folder=tmp_path) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[:20],
        lambda content: b"",
        lambda content: content.replace(b"[1", b"[7"),
        lambda content: content + b" ",
        lambda content: content.partition(b"\n")[2],
    ],
    ids=["cut", "cut in its head", "empty", "changed", "longer", "headless"],
)
def test_a_damaged_cache_is_prepared_anew(tmp_path, damage):
    cached("x", key_of("a"), Preparing([1, 2]), folder=tmp_path)
    path = tmp_path / "x.json"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert path.read_bytes() != whole
    prepare = Preparing([1, 2])
    assert cached("x", key_of("a"), prepare, folder=tmp_path) == [1, 2]
    assert prepare.calls == 1
    assert path.read_bytes() == whole


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_run_that_is_stopped_while_it_writes_leaves_the_old_cache(tmp_path, monkeypatch, step):
    cached("x", key_of("a"), Preparing(1), folder=tmp_path)

    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, step, stop)
        with pytest.raises(KeyboardInterrupt):
            cached("x", key_of("b"), Preparing(2), folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    assert cached("x", key_of("a"), Preparing(3), folder=tmp_path) == 1


def test_a_half_written_file_of_a_killed_run_is_never_read(tmp_path):
    (tmp_path / ".x.json-abc").write_bytes(b"half")
    assert cached("x", key_of("a"), Preparing(1), folder=tmp_path) == 1


def test_without_a_place_to_write_there_is_no_cache(tmp_path):
    (tmp_path / "file").touch()
    prepare = Preparing(1)
    assert cached("x", key_of("a"), prepare, folder=tmp_path / "file") == 1
    assert cached("x", key_of("a"), prepare, folder=tmp_path / "file") == 1
    assert prepare.calls == 2


def test_only_its_owner_may_read_the_cache(tmp_path):
    cached("x", key_of("a"), Preparing(1), folder=tmp_path / "cache")
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "cache" / "x.json").stat().st_mode) == 0o600


def test_a_key_changes_with_each_part_and_with_the_code(tmp_path):
    code = tmp_path / "code.py"
    code.write_text("one")
    keys = {key_of("a", "b"), key_of("ab", ""), key_of("b", "a"), key_of("a", "b", code=(code,))}
    code.write_text("two")
    assert len(keys | {key_of("a", "b", code=(code,))}) == 5


def test_private_letters_are_never_cached_inside_the_repository(tmp_path, monkeypatch):
    repository = Path(_cache.__file__).parents[2]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    assert cache_folder() == tmp_path / "data" / "cache"
    for inside in (repository, repository / "data", repository / "app" / ".." / "data"):
        monkeypatch.setenv("DATA_DIR", str(inside))
        assert cache_folder() == tmp_path / "user" / "zero-to-one" / "cache"
    monkeypatch.delenv("DATA_DIR")
    assert cache_folder() == tmp_path / "user" / "zero-to-one" / "cache"


def test_json_holds_what_is_cached(tmp_path):
    cached("x", key_of("a"), Preparing({"a": [1]}), folder=tmp_path)
    assert json.loads((tmp_path / "x.json").read_bytes().partition(b"\n")[2]) == {"a": [1]}
