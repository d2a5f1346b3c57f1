import json

import pytest

from app.comparison import OUTCOMES, Comparison


def one() -> Comparison:
    comparison = Comparison()
    for rows, outcome in enumerate(OUTCOMES, 1):
        comparison.count(outcome, rows)
    comparison.max_difference, comparison.difference_sum = 0.5, 0.75
    comparison.timed, comparison.serving_s, comparison.shadow_s = 2, 0.002, 0.006
    return comparison


def test_nothing_is_told_before_the_first_row_was_compared() -> None:
    fresh = Comparison()
    assert (fresh.compared, fresh.agreement, fresh.mean_difference, fresh.row_seconds) == (0, None, None, None)


def test_rows_without_an_answer_are_not_compared() -> None:
    comparison = one()
    assert (comparison.agreed, comparison.disagreed, comparison.failed) == (1, 2, 3)
    assert comparison.compared == 3
    assert comparison.agreement == pytest.approx(1 / 3)
    assert comparison.mean_difference == pytest.approx(0.25)
    assert comparison.row_seconds == pytest.approx((0.001, 0.003))


def test_sums_of_two_processes_add_up_and_the_largest_difference_is_that_of_either() -> None:
    total, other = one(), one()
    other.max_difference = 0.25
    for state in (one().state(), other.state()):
        total.add(*json.loads(json.dumps(state)))
    assert [getattr(total, outcome) for outcome in OUTCOMES] == [3, 6, 9, 12, 15]
    assert (total.timed, total.serving_s, total.shadow_s) == pytest.approx((6, 0.006, 0.018))
    assert (total.max_difference, total.difference_sum) == (0.5, 2.25)
