from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.learning import series_config, train_series
from training.config import OptimizerName, ScheduleName
from training.optim import Schedule, make_optimizer


@pytest.mark.parametrize("warmup", [0.0, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 9, 10, 49])
def test_the_schedule_rises_to_its_peak_and_falls_however_short_the_training(small_config, warmup, steps):
    network = nn.Linear(2, 2)
    config = small_config(learning_rate=0.5, warmup=warmup, epochs=1)
    optimizer = make_optimizer(network, config)
    schedule = Schedule(optimizer, config, steps_per_epoch=steps)
    rates = [schedule.rate]
    for _ in range(steps):
        optimizer.step()
        schedule.after_step()
        rates.append(schedule.rate)
    peak = int(np.argmax(rates))
    assert 0 < max(rates) <= 0.5
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 0.01


def after_one_step(optimizer_name, network, loss_of, **changes):
    """Return the weights of a network after one step against the gradient of a loss."""
    optimizer = make_optimizer(network, series_config(optimizer=optimizer_name, **changes))
    loss_of(network).backward()
    optimizer.step()
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


def line():
    network = nn.Linear(1, 1)
    with torch.no_grad():
        network.weight.fill_(2.0)
        network.bias.fill_(3.0)
    return network


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sgd", 2 - 0.1 * (4 + 0.5 * 2)),
        ("momentum", 2 - 0.1 * (4 + 0.5 * 2)),
        ("nesterov", 2 - 0.1 * (1 + 0.9) * (4 + 0.5 * 2)),  # the gradient, and the momentum that it has become
        ("rmsprop", 2 - 0.1 * 5 / (0.01 * 25) ** 0.5),
        ("adam", 2 - 0.1),  # of the first step only the sign is left
        ("adamw", 2 - 0.1 * 0.5 * 2 - 0.1),
    ],
)
def test_the_first_step_is_what_the_formula_says(name, expected):
    # the gradient of the weight is 4, the decay is 0.5
    found = after_one_step(name, line(), lambda network: 4 * network.weight.sum(), learning_rate=0.1, weight_decay=0.5)
    assert found["weight"].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["momentum", "nesterov"])
def test_momentum_goes_on_without_a_gradient(name):
    network = line()
    optimizer = make_optimizer(
        network, series_config(optimizer=name, momentum=0.5, learning_rate=0.1, weight_decay=0.0)
    )
    moves = []
    for gradient in (1.0, 0.0, 0.0):
        before = network.weight.item()
        optimizer.zero_grad()
        (gradient * network.weight.sum()).backward()
        optimizer.step()
        moves.append(network.weight.item() - before)
    assert moves[2] / moves[1] == pytest.approx(0.5, abs=1e-4)
    assert moves[0] < moves[2] < 0


@pytest.mark.parametrize("name", get_args(OptimizerName))
@pytest.mark.parametrize("matrices_only", [False, True])
def test_decay_may_be_kept_from_biases(name, matrices_only):
    settings = {"learning_rate": 0.1, "weight_decay": 0.5, "decay_matrices_only": matrices_only}
    found = after_one_step(name, line(), lambda network: 0 * (network.weight.sum() + network.bias.sum()), **settings)
    assert found["weight"].item() < 2.0
    assert (found["bias"].item() == 3.0) is matrices_only


@pytest.mark.parametrize("name", get_args(OptimizerName))
@pytest.mark.parametrize("schedule", get_args(ScheduleName))
def test_every_optimizer_learns_with_every_schedule(name, schedule):
    rate = 0.3 if name in ("sgd", "momentum", "nesterov") else 0.02
    _, outcome = train_series(series_config(optimizer=name, schedule=schedule, learning_rate=rate, epochs=8))
    assert outcome.history[-1].train_loss < 0.8 * outcome.history[0].train_loss
    assert outcome.best.validation_score > 0.5


def rates_of(epochs, steps_per_epoch, scores=(), **changes):
    """Return the learning rate of every step."""
    config = series_config(epochs=epochs, learning_rate=1.0, **changes)
    optimizer = make_optimizer(nn.Linear(1, 1), config)
    schedule = Schedule(optimizer, config, steps_per_epoch=steps_per_epoch)
    rates = []
    for epoch in range(epochs):
        for _ in range(steps_per_epoch):
            rates.append(optimizer.param_groups[0]["lr"])
            assert schedule.rate == rates[-1]
            optimizer.step()
            schedule.after_step()
        schedule.after_epoch(scores[epoch] if scores else 0.0)
    return rates


def test_a_constant_rate_stays():
    assert rates_of(3, 4, schedule="constant") == [1.0] * 12


def test_steps_fall_after_every_few_epochs():
    rates = rates_of(5, 2, schedule="step", decay_epochs=2, decay_factor=0.5)
    assert rates == pytest.approx([1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25])


def test_a_cosine_rises_in_a_straight_line_and_falls_to_zero():
    rates = rates_of(5, 20, schedule="cosine", warmup=0.2)
    rise, fall = rates[:21], rates[20:]
    assert np.diff(rise) == pytest.approx(np.full(20, 1 / 21))
    assert max(rates) == rates[20] == 1.0
    assert fall == sorted(fall, reverse=True)
    assert rates[60] == pytest.approx(0.5, abs=0.01)
    assert 0 < rates[-1] < 0.002


def test_a_plateau_falls_when_the_score_no_longer_rises():
    scores = [0.1, 0.2, 0.2, 0.1, 0.3, 0.3, 0.3]
    rates = rates_of(7, 1, schedule="plateau", decay_epochs=2, decay_factor=0.1, scores=scores)
    # two epochs without a gain after the second, and two after the fifth
    assert rates == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1])
    rates = rates_of(8, 1, schedule="plateau", decay_epochs=2, decay_factor=0.1, scores=[*scores, 0.3])
    assert rates[-1] == pytest.approx(0.01)


def test_one_cycle_leaves_plain_gradient_descent_without_momentum():
    config = series_config(optimizer="sgd", schedule="one_cycle")
    optimizer = make_optimizer(nn.Linear(1, 1), config)
    schedule = Schedule(optimizer, config, steps_per_epoch=5)
    for _ in range(4):
        optimizer.step()
        schedule.after_step()
    assert optimizer.param_groups[0]["momentum"] == 0.0
