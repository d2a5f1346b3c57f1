import numpy as np
import pytest
import torch
from torch import nn

from tests.support.prediction import predict
from training.evaluate import cross_entropy, score

LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 1, 0])


def test_scores_of_a_worked_example():
    scores = score(np.eye(4)[PREDICTED], LABELS)
    assert scores.accuracy == pytest.approx(4 / 6)
    assert scores.recall == pytest.approx((2 / 3, 1.0, 0.0, 0.0))
    assert scores.precision == pytest.approx((2 / 3, 2 / 3, 0.0, 0.0))
    assert scores.macro_f1 == pytest.approx((2 / 3 + 4 / 5 + 0 + 0) / 4)
    assert scores.confusion.tolist() == [[2, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_loss_agrees_with_torch_and_stands_huge_logits():
    logits = np.random.default_rng(0).normal(0, 5, (50, 7)).astype(np.float32)
    labels = np.arange(50) % 7
    expected = nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(labels)).item()
    assert cross_entropy(logits, labels) == pytest.approx(expected, rel=1e-5)
    assert cross_entropy(np.array([[1e4, -1e4]], np.float32), np.array([1])) == pytest.approx(2e4)


def test_prediction_joins_its_batches_in_order_and_leaves_the_mode_as_it_was():
    class Doubling(nn.Module):
        def forward(self, pixels_BHW):
            assert not self.training
            assert pixels_BHW.dtype == torch.float32
            return pixels_BHW.flatten(1), pixels_BHW.sum((1, 2)) * 2

    module = Doubling().train()
    images = np.arange(7 * 4, dtype=np.uint8).reshape(7, 2, 2)
    flat, doubled = predict(module, images, batch_size=3)
    np.testing.assert_array_equal(flat, images.reshape(7, 4))
    np.testing.assert_array_equal(doubled, images.sum((1, 2)) * 2)
    assert module.training
