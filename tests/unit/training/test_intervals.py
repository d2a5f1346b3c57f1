import numpy as np
import pytest
import sklearn.metrics as reference
from scipy.stats import binom

from training.intervals import (
    Interval,
    bootstrap,
    bootstrap_mean,
    compare_errors,
    compare_labels,
    macro_f1,
    roc_auc,
    wilson,
)
from training.metrics import label_scores, probability_scores, softmax


def test_wilson_of_published_examples():
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    for right, rows, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611),
                                   (1, 29, 0.0061, 0.1718)]:  # fmt: skip
        interval = wilson(right, rows)
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(("right", "rows"), [(0, 0), (3, 2), (-1, 5)])
def test_impossible_shares_are_refused(right, rows):
    with pytest.raises(ValueError, match="no share"):
        wilson(right, rows)


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(3, 2, 2000)
    interval = bootstrap_mean(values)
    half = 1.96 * values.std() / len(values) ** 0.5
    assert interval.low == pytest.approx(values.mean() - half, abs=0.02)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.02)


def test_intervals_hold_the_truth_about_as_often_as_they_claim():
    rng = np.random.default_rng(0)
    held = [0.0 in bootstrap_mean(rng.normal(0, 1, 60), num_draws=300) for _ in range(200)]
    assert binom.ppf(0.001, 200, 0.93) <= sum(held) <= binom.ppf(0.999, 200, 0.96)


def test_the_seed_decides_the_draws():
    values = np.random.default_rng(0).random(50)
    assert bootstrap_mean(values) == bootstrap_mean(values) != bootstrap_mean(values, seed=1)


def test_stratified_draws_keep_the_size_of_every_class():
    labels = np.repeat([0, 1, 2], [50, 3, 1])
    seen = []

    def counts(drawn):
        seen.append(np.bincount(labels[drawn], minlength=3).tolist())
        return 0.0

    bootstrap(counts, len(labels), strata_N=labels, num_draws=20)
    assert seen == [[50, 3, 1]] * 20
    seen.clear()
    bootstrap(counts, len(labels), num_draws=20)
    assert seen != [[50, 3, 1]] * 20


def test_there_is_no_interval_without_rows():
    with pytest.raises(ValueError, match="without rows"):
        bootstrap(lambda drawn: 0.0, 0)


@pytest.fixture
def classified():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, 300)
    # rounded, so that there are ties
    logits = np.round(rng.normal(size=(300, 5)) + 1.5 * np.eye(5)[labels], 1)
    return logits, labels


def test_the_quick_scores_are_the_real_ones_on_all_rows_and_on_drawn_ones(classified):
    logits, labels = classified
    probabilities, predicted = softmax(logits), logits.argmax(1)
    quick_f1, quick_auc = macro_f1(predicted, labels, 5), roc_auc(probabilities, labels)
    for drawn in (np.arange(300), np.random.default_rng(2).integers(0, 300, 300)):
        expected = label_scores(predicted[drawn], labels[drawn], 5).macro_f1
        assert quick_f1(drawn) == pytest.approx(expected, rel=1e-12)
        each = [reference.roc_auc_score(labels[drawn] == index, probabilities[drawn, index]) for index in range(4)]
        assert quick_auc(drawn) == pytest.approx(np.mean(each), rel=1e-12)
    assert quick_auc(np.arange(300)) == pytest.approx(probability_scores(logits, labels).roc_auc, abs=1e-6)


def test_scores_lie_within_their_intervals(classified):
    logits, labels = classified
    quick = macro_f1(logits.argmax(1), labels, 5)
    interval = bootstrap(quick, 300, strata_N=labels)
    assert quick(np.arange(300)) in interval
    assert 0.02 < interval.high - interval.low < 0.2


def test_mcnemar_of_a_worked_example():
    # both right 5, only the first 1, only the second 8, none 2
    labels = np.zeros(16, np.int64)
    first = np.repeat([0, 0, 1, 1], [5, 1, 8, 2])
    second = np.repeat([0, 1, 0, 1], [5, 1, 8, 2])
    paired = compare_labels(first, second, labels)
    assert (paired.only_first, paired.only_second) == (1, 8)
    assert paired.p_value == pytest.approx(2 * (1 + 9) / 2**9)
    assert paired.differ


def test_equal_classifiers_do_not_differ():
    labels = np.array([0, 1, 1])
    paired = compare_labels(labels, labels, labels)
    assert paired.p_value == 1.0
    assert not paired.differ


def test_errors_differ_where_one_is_smaller_row_by_row():
    errors = np.random.default_rng(0).random(200)
    assert compare_errors(errors, errors + 0.01).differ
    assert compare_errors(errors, errors + 0.01).difference == pytest.approx(-0.01)
    shuffled = np.random.default_rng(1).permutation(errors)
    assert not compare_errors(errors, shuffled).differ


def test_rows_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="cannot pair"):
        compare_labels(np.zeros(2, np.int64), np.zeros(3, np.int64), np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="cannot pair"):
        compare_errors(np.zeros(2), np.zeros(3))


def test_an_interval_holds_its_ends():
    assert 0.2 in Interval(low=0.2, high=0.3)
    assert 0.31 not in Interval(low=0.2, high=0.3)
