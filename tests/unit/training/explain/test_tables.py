import itertools

import numpy as np
import pytest
import torch

from training.explain.tables import permutation_importance, shapley_values

BASELINE = torch.tensor([[1.0, 0.5, -1.0]])


def crossed(rows):
    return rows[:, 0] * rows[:, 1] + torch.relu(rows[:, 2]) * rows[:, 0]


def by_definition(row, baseline):
    """Return the Shapley values of one row over all orders of its features."""
    values = torch.zeros(len(row))
    orders = list(itertools.permutations(range(len(row))))
    for order in orders:
        at = baseline.clone()
        for feature in order:
            before = crossed(at[None])[0]
            at[feature] = row[feature]
            values[feature] += (crossed(at[None])[0] - before) / len(orders)
    return values


def test_shapley_values_near_their_definition_and_are_complete_with_any_number_of_orders():
    rows = torch.tensor([[2.0, 3.0, 1.5], [-1.0, 0.0, 4.0]])
    exact = torch.stack([by_definition(row, BASELINE[0]) for row in rows])
    found = shapley_values(crossed, rows, None, baseline_1F=BASELINE, seed=1, num_orders=600)
    torch.testing.assert_close(found, exact, rtol=0, atol=0.3)
    rough = shapley_values(crossed, rows, None, baseline_1F=BASELINE, seed=1, num_orders=3)
    torch.testing.assert_close(rough.sum(dim=1), crossed(rows) - crossed(BASELINE))


def test_the_seed_decides_and_the_global_generator_is_left_alone():
    rows = torch.tensor([[2.0, 3.0, 1.5]])
    state = torch.get_rng_state()
    first, again, other = (
        shapley_values(crossed, rows, None, baseline_1F=BASELINE, seed=seed, num_orders=3) for seed in (1, 1, 4)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_shuffling_what_a_score_does_not_look_at_costs_nothing():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 3))
    targets = rows[:, 0] * 3 + rows[:, 1]

    def score(some):
        return -float(((some[:, 0] * 3 + some[:, 1] - targets) ** 2).mean())

    found = permutation_importance(score, rows, seed=5)
    assert found.mean_F[2] == 0
    # twice the variance of what was shuffled
    assert found.mean_F[0] == pytest.approx(18, rel=0.2)
    assert found.mean_F[1] == pytest.approx(2, rel=0.2)
    np.testing.assert_array_equal(found.mean_F, permutation_importance(score, rows, seed=5).mean_F)
