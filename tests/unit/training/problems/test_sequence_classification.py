import dataclasses

import numpy as np
import pytest

from training import pipeline
from training.data import SequenceRows
from training.errors import ConfigError


@pytest.fixture
def case(cases):
    return cases["sequence_classification"]


def problem_with(case, data=None, **options):
    return pipeline.problem_of(dataclasses.replace(case.config, data_options=options), data or case.problem.data)


def with_series(data, split, length):
    """Return the data with a series of the given length in a split, in third place."""
    rows = getattr(data, split)
    series = list(rows.series)
    series[2] = np.zeros((length, data.num_channels), np.float32)
    return dataclasses.replace(data, **{split: SequenceRows(series=tuple(series), labels=rows.labels)})


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("length", [0, 1, 6, 30, 500])
def test_a_series_that_the_service_would_refuse_is_named_before_any_training(case, split, length):
    data = with_series(case.problem.data, split, length)
    with pytest.raises(ConfigError, match=rf"{split} split, series 3: {length} steps, expected 7 to 29"):
        problem_with(case, data)


def test_wider_bounds_take_shorter_and_longer_series_but_none_without_a_step(case):
    data = with_series(with_series(case.problem.data, "train", 1), "test", 500)
    problem = problem_with(case, data, min_length=1, max_length=500)
    assert problem.longest == {"time": 500}
    assert problem.settings(case.run).sequence.min_length == 1
    assert problem.max_elements == 32 * 500
    with pytest.raises(ConfigError, match="min_length"):
        problem_with(case, with_series(data, "train", 0), min_length=0, max_length=500)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"min_length": 30, "max_length": 29}, "min_length"),
        ({"min_length": -1}, "min_length"),
        ({"max_length": 100_000}, "max_length"),
        ({"max_length": "long"}, "'max_length' must be of type int"),
    ],
)
def test_impossible_bounds_are_named(case, options, named):
    with pytest.raises(ConfigError, match=named):
        problem_with(case, **options)


@pytest.mark.parametrize("bounds", [(7, 29), (1, 29), (9, 9), (1, 1), (4, 5)])
def test_golden_series_reach_both_bounds_and_none_lies_beyond(case, bounds):
    shortest, longest = bounds
    data = case.problem.data
    cut = {
        split: SequenceRows(
            series=tuple(np.resize(each, (np.clip(len(each), *bounds), 12)) for each in rows.series),
            labels=rows.labels,
        )
        for split in ("train", "validation", "test")
        for rows in [getattr(data, split)]
    }
    problem = problem_with(case, dataclasses.replace(data, **cut), min_length=shortest, max_length=longest)
    golden = problem.golden(case.run, problem.settings(case.run))
    lengths = [len(request["sequence"]) for request in golden.requests]
    assert (min(lengths), max(lengths)) == bounds
    assert lengths == golden.inputs["lengths"].tolist()
    edges = np.concatenate([np.array(request["sequence"]) for request in golden.requests[:7]])
    steps = np.concatenate(problem.data.train.series)
    assert (edges.min(axis=0) <= steps.min(axis=0)).all()
    if longest > 1:  # one step cannot be at both ends
        assert (edges.max(axis=0) >= steps.max(axis=0)).all()


def test_the_network_is_told_channels_and_their_scale(case):
    steps = np.concatenate(case.problem.data.train.series).astype(np.float64)
    measured = case.problem.measured()
    assert (measured["num_channels"], measured["num_classes"]) == (12, 9)
    np.testing.assert_allclose(measured["input_mean"], steps.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(measured["input_std"], steps.std(axis=0), rtol=1e-5)


def test_statistics_are_of_each_channel_and_of_the_lengths(case):
    statistics = case.problem.statistics()
    assert list(statistics) == [*(f"sequence/{channel}" for channel in range(12)), "lengths"]
    lengths = case.problem.lengths(case.problem.data.train)
    assert (statistics["lengths"].minimum, statistics["lengths"].maximum) == (lengths.min(), lengths.max())
