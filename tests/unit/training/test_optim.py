import numpy as np
import pytest
from torch import nn

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
