import numpy as np
import pytest

from training import architectures
from training.batches import MemoryBatches
from training.config import TrainConfig
from training.cross_validation import FoldScores, cross_validate, folds
from training.data import TableRows
from training.loop import fit
from training.seeding import seed_everything

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


def test_every_fold_has_its_share_of_the_given_strata():
    strata = np.tile([0, 1, 2], 40)[:103]
    held_out = []

    def contest(train, validation, held, fold):
        held_out.append(np.bincount(strata[held.features[:, 0].astype(int)]).tolist())
        return {"ours": 0.0}

    cross_validate(ROWS, contest, num_folds=4, seed=0, strata_N=strata)
    assert all(8 <= count <= 9 for counts in held_out for count in counts)


def test_a_torch_network_is_cross_validated_on_rows_that_only_can_be_taken(
    pictures, picture_examples, picture_objective
):
    seen = []

    def contest(train, validation, held_out, fold):
        seen.append(held_out.labels)
        seed_everything(fold)
        network = architectures.build("mlp", {"hidden": [32], "dropout": 0.0})
        config = TrainConfig(architecture="mlp", epochs=4, batch_size=32, learning_rate=5e-3)
        batches = MemoryBatches(picture_examples(train), batch_size=config.batch_size, seed=fold)
        fit(network, batches, picture_objective(validation), config)
        return {"mlp": picture_objective(held_out).validate(network).score}

    scores = cross_validate(pictures, contest, num_folds=3, seed=0)
    assert sum(len(labels) for labels in seen) == len(pictures) == 512
    assert len(scores["mlp"].scores) == 3
    assert min(scores["mlp"].scores) > 0.5
