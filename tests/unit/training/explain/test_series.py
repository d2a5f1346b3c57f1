import torch

from training.explain.series import mean_by_progress, step_attributions


def last_step(series_BTK, lengths_B):
    """Score the two channels of the last real step; class 1 is class 0 twice."""
    last_B = series_BTK[torch.arange(len(series_BTK)), lengths_B - 1].prod(dim=1)
    return torch.stack([last_B, 2 * last_B], dim=1)


def test_attributions_lie_where_the_network_looks_and_padding_never_matters():
    series = torch.arange(1.0, 17).reshape(2, 4, 2)
    lengths, targets, baseline = torch.tensor([2, 4]), torch.tensor([0, 1]), torch.zeros(2)
    found = step_attributions(last_step, series, lengths, targets, baseline_K=baseline, num_steps=8)
    expected = torch.zeros(2, 4, 2)
    expected[0, 1], expected[1, 3] = 3 * 4 / 2, 15 * 16
    torch.testing.assert_close(found.values, expected)
    assert found.incompleteness < 1e-6
    series[0, 2:] = 1e6
    other = step_attributions(last_step, series, lengths, targets, baseline_K=baseline, num_steps=8)
    torch.testing.assert_close(other.values, found.values)


def test_series_of_different_lengths_are_averaged_by_their_progress():
    values = torch.tensor([[[1.0], [-3.0], [9.0], [9.0]], [[2.0], [2.0], [4.0], [-4.0]]])
    found = mean_by_progress(values, torch.tensor([2, 4]), 2)
    torch.testing.assert_close(found, torch.tensor([[(1 + 2 + 2) / 3], [(3 + 4 + 4) / 3]]))
