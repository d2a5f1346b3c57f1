"""A fast and a slow model in one process, both asked at once."""

from pathlib import Path

import pytest

from benchmarks.calm import Patience
from benchmarks.findings import Setting
from benchmarks.scenarios import two_models
from benchmarks.scenarios.two_models import COMPUTING, FAST, SLOW
from benchmarks.servers import pinned, start, two_cores


@pytest.mark.parametrize("slow", [SLOW, COMPUTING])
def test_both_models_are_under_load_and_answer(slow: str, tmp_path: Path) -> None:
    two_models.write_models(tmp_path / "models")
    server_core, load_core = two_cores()
    setting = Setting(
        rounds=1, seconds=1.0, warm_up_s=0.1, server_core=server_core, load_core=load_core, patience=Patience(0),
        tell=lambda line: None, is_quick=True,
    )  # fmt: skip
    body = two_models._picture_body() if slow == SLOW else two_models._texts_body()
    fast_requests = two_models._requests(FAST, [two_models._picture_body()])
    with start(two_models.service_of(tmp_path / "models"), server_core) as running, pinned(load_core):
        pair = two_models._pair(running, fast_requests, two_models._requests(slow, [body]), setting)
    assert pair.alone.requests > 0
    assert pair.alone.slow_requests == 0
    assert pair.together.requests > 0
    assert pair.together.failures == 0
    assert pair.rise_ms == pair.together.p99_ms - pair.alone.p99_ms
