import resource

import pytest

from app.access.connections import Connections, most_of
from app.settings import Settings


def test_connections_of_an_address_are_counted_by_its_network_and_forgotten_when_they_close() -> None:
    connections = Connections(Settings(max_connections_per_address=2))
    six = ["2001:db8::1", "2001:db8::2", "2001:db8::3"]
    assert [connections.open(address) for address in six] == [None, None, "address"]
    assert connections.open("2001:db8:0:1::1") is None
    assert connections.open("192.0.2.1") is None
    connections.close("2001:db8::3")  # one that was refused is counted as long as it is told so
    connections.close("2001:db8::1")
    assert connections.open("2001:db8::9") is None
    for address in ("2001:db8::2", "2001:db8::9", "2001:db8:0:1::1", "192.0.2.1"):
        connections.close(address)
    assert connections.number == 0
    assert not connections._of_networks


def test_all_connections_are_shared_evenly_among_the_workers() -> None:
    assert most_of(Settings(max_connections=100, workers=3)) == 34
    connections = Connections(Settings(max_connections=2))
    assert [connections.open("a"), connections.open("b"), connections.open("c")] == [None, None, "all"]
    connections.close("a")
    connections.close("c")
    assert connections.open("a") is None


@pytest.mark.parametrize(("files", "most"), [(1024, 896), (64, 16), (resource.RLIM_INFINITY, 2**62)])
def test_without_the_setting_some_files_are_left_for_other_things(
    files: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (files, files))
    assert most_of(Settings()) == most
