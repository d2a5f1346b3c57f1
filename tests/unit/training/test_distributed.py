import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.support.learning import MeanNetwork, Series, SeriesObjective, series_config, train_series
from training.batches import MemoryBatches
from training.distributed import Process, processes, this_process
from training.errors import TrainingError
from training.loop import fit


@pytest.fixture
def train_together(repository, tmp_path):
    """Train in two processes, as torchrun starts them; returns their exit code, and what the first told."""

    def train(*options, **settings):
        result = tmp_path / "result.json"
        result.unlink(missing_ok=True)
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        script = ["-m", "tests.support.learning", json.dumps(settings), "--result", str(result), *options]
        done = subprocess.run(
            torchrun + script,
            cwd=repository,
            env={**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
            capture_output=True,
            text=True,
            timeout=180,
        )
        return done.returncode, json.loads(result.read_text()) if result.exists() else done.stderr

    return train


# 89 rows in batches of 16 leave 9, of which one process gets 5 and the other 4
@pytest.mark.parametrize("config", [{"epochs": 6}, {"accumulate": 2, "optimizer": "momentum", "clip_norm": 0.5}])
def test_two_processes_give_the_loss_curve_of_one(train_together, config):
    code, together = train_together(num_rows=89, config=config)
    assert code == 0, together
    _, alone = train_series(series_config(**config), num_rows=89)
    for name, values in (
        ("train_losses", [epoch.train_loss for epoch in alone.history]),
        ("validation_losses", [epoch.validation_loss for epoch in alone.history]),
    ):
        np.testing.assert_allclose(together[name], values, rtol=0, atol=1e-4)
    assert alone.history[-1].train_loss < alone.history[0].train_loss - 0.05


@pytest.mark.slow
def test_two_killed_processes_go_on_to_the_weights_of_two_that_were_not(train_together, tmp_path):
    settings = {"dropout": 0.4, "noise": 0.3}
    code, whole = train_together("--run-dir", str(tmp_path / "whole"), **settings)
    assert code == 0, whole
    code, _ = train_together("--run-dir", str(tmp_path / "killed"), kill_at=[3, 2], **settings)
    assert code != 0
    code, resumed = train_together("--run-dir", str(tmp_path / "killed"), **settings)
    assert code == 0, resumed
    assert resumed == whole


def test_alone_a_process_is_the_first_and_only_one():
    process, network = this_process(), MeanNetwork()
    assert process == Process(rank=0, world_size=1)
    assert process.is_first
    assert process.wrap(network, seed=0) is network
    assert process.total(2.5) == 2.5
    assert process.of_first(lambda: "made") == "made"
    assert process.of_all("mine") == ["mine"]


def test_without_torchrun_there_is_nothing_to_join(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")  # other launchers set it too
    with processes("cpu") as device:
        assert device == torch.device("cpu")
        assert not torch.distributed.is_initialized()


def test_one_process_of_torchrun_has_nobody_to_join(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with processes("cpu"):
        assert this_process() == Process()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="no GPU"), processes("cuda"):
        pass


def test_batches_for_more_processes_than_there_are_are_refused():
    batches = MemoryBatches(Series(), batch_size=16, seed=0, rank=0, world_size=2)
    with pytest.raises(ValueError, match="batches for 2 processes, but there are 1"):
        fit(MeanNetwork(), batches, SeriesObjective(Series(10)), series_config())
