import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.counts import ROW_SECONDS, ROWS, SECONDS, Histogram


@given(st.lists(st.floats(-1, 20) | st.sampled_from([0.5, 1.0, 2.0]), max_size=30))
def test_a_bucket_counts_every_value_up_to_its_bound(values: list[float]) -> None:
    bounds = (0.5, 1.0, 2.0)
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    expected = [(repr(bound), sum(value <= bound for value in values)) for bound in bounds]
    assert histogram.buckets() == [*expected, ("+Inf", len(values))]
    assert histogram.total == pytest.approx(sum(values))


@pytest.mark.parametrize("bounds", [SECONDS, ROWS, ROW_SECONDS])
def test_bounds_rise(bounds: tuple[float, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))
