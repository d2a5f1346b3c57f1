import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.bench.histogram import PERCENTS, Histogram

TIMES = st.lists(st.one_of(st.integers(0, 5_000), st.integers(0, 10**7), st.integers(0, (1 << 42) - 1)), min_size=1)


def counted(times: list[int]) -> Histogram:
    histogram = Histogram()
    for time in times:
        histogram.record(time)
    return histogram


@given(TIMES, st.one_of(st.sampled_from(PERCENTS), st.floats(0, 100)))
def test_a_percentile_is_the_exact_one_or_up_to_a_thousandth_above(times: list[int], percent: float) -> None:
    rank = max(1, math.ceil(round(percent * len(times) / 100, 6)))
    exact = sorted(times)[rank - 1]
    found = counted(times).percentile_ms(percent) * 1e6
    assert exact * (1 - 1e-12) <= found <= min(exact * (1 + 1 / 1024) + 1e-6, max(times) * (1 + 1e-12))


def test_percentiles_agree_with_numpy_on_a_skewed_sample() -> None:
    times = np.random.default_rng(1).lognormal(13, 1, 10_007).astype(int).tolist()
    histogram = counted(times)
    for percent in PERCENTS:
        exact = np.percentile(times, percent, method="inverted_cdf") / 1e6
        assert exact <= histogram.percentile_ms(percent) <= exact * (1 + 1 / 1024)


@given(TIMES)
def test_every_time_is_counted_once_and_the_extremes_are_exact(times: list[int]) -> None:
    histogram = counted(times)
    steps = list(histogram.steps())
    assert sum(step.count for step in steps) == histogram.count == len(times)
    assert [step.highest_ns for step in steps] == sorted({step.highest_ns for step in steps})
    assert (histogram.min_ns, histogram.max_ns) == (min(times), max(times))
    assert histogram.mean_ms == pytest.approx(sum(times) / len(times) / 1e6)
    assert histogram.percentile_ms(100) * 1e6 == pytest.approx(max(times))


def test_times_beyond_the_last_step_are_counted_and_the_longest_is_kept() -> None:
    histogram = counted([1 << 50, 1, -5])
    assert histogram.count == 3
    assert histogram.max_ns == 1 << 50
    assert histogram.percentile_ms(100) * 1e6 == pytest.approx(1 << 50)


def test_a_share_within_a_bound_counts_what_is_within() -> None:
    histogram = counted([1_000_000] * 3 + [9_000_000])
    assert histogram.share_within(2) == 0.75
    assert histogram.share_within(0.5) == 0
    assert histogram.share_within(9) == 1


def test_where_nothing_was_counted_nothing_is_claimed() -> None:
    histogram = Histogram()
    assert math.isnan(histogram.percentile_ms(50))
    assert math.isnan(histogram.mean_ms)
    assert histogram.summary_ms() == {}
    assert list(histogram.steps()) == []


@pytest.mark.parametrize("percent", [-1, 100.1, math.nan])
def test_what_is_no_percentile_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 100"):
        Histogram().percentile_ms(percent)
