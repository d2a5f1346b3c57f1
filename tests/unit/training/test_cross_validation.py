import numpy as np
import pytest

from training.cross_validation import FoldScores, cross_validate, folds
from training.data import TableRows

ROWS = TableRows(features=np.arange(103.0)[:, None], targets=np.repeat([0, 1], [70, 33]))


def test_every_row_is_held_out_once_and_every_fold_has_its_share():
    held_out = [indices for _, indices in folds(ROWS.targets, 10, seed=0)]
    assert sorted(np.concatenate(held_out)) == list(range(103))
    for others, held in folds(ROWS.targets, 10, seed=0):
        assert not set(others) & set(held)
        assert len(others) + len(held) == 103
        assert 6.9 <= (ROWS.targets[held] == 0).sum() <= 7.1
        assert 3 <= (ROWS.targets[held] == 1).sum() <= 4


def test_folds_are_decided_by_their_seed():
    first, second, other = ([held.tolist() for _, held in folds(ROWS.targets, 5, seed=seed)] for seed in (1, 1, 2))
    assert first == second != other


@pytest.mark.parametrize("num_folds", [1, 0, 104])
def test_impossible_folds_are_refused(num_folds):
    with pytest.raises(ValueError, match="cannot make"):
        next(folds(ROWS.targets, num_folds, seed=0))


def test_a_contender_sees_no_row_that_it_is_scored_on():
    seen = []

    def contest(train, validation, held_out, fold):
        ids = [set(rows.features[:, 0]) for rows in (train, validation, held_out)]
        assert not ids[0] & ids[1] | ids[0] & ids[2] | ids[1] & ids[2]
        assert len(set.union(*ids)) == 103
        assert len(ids[1]) == round(0.2 * (103 - len(held_out)))
        seen.append(fold)
        return {"ours": float(fold), "other": 0.5}

    scores = cross_validate(ROWS, contest, num_folds=4, seed=0)
    assert seen == [1, 2, 3, 4]
    assert scores["ours"] == FoldScores(scores=(1.0, 2.0, 3.0, 4.0))
    assert scores["ours"].mean == 2.5
    assert scores["ours"].std == pytest.approx(1.25**0.5)
    assert scores["other"].std == 0
