"""Every peer has what it takes to be made and started; its files are at least Python."""

import re
import sys
from pathlib import Path

import pytest

from benchmarks import environments, recipes, workloads
from benchmarks.doors import DOORS

FILES = sorted(environments.PEERS_DIR.rglob("*.py"))
PEERS = [pytest.param(peer, id=peer.name) for peer in recipes.PEERS]


def test_each_environment_belongs_to_a_peer_and_each_peer_to_a_folder() -> None:
    assert {peer.environment for peer in recipes.PEERS} - {None} == set(environments.names())


@pytest.mark.parametrize("name", environments.names())
def test_each_version_is_pinned(name: str) -> None:
    versions = environments.requirements(name)
    assert all(re.fullmatch(r"[\w.+!]+", version) for version in versions.values())
    assert "tokenizers" in versions
    assert versions["onnxruntime"] == environments.requirements("mosec")["onnxruntime"]


@pytest.mark.parametrize("peer", PEERS)
def test_the_package_whose_version_is_told_is_in_the_environment(peer: recipes.Peer) -> None:
    if peer.environment is not None:
        assert peer.package in environments.requirements(peer.environment)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("name", ["cnn", "transformer"])
def test_each_peer_is_tried_without_batches_and_with(peer: recipes.Peer, name: str) -> None:
    found = recipes.servers_of(peer, workloads.load(name))
    assert len({server.name for server in found}) == len(found) >= 2
    assert all(server.peer == peer.name and server.door in DOORS for server in found)
    if peer.environment is not None:
        batches = [int(server.environ["BENCH_MAX_BATCH"]) for server in found]
        assert batches[0] == 1
        assert all(rows > 1 for rows in batches[1:])


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(path.parts[-2:]))
def test_files_of_peers_compile(path: Path) -> None:
    compile(path.read_text(), str(path), "exec")


def test_an_environment_that_was_never_made_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environments, "FOLDER", tmp_path)
    assert not environments.is_made("mosec")


@pytest.mark.slow
def test_an_environment_is_made_once_and_anew_when_its_versions_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wanted = tmp_path / "peers" / "none" / "requirements.txt"
    wanted.parent.mkdir(parents=True)
    wanted.write_text("# nothing\n")
    monkeypatch.setattr(environments, "PEERS_DIR", tmp_path / "peers")
    monkeypatch.setattr(environments, "FOLDER", tmp_path / "made")
    made = environments.make("none")
    assert made.exists()
    assert environments.is_made("none")
    wanted.write_text(f"nothing @ file://{tmp_path}/nothing-1-py3-none-any.whl\n")
    assert not environments.is_made("none")
    with pytest.raises(environments.NotInstalled) as refused:
        environments.make("none")
    assert str(tmp_path) not in str(refused.value)
    assert not environments.is_made("none")
    assert sys.executable  # pip ran in its own environment, not in this one
