import warnings

import pytest
import torch
from torch import nn

from tests.support.learning import MeanNetwork, digest, series_config, train_series
from training.precision import make_scaler, mixed, take_step

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_matrix_products_run_in_the_precision_and_weights_stay_float32(precision, dtype):
    layer = nn.Linear(4, 2)
    with mixed(precision, CPU):
        assert layer(torch.ones(3, 4)).dtype == dtype
    assert layer(torch.ones(3, 4)).dtype == torch.float32
    assert layer.weight.dtype == torch.float32


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_network_learns_in_mixed_precision(precision, monkeypatch):
    dtypes = set()
    plain = MeanNetwork.forward

    def spy(self, *inputs):
        outputs = plain(self, *inputs)
        dtypes.add((self.training, outputs.dtype))
        return outputs

    monkeypatch.setattr(MeanNetwork, "forward", spy)
    # several steps are left out until the scale of fp16 has come down; torch must not complain of the schedule then
    with warnings.catch_warnings(action="error"):
        network, outcome = train_series(series_config(precision=precision, epochs=12, learning_rate=0.02))
    short = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert dtypes == {(True, short), (False, torch.float32)}
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
    assert outcome.best.validation_score > 0.5
    assert digest(network) != digest(train_series(series_config(epochs=12, learning_rate=0.02))[0])


def test_gradients_that_fp16_would_lose_are_kept_by_the_scale():
    def gradient(scaler):
        layer = nn.Linear(1, 1, bias=False)
        with mixed("fp16", CPU):
            loss = layer(torch.ones(1, 1)).float().sum() * 1e-8  # below the least number of fp16
        scaler.scale(loss).backward()
        optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
        scaler.unscale_(optimizer)
        return layer.weight.grad.item()

    assert gradient(make_scaler("fp32", CPU)) == 0.0
    assert gradient(make_scaler("fp16", CPU)) == pytest.approx(1e-8, rel=0.01)


def test_a_step_that_would_become_infinite_is_left_out_and_the_scale_comes_down():
    layer, scaler = nn.Linear(1, 1, bias=False), make_scaler("fp16", CPU)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    before, scale = layer.weight.item(), scaler.get_scale()
    scaler.scale(layer(torch.ones(1, 1)).sum() * float("inf")).backward()
    assert not take_step(optimizer, scaler)
    assert layer.weight.item() == before
    assert scaler.get_scale() < scale
    optimizer.zero_grad()
    scaler.scale(layer(torch.ones(1, 1)).sum()).backward()
    assert take_step(optimizer, scaler)
    assert layer.weight.item() == pytest.approx(before - 1)
