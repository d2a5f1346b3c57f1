import re
import subprocess

import pytest

from training.provenance import LIBRARIES, code_revision, libraries


@pytest.fixture
def clone(tmp_path):
    def git(*arguments):
        identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "__init__.py").write_text("")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "first")
    return tmp_path


def test_a_clean_clone_gives_its_revision(clone):
    assert re.fullmatch(r"[0-9a-f]{40}", code_revision(clone))


def test_a_change_of_the_code_is_told_and_one_elsewhere_is_not(clone):
    (clone / "notes.txt").write_text("x")
    assert not code_revision(clone).endswith("-dirty")
    (clone / "training" / "new.py").write_text("x = 1")
    assert code_revision(clone).endswith("-dirty")


def test_code_outside_git_is_of_unknown_revision(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert code_revision(tmp_path) == "unknown"


def test_without_git_the_revision_is_unknown(clone, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert code_revision(clone) == "unknown"


def test_every_library_is_named_with_its_version():
    assert set(libraries()) == {"python", *LIBRARIES}
    assert all(re.match(r"\d+\.\d+", version) for version in libraries().values())
