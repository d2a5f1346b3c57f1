import errno
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys

import pytest
import torch

from tests.support.learning import Series, digest, series_config, train_series
from training.batches import MemoryBatches
from training.checkpoint import FILE_NAME, describe_run, exclusive, pack, rows_digest, unpack
from training.epochs import Epoch
from training.errors import CheckpointError, NonFiniteLoss

SCRIPT = "tests.support.learning"
# everything that draws, on at once: dropout, random changes, order, and a schedule that must stand at the right step
EVERYTHING = {"dropout": 0.4, "noise": 0.3, "config": {"schedule": "one_cycle", "accumulate": 2, "clip_norm": 1.0}}


@pytest.fixture
def train_alone(repository, tmp_path):
    """Train in a process of its own; returns its exit code and what it told."""

    def train(run_dir, **settings):
        result = tmp_path / "result.json"
        result.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", SCRIPT, json.dumps(settings), "--result", str(result), "--run-dir", str(run_dir)],
            cwd=repository,
            env={**os.environ, "PYTHONPATH": str(repository)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.returncode, json.loads(result.read_text()) if result.exists() else done.stderr

    return train


@pytest.mark.no_cover  # others cover the same lines, and tracing doubles its time
@pytest.mark.parametrize("changes", [{}, {"num_workers": 2}], ids=["memory", "loader with workers"])
def test_a_run_killed_twice_and_resumed_ends_with_the_very_weights_of_one_that_was_not(train_alone, tmp_path, changes):
    settings = {**EVERYTHING, **changes}
    code, whole = train_alone(tmp_path / "whole", **settings)
    assert code == 0, whole
    assert train_alone(tmp_path / "killed", kill_at=[2, 2], **settings)[0] == -9
    assert (tmp_path / "killed" / FILE_NAME).exists()
    assert train_alone(tmp_path / "killed", kill_at=[4, 5], **settings)[0] == -9
    code, resumed = train_alone(tmp_path / "killed", **settings)
    assert code == 0, resumed
    assert resumed["digest"] == whole["digest"]
    assert resumed["train_losses"] == whole["train_losses"]
    assert resumed["validation_losses"] == whole["validation_losses"]


@pytest.mark.parametrize("optimizer", ["nesterov", "rmsprop", "adam"])
@pytest.mark.parametrize("schedule", ["step", "cosine", "plateau"])
def test_every_optimizer_and_schedule_goes_on_where_it_stood(tmp_path, optimizer, schedule):
    settings = {"config": series_config(optimizer=optimizer, schedule=schedule, decay_epochs=1, learning_rate=0.02)}
    whole, outcome = train_series(**settings)

    def stop(epoch):
        if epoch.number == 2:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        train_series(run_dir=tmp_path, on_epoch=stop, **settings)
    resumed, again = train_series(run_dir=tmp_path, **settings)
    assert digest(resumed) == digest(whole)
    assert curve(again) == curve(outcome)


def curve(outcome):
    return [(epoch.train_loss, epoch.validation_loss, epoch.learning_rate) for epoch in outcome.history]


@pytest.mark.parametrize("changes", [{}, {"patience": 1, "learning_rate": 1e-9, "epochs": 30}])
def test_a_run_that_has_ended_is_not_trained_again(tmp_path, changes):
    config, told = series_config(**changes), []
    network, outcome = train_series(config, run_dir=tmp_path)
    again, same_outcome = train_series(config, run_dir=tmp_path, kill_at=(1, 1), on_epoch=told.append)
    assert same_outcome == outcome
    assert outcome.stopped == ("early" if changes else "finished")
    assert digest(again) == digest(network)
    assert not again.training
    assert told == []


def test_ctrl_c_keeps_the_best_so_far_and_the_same_command_goes_on(tmp_path):
    def interrupt(epoch):
        if epoch.number == 2:
            raise KeyboardInterrupt

    _, interrupted = train_series(series_config(), run_dir=tmp_path, on_epoch=interrupt)
    assert interrupted.stopped == "interrupted"
    network, outcome = train_series(series_config(), run_dir=tmp_path)
    assert outcome.stopped == "finished"
    assert digest(network) == digest(train_series(series_config())[0])


def test_only_what_is_not_yet_done_is_told(tmp_path):
    told: list[Epoch] = []

    def tell(epoch):
        told.append(epoch)
        if len(told) == 2:
            raise RuntimeError

    for _ in range(2):
        try:
            _, outcome = train_series(series_config(), run_dir=tmp_path, on_epoch=tell)
        except RuntimeError:
            assert len(told) == 2
    assert [epoch.number for epoch in told] == [1, 2, 3, 4]
    assert outcome.history == tuple(told)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"learning_rate": 0.04}, r"learning_rate differ.*was 0.05, is 0.04"),
        ({"seed": 3}, "seed"),
        ({"epochs": 9}, "epochs"),
    ],
)
def test_a_checkpoint_of_another_config_is_refused_and_the_difference_named(tmp_path, changes, named):
    train_series(series_config(), run_dir=tmp_path)
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(CheckpointError, match=named):
        train_series(series_config(**changes), run_dir=tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_the_number_of_seeds_is_no_part_of_a_run(tmp_path):
    network, _ = train_series(series_config(), run_dir=tmp_path)
    told = []
    again, _ = train_series(series_config(num_seeds=5), run_dir=tmp_path, on_epoch=told.append)
    assert (digest(again), told) == (digest(network), [])
    path = tmp_path / FILE_NAME
    content = unpack(path.read_bytes())
    # as it was written when it still was a part
    path.write_bytes(pack({**content, "run": {**content["run"], "num_seeds": 3}}))
    again, _ = train_series(series_config(), run_dir=tmp_path, on_epoch=told.append)
    assert (digest(again), told) == (digest(network), [])


def test_a_checkpoint_of_other_rows_is_refused(tmp_path):
    train_series(series_config(), run_dir=tmp_path)
    with pytest.raises(CheckpointError, match="another run: rows differ"):
        train_series(series_config(), num_rows=91, run_dir=tmp_path)


def test_the_digest_of_the_rows_tells_a_single_changed_number():
    one, same, other = Series(30), Series(30), Series(30)
    other.rows[17][1, 2] += 1e-6
    assert rows_digest(one) == rows_digest(same) != rows_digest(other)


def test_a_run_is_described_by_its_settings_its_rows_and_its_processes():
    batches = MemoryBatches(Series(30), batch_size=4, seed=1, world_size=2)
    described = describe_run(series_config(), batches)
    assert described["processes"] == 2
    assert described["by_length"] is True
    assert json.loads(json.dumps(described)) == described


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused_with_a_way_out(tmp_path, keep):
    train_series(series_config(), run_dir=tmp_path)
    path = tmp_path / FILE_NAME
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is damaged.*remove it to start anew") as caught:
        train_series(series_config(), run_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_no_flipped_bit_goes_unnoticed():
    packed = pack({"run": {}, "parts": {"network": {"weight": torch.arange(8.0)}}})
    assert torch.equal(unpack(packed)["parts"]["network"]["weight"], torch.arange(8.0))
    for position in range(len(packed)):
        damaged = bytearray(packed)
        damaged[position] ^= 1
        with pytest.raises(ValueError, match="digest"):
            unpack(bytes(damaged))


class Hostile:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def with_digest(data):
    return data + hashlib.sha256(data).digest()


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_checkpoint_cannot_run_code(tmp_path, how):
    mark = tmp_path / "mark"
    data = pack({"run": Hostile(mark)}) if how == "torch" else with_digest(pickle.dumps(Hostile(mark)))
    (tmp_path / FILE_NAME).write_bytes(data)
    with pytest.raises(CheckpointError, match="no checkpoint of this version"):
        train_series(series_config(), run_dir=tmp_path)
    assert not mark.exists()


@pytest.mark.parametrize("content", [[1, 2], {}, {"format": 99, "run": {}}, {"format": 1}, "text", None])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    data = io.BytesIO()
    torch.save(content, data)
    (tmp_path / FILE_NAME).write_bytes(with_digest(data.getvalue()))
    with pytest.raises(CheckpointError, match="no checkpoint of this version"):
        train_series(series_config(), run_dir=tmp_path)


def test_weights_that_do_not_fit_the_network_are_refused(tmp_path):
    train_series(series_config(), run_dir=tmp_path)
    path = tmp_path / FILE_NAME
    content = unpack(path.read_bytes())
    del content["parts"]["network"]["head.bias"]
    path.write_bytes(pack(content))
    with pytest.raises(CheckpointError, match="does not fit this network"):
        train_series(series_config(), run_dir=tmp_path)


def test_a_full_disk_ends_the_run_and_leaves_the_former_checkpoint(tmp_path, monkeypatch):
    def disk_is_full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    def fill(epoch):
        if epoch.number == 2:
            monkeypatch.setattr(os, "fsync", disk_is_full)

    with pytest.raises(CheckpointError, match=r"cannot write .*No space left on device; the former one"):
        train_series(series_config(), run_dir=tmp_path, on_epoch=fill)
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    monkeypatch.undo()
    network, outcome = train_series(series_config(), run_dir=tmp_path)
    assert digest(network) == digest(train_series(series_config())[0])
    assert len(outcome.history) == 4


def test_a_run_dir_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot"):
        train_series(series_config(), run_dir=tmp_path / "file" / "run")


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    plain = Series.augment

    def poison(self, batch, randomness):
        values, lengths = plain(self, batch, randomness).inputs
        calls.append(1)
        return batch._replace(inputs=(values * float("nan") if len(calls) == 15 else values, lengths))

    calls = []
    monkeypatch.setattr(Series, "augment", poison)
    with pytest.raises(NonFiniteLoss, match=r"became nan in epoch 3, step 3 of 6"):
        train_series(series_config(), run_dir=tmp_path)
    content = unpack((tmp_path / FILE_NAME).read_bytes())
    assert [epoch["number"] for epoch in content["parts"]["record"]["history"]] == [1, 2]
    assert all(tensor.isfinite().all() for tensor in content["parts"]["network"].values())
    monkeypatch.undo()
    assert digest(train_series(series_config(), run_dir=tmp_path)[0]) == digest(train_series(series_config())[0])


def test_two_trainings_cannot_hold_one_folder(tmp_path):
    folder = tmp_path / "new" / "seed-1"
    with exclusive(folder), pytest.raises(CheckpointError, match="another training is under way"), exclusive(folder):
        pass
    with exclusive(folder), exclusive(folder.with_name("seed-2")):
        pass
