"""Starting the service and asking it, with models that are there."""

import pytest

from benchmarks.calm import Patience
from benchmarks.findings import Setting
from benchmarks.scenarios import _bundles, start
from benchmarks.servers import Server, service, two_cores
from benchmarks.servers import start as start_server

SERVER_CORE, LOAD_CORE = two_cores()
SETTING = Setting(
    rounds=1, seconds=0.1, warm_up_s=0.0, server_core=SERVER_CORE, load_core=LOAD_CORE, patience=Patience(0),
    tell=lambda line: None, is_quick=True,
)  # fmt: skip


def test_a_start_tells_memory_before_and_after_and_finds_no_torch() -> None:
    found = start.start_once(("numpy_mlp", "mlp"), SETTING)
    assert 0 < found.listening_s <= found.ready_s
    assert 0 < found.proportional_mb <= found.resident_mb
    assert found.resident_used_mb > 0
    assert not found.has_torch


def test_a_prediction_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "golden_bodies", lambda name: [b"{}"])
    server: Server = service("numpy_mlp", _bundles.MODELS_DIR)
    with start_server(server, SERVER_CORE) as running, pytest.raises(RuntimeError, match="numpy_mlp answers 422"):
        start.predict(running, ("numpy_mlp",), 1)


def test_the_bars_are_of_seven_models() -> None:
    assert len(set(_bundles.committed()) - {start.LEFT_OUT}) == 7
