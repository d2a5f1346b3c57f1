"""The simple models, on real rows where there are any and on rows made for the purpose."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from training import baselines, data
from training.data import TableRows
from training.evaluate import score_values


def test_a_table_of_classes_gets_a_logistic_regression():
    table = data.load("breast_cancer")
    told = baselines.simple_model_of_table(table.train, table.validation, table.test, num_classes=2)
    assert told.name == "logistic_regression"
    assert told.metrics["accuracy"] == (told.predictions == table.test.targets).mean() > 0.94
    assert told.metrics["roc_auc"] > 0.98
    predicted = baselines.logistic_regression(table.train, table.validation)(table.test.features)
    np.testing.assert_array_equal(predicted, told.predictions)


def test_a_table_of_numbers_gets_a_ridge_regression():
    table = data.load("diabetes")
    told = baselines.simple_model_of_table(table.train, table.validation, table.test, num_classes=0)
    assert told.name == "ridge"
    assert told.metrics["r2"] == pytest.approx(score_values(told.predictions, table.test.targets).r2)
    assert set(told.named()) == {f"baseline/ridge/{name}" for name in ("mse", "mae", "r2", "rmse")}


def test_a_class_that_the_training_rows_lack_gets_no_probability_and_no_crash():
    features = np.array([[0.0], [0.1], [1.0], [1.1]])
    rows = TableRows(features=features, targets=np.array([0, 0, 2, 2]))
    test = TableRows(features=np.array([[0.0], [1.0], [1.0]]), targets=np.array([0, 1, 2]))
    told = baselines.simple_model_of_table(rows, rows, test, num_classes=4)
    assert told.predictions.tolist() == [0, 2, 2]
    assert told.metrics["accuracy"] == pytest.approx(2 / 3)
    assert np.isfinite(list(told.metrics.values())).all()


@pytest.mark.slow
def test_pictures_get_a_logistic_regression_on_their_pixels(pictures):
    train, test = pictures.take(np.arange(384)), pictures.take(np.arange(384, 512))

    def tell():
        return baselines.logistic_regression_of_pictures(
            train.images, train.labels, test.images, test.labels, num_classes=10
        )

    told = tell()
    assert told.metrics["accuracy"] > 0.65
    np.testing.assert_array_equal(told.predictions, tell().predictions)
    by_hand = LogisticRegression(max_iter=1000).fit(train.images.reshape(384, -1) / 255, train.labels)
    agreement = (by_hand.predict(test.images.reshape(128, -1) / 255) == told.predictions).mean()
    assert agreement > 0.97


def test_principal_components_are_those_of_scikit_learn_and_more_of_them_err_less(pictures):
    train, test = pictures.images[:400], pictures.images[400:]
    told = {count: baselines.principal_components(train, test, count) for count in (4, 32)}
    assert told[32].name == "pca_32"
    assert told[32].metrics["mse"] < told[4].metrics["mse"] / 2
    assert told[32].predictions.shape == test.shape
    error = ((told[32].predictions - test / 255) ** 2).mean()
    assert told[32].metrics["mse"] == pytest.approx(error, rel=1e-4)
    model = PCA(32, svd_solver="full").fit(train.reshape(400, -1) / 255)
    flat = test.reshape(len(test), -1) / 255
    expected = ((model.inverse_transform(model.transform(flat)) - flat) ** 2).mean()
    assert told[32].metrics["mse"] == pytest.approx(expected, rel=1e-3)


def test_texts_get_a_logistic_regression_on_their_words():
    ham = [f"dear friend, lunch at {hour}? yours, bob" for hour in range(8, 20)]
    spam = [f"WIN {sum_}000 dollars now, free money!!!" for sum_ in range(1, 13)]
    labels = np.repeat([0, 1], 12)
    told = baselines.logistic_regression_of_texts(
        ham + spam, labels, ["free dollars for you", "lunch, friend?", "unheard-of"], np.array([1, 0, 0]), num_classes=2
    )
    assert told.predictions[:2].tolist() == [1, 0]
    assert told.metrics["roc_auc"] == 1.0
    assert told.name == "tfidf_logistic_regression"


def naive_distance(first, second):
    """Dynamic time warping, cell by cell."""
    sums = np.full((len(first) + 1, len(second) + 1), np.inf)
    sums[0, 0] = 0
    for row, left in enumerate(first, start=1):
        for column, right in enumerate(second, start=1):
            nearest = min(sums[row - 1, column], sums[row, column - 1], sums[row - 1, column - 1])
            sums[row, column] = ((left - right) ** 2).sum() + nearest
    return sums[-1, -1]


def test_warped_distances_are_those_of_the_textbook(monkeypatch):
    rng = np.random.default_rng(0)
    firsts = [rng.normal(size=(length, 3)) for length in (1, 4, 9)]
    seconds = [rng.normal(size=(length, 3)) for length in (7, 1, 2, 5)]
    expected = [[naive_distance(first, second) for second in seconds] for first in firsts]
    np.testing.assert_allclose(baselines.series.warped_distances(firsts, seconds), expected, rtol=1e-10)
    monkeypatch.setattr(baselines.series, "PAIRS_AT_ONCE", 5)  # one row of pairs after the other
    np.testing.assert_allclose(baselines.series.warped_distances(firsts, seconds), expected, rtol=1e-10)


def test_a_series_that_is_only_slower_is_the_same_series():
    ramp = np.linspace(0, 1, 6)[:, None]
    slower, other = np.repeat(ramp, 3, axis=0), ramp[::-1].copy()
    told = baselines.nearest_neighbor(
        [other, slower], np.array([0, 1]), [ramp, ramp[::-1]], np.array([1, 1]), num_classes=2
    )
    assert told.predictions.tolist() == [1, 0]
    assert told.metrics["accuracy"] == 0.5
    assert baselines.series.warped_distances([ramp], [slower]).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("firsts", "seconds", "message"),
    [
        ([np.zeros((0, 2))], [np.zeros((3, 2))], "without steps"),
        ([], [np.zeros((3, 2))], "without steps"),
        ([np.zeros((3, 1))], [np.zeros((3, 2))], "of 1 channels"),
    ],
)
def test_series_that_have_no_distance_are_refused(firsts, seconds, message):
    with pytest.raises(ValueError, match=message):
        baselines.series.warped_distances(firsts, seconds)
