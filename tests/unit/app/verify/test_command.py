"""The command: which bundles are signed, in a line each, and one status for all."""

from pathlib import Path

import pytest

from app.__main__ import main
from tests.support.bundles import dummy_bundle
from tests.support.signatures import KeyPair, key_pair


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeyPair:
    """The key, and a folder of three bundles of which two are signed."""
    pair = key_pair(tmp_path)
    for name, version in (("a", 1), ("a", 2), ("b", 1)):
        folder = dummy_bundle(tmp_path / "models", name, version, rows=1)
        if name == "a":
            pair.sign(folder)
    monkeypatch.setenv("ZTO_MODELS_DIR", str(tmp_path / "models"))
    return pair


def test_each_bundle_is_told_and_one_that_is_not_signed_fails_all(
    pair: KeyPair, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZTO_SIGNING_KEY", str(pair.public))
    assert main(["verify"]) == 1
    told = capsys.readouterr()
    assert told.out.splitlines() == [f"a/{version}: signed, and as it was signed: 3 files" for version in (1, 2)]
    assert told.err.startswith("b/1: model.sig is missing, and ZTO_SIGNING_KEY asks for it")


@pytest.mark.parametrize(("models", "told"), [(["a"], ["a/1", "a/2"]), (["a/2"], ["a/2"]), (["a/2", "a"], None)])
def test_bundles_are_chosen_by_name_and_version(
    pair: KeyPair, capsys: pytest.CaptureFixture[str], models: list[str], told: list[str] | None
) -> None:
    assert main(["verify", *models, "--key", str(pair.public)]) == 0
    out = capsys.readouterr().out
    assert [line.partition(":")[0] for line in out.splitlines()] == (told or ["a/2", "a/1", "a/2"])


def test_a_file_that_was_altered_after_the_signing_is_told(
    tmp_path: Path, pair: KeyPair, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models" / "a" / "1" / "golden.npz").write_bytes(b"other")
    assert main(["verify", "a", "--key", str(pair.public)]) == 1
    told = capsys.readouterr()
    assert told.out.startswith("a/2: signed")
    assert "a/1: the files are not those that model.sig was made over; not what was signed: 'golden.npz'" in told.err


def test_a_folder_without_bundles_does_not_pass(
    tmp_path: Path, pair: KeyPair, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mistyped").mkdir()
    monkeypatch.setenv("ZTO_MODELS_DIR", str(tmp_path / "mistyped"))
    assert main(["verify", "--key", str(pair.public)]) == 2
    assert "there is no bundle in " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ([], "no key: name the file of the public key with --key, or with ZTO_SIGNING_KEY"),
        (["--key", "none.pub"], "none.pub cannot be read"),
        (["c", "--key", "PUBLIC"], "no bundle 'c' in "),
    ],
    ids=["no key", "no file", "no bundle"],
)
def test_what_cannot_be_asked_exits_with_2(
    pair: KeyPair, capsys: pytest.CaptureFixture[str], arguments: list[str], fault: str
) -> None:
    assert main(["verify", *(str(pair.public) if a == "PUBLIC" else a for a in arguments)]) == 2
    assert fault in capsys.readouterr().err
