import itertools

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.learning import MeanNetwork, Series, SeriesObjective, series_config, train_series
from tests.support.prediction import predict
from training import architectures
from training.batches import Batch, MemoryBatches
from training.errors import Interrupted, NonFiniteLoss
from training.evaluate import score
from training.loop import Validation, fit
from training.seeding import seed_everything


@pytest.fixture
def make_batches(small_data, picture_examples):
    """Make the batches of the small training split, of a class that may differ."""
    return lambda path=MemoryBatches, **settings: path(
        picture_examples(small_data.train), **{"batch_size": 32, "seed": 1, **settings}
    )


@pytest.fixture
def objective(small_data, picture_objective):
    return picture_objective(small_data.validation)


@pytest.fixture
def run(make_batches, objective, small_config):
    """Train a small MLP on real pictures; returns the network and the outcome."""

    def train(*, network=None, batches=None, on_epoch=lambda epoch: None, **changes):
        config = small_config(**changes)
        seed_everything(config.seed)
        network = network or architectures.build("mlp", config.network)
        batches = batches or make_batches(batch_size=config.batch_size, seed=config.seed)
        outcome = fit(network, batches, objective, config, on_epoch=on_epoch)
        return network, outcome

    return train


def weights(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_a_network_learns_a_small_slice(run, small_data):
    network, outcome = run(epochs=12, learning_rate=1e-2)
    (logits,) = predict(network, small_data.train.images)
    assert score(logits, small_data.train.labels).accuracy > 0.9
    assert outcome.best.validation_score > 0.6
    assert outcome.history[-1].train_loss < outcome.history[0].train_loss / 2
    assert [epoch.number for epoch in outcome.history] == list(range(1, 13))
    assert outcome.stopped == "finished"
    assert not network.training


def test_the_best_weights_by_validation_are_kept(run, small_data):
    seen = []
    network = architectures.build("mlp", {"hidden": [32], "dropout": 0.0})
    # a step size far too large, so that later epochs are not better ones
    _, outcome = run(
        network=network, epochs=8, learning_rate=0.5, on_epoch=lambda epoch: seen.append((epoch, weights(network)))
    )
    best_epoch, best_weights = max(seen, key=lambda pair: (pair[0].validation_score, -pair[0].validation_loss))
    assert outcome.best == best_epoch
    assert outcome.best.number < 8
    assert same(weights(network), best_weights)
    assert not same(best_weights, seen[-1][1])
    (logits,) = predict(network, small_data.validation.images)
    assert score(logits, small_data.validation.labels).accuracy == outcome.best.validation_score


def test_training_stops_early_when_validation_no_longer_gains(run):
    _, outcome = run(epochs=50, patience=2, learning_rate=1e-9)
    assert outcome.stopped == "early"
    assert len(outcome.history) < 50
    gains = [epoch.validation_score for epoch in outcome.history]
    assert max(gains[-2:]) <= max(gains[:-2])


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(run):
    one, again, other = (weights(run(seed=seed, network=None)[0]) for seed in (5, 5, 6))
    assert same(one, again)
    assert not same(one, other)


def test_ctrl_c_keeps_the_best_so_far(run, make_batches):
    kept = {}
    network = architectures.build("mlp", {"hidden": [32], "dropout": 0.0})

    class Interrupting(MemoryBatches):
        def epoch(self, epoch):
            batches = super().epoch(epoch)
            if epoch < 3:
                return batches
            kept.update(weights(network))
            return itertools.chain(itertools.islice(batches, 4), self._interrupt())

        def _interrupt(self):
            raise KeyboardInterrupt
            yield

    batches = make_batches(Interrupting)
    _, outcome = run(network=network, batches=batches, epochs=9)
    assert outcome.stopped == "interrupted"
    assert len(outcome.history) == 2
    assert outcome.best.number == 2
    assert same(weights(network), kept)


def test_ctrl_c_before_the_first_epoch_is_done_leaves_nothing_to_keep(run, make_batches):
    class Interrupting(MemoryBatches):
        def epoch(self, epoch):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="first epoch"):
        run(batches=make_batches(Interrupting))


def test_a_loss_that_is_not_finite_stops_training_and_says_where(run, make_batches):
    class Poisoned(MemoryBatches):
        def epoch(self, epoch):
            for step, ((pixels,), labels) in enumerate(super().epoch(epoch), start=1):
                yield Batch((pixels * float("nan") if (epoch, step) == (2, 3) else pixels,), labels)

    with pytest.raises(NonFiniteLoss, match=r"became nan in epoch 2, step 3 of 10.*learning rate"):
        run(batches=make_batches(Poisoned))


def test_dropout_is_on_while_training_and_off_while_validating(make_batches, objective, small_config):
    modes = []

    class Probe(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(784, 10)

        def forward(self, pixels_BHW):
            modes.append(self.training)
            return self.head(pixels_BHW.flatten(1) / 255)

    batches = make_batches(batch_size=160)
    fit(Probe(), batches, objective, small_config(epochs=2))
    assert modes == [True, True, False] * 2


def test_a_convolutional_network_trains_and_keeps_its_weights_in_shape(run, small_data):
    network, outcome = run(network=architectures.build("cnn", {"channels": [4, 8], "dense": 16}), epochs=2)
    assert np.isfinite(outcome.best.validation_loss)
    fresh = architectures.build("cnn", {"channels": [4, 8], "dense": 16})
    fresh.load_state_dict(network.state_dict())
    (ours,), (theirs,) = (predict(net, small_data.validation.images) for net in (network, fresh))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def epoch_numbers(outcome):
    return [(epoch.train_loss, epoch.validation_loss) for epoch in outcome.history]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_accumulated_batches_are_one_large_batch(precision):
    # 90 rows: the last step has 26, in batches of 8, 8, 8 and 2
    settings = {"optimizer": "momentum", "by_length": False, "precision": precision}
    large, of_large = train_series(series_config(batch_size=32, **settings))
    small, of_small = train_series(series_config(batch_size=8, accumulate=4, **settings))
    for name, tensor in large.state_dict().items():
        atol = 1e-6 if precision == "fp32" else 1e-2
        torch.testing.assert_close(small.state_dict()[name], tensor, rtol=0, atol=atol)
    np.testing.assert_allclose(epoch_numbers(of_small), epoch_numbers(of_large), rtol=0, atol=1e-2)
    assert not same(large.state_dict(), MeanNetwork().state_dict())


def test_gradients_are_clipped_together_to_the_norm():
    def step_length(clip_norm):
        # one step of plain descent along one batch of all rows
        settings = {"optimizer": "sgd", "schedule": "constant", "weight_decay": 0.0, "learning_rate": 1.0, "epochs": 1}
        seed_everything(20)
        before = MeanNetwork().state_dict()
        network, _ = train_series(series_config(batch_size=90, clip_norm=clip_norm, **settings))
        moves = [(network.state_dict()[name] - tensor).flatten() for name, tensor in before.items()]
        return torch.cat(moves).norm().item()

    free = step_length(None)
    assert free > 0.1
    assert step_length(0.05) == pytest.approx(0.05, rel=1e-3)
    assert step_length(free * 2) == pytest.approx(free, rel=1e-5)


@pytest.mark.parametrize("validation", [Validation(float("nan"), 0.5), Validation(1.0, float("nan"))])
def test_a_validation_that_is_not_finite_stops_training(validation):
    class Broken(SeriesObjective):
        def validate(self, network):
            return validation

    batches = MemoryBatches(Series(), batch_size=16, seed=1)
    with pytest.raises(NonFiniteLoss, match=r"validation.*nan.*epoch 1"):
        fit(MeanNetwork(), batches, Broken(Series(10)), series_config())


def test_a_score_below_zero_can_be_best():
    class Error(SeriesObjective):
        score_name = "-loss"

        def validate(self, network):
            loss = super().validate(network).loss
            return Validation(loss, -loss)

    batches = MemoryBatches(Series(), batch_size=16, seed=1)
    outcome = fit(MeanNetwork(), batches, Error(Series(60, seed=1)), series_config())
    assert outcome.best.validation_score == max(epoch.validation_score for epoch in outcome.history) < 0


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train_series(series_config())
    assert list(tmp_path.iterdir()) == []


def test_the_clock_is_only_for_the_record():
    ticks = itertools.count(step=5.0)
    one, outcome = train_series(series_config(), clock=lambda: next(ticks))
    assert [epoch.duration_s for epoch in outcome.history] == [5.0] * 4
    assert same(one.state_dict(), train_series(series_config())[0].state_dict())


def test_steps_are_counted_over_the_whole_epoch_in_the_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    train_series(series_config(epochs=1, accumulate=4), show_progress=True)
    assert "/2" in capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_network_on_the_gpu_learns_there_and_goes_on_from_a_checkpoint(tmp_path, precision):
    config = series_config(precision=precision, epochs=12, learning_rate=0.02, clip_norm=1.0)

    def interrupt(epoch):
        if epoch.number == 5:
            raise KeyboardInterrupt

    train_series(config, device="cuda", dropout=0.2, noise=0.1, run_dir=tmp_path, on_epoch=interrupt)
    network, outcome = train_series(config, device="cuda", dropout=0.2, noise=0.1, run_dir=tmp_path)
    assert {parameter.device.type for parameter in network.parameters()} == {"cuda"}
    assert [epoch.number for epoch in outcome.history] == list(range(1, 13))
    assert outcome.best.validation_score > 0.5
