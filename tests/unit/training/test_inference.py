import numpy as np
import pytest
import torch
from torch import nn

from training.examples import RaggedExamples, TableExamples
from training.inference import batches_in_order, inference, outputs_of

LENGTHS = [5, 1, 4, 1, 2, 6, 3, 2]
RAGGED = RaggedExamples([np.full((length, 1), row + 1, np.float32) for row, length in enumerate(LENGTHS)], np.arange(8))


class Sums(nn.Module):
    """The sum of each row and its length; remembers how it was called."""

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.weight = nn.Parameter(torch.ones(1))
        self.calls = []

    def forward(self, rows_BTK, lengths_B):
        self.calls.append((tuple(rows_BTK.shape), self.training, torch.is_grad_enabled()))
        return self.dropout(rows_BTK.sum((1, 2)) * self.weight), lengths_B


@pytest.mark.parametrize("batch_size", [1, 3, 8, 500])
def test_ragged_rows_come_back_in_the_order_of_the_split(batch_size):
    sums_N, lengths_N = outputs_of(Sums(), RAGGED, batch_size=batch_size)
    assert lengths_N.tolist() == LENGTHS
    assert sums_N.tolist() == [(row + 1) * length for row, length in enumerate(LENGTHS)]


def test_rows_of_similar_length_share_a_batch_and_each_row_is_run_once():
    network = Sums()
    outputs_of(network, RAGGED, batch_size=3)
    assert [shape for shape, _, _ in network.calls] == [(3, 2, 1), (3, 4, 1), (2, 6, 1)]
    indices = torch.cat([indices_B for indices_B, _ in batches_in_order(RAGGED, 3)])
    assert sorted(indices.tolist()) == list(range(8))


def test_rows_of_one_length_keep_their_order():
    examples = TableExamples(np.arange(5.0)[:, None], np.arange(5))
    assert [indices_B.tolist() for indices_B, _ in batches_in_order(examples, 2)] == [[0, 1], [2, 3], [4]]


def test_there_is_neither_dropout_nor_a_gradient_and_afterwards_all_is_as_before():
    network = Sums().train()
    outputs_of(network, RAGGED)
    assert network.calls == [((8, 6, 1), False, False)]
    assert network.training
    assert network.dropout.training


def test_a_part_that_was_in_inference_mode_stays_in_it():
    network = Sums().train()
    network.dropout.eval()
    with inference(network) as device:
        assert device == torch.device("cpu")
        assert not network.training
    assert network.training
    assert not network.dropout.training


def test_the_mode_comes_back_after_a_failure():
    network = Sums().train()
    with pytest.raises(RuntimeError, match="out of memory"), inference(network):
        raise RuntimeError("out of memory")
    assert network.training
    assert torch.is_grad_enabled()


def test_a_network_without_weights_runs_on_the_cpu():
    with inference(nn.Identity()) as device:
        assert device == torch.device("cpu")
