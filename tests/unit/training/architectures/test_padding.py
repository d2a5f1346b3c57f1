import pytest
import torch

from training.architectures import _padding

LENGTHS = torch.tensor([3, 1, 4])
STEPS = torch.tensor([[1.0, 2, 3, 90], [4, 90, 90, 90], [-5, -6, -7, -8]]).unsqueeze(2)
REAL = _padding.real_steps(4, LENGTHS)


def test_real_steps_lie_within_their_length():
    assert REAL.tolist() == [[True, True, True, False], [True, False, False, False], [True] * 4]


def test_rows_are_turned_around_within_their_own_length():
    turned_BTD = _padding.reverse(STEPS, LENGTHS)
    assert turned_BTD.squeeze(2).tolist() == [[3, 2, 1, 90], [4, 90, 90, 90], [-8, -7, -6, -5]]
    assert torch.equal(_padding.reverse(turned_BTD, LENGTHS), STEPS)


def test_poolings_look_at_real_steps_only():
    assert _padding.mean(STEPS, REAL, LENGTHS).flatten().tolist() == pytest.approx([2, 4, -6.5])
    assert _padding.largest(STEPS, REAL).flatten().tolist() == [3, 4, -5]
    assert _padding.last(STEPS, LENGTHS).flatten().tolist() == [3, 4, -8]


def test_a_row_without_steps_counts_as_one():
    assert _padding.at_least_one(torch.tensor([0, 1, 7])).tolist() == [1, 1, 7]
