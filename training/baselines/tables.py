"""Logistic regression and ridge regression, for tables."""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from app.tensors import Array
from training.baselines.baseline import Baseline, all_classes, of_probabilities
from training.data import TableRows
from training.metrics import value_scores

RIDGE_ALPHAS = np.logspace(-2, 3, 26)

# From features, float64 of shape (N, F), to classes or values, shape (N,).
Predict = Callable[[Array], Array]


def logistic_regression(train: TableRows, validation: TableRows) -> Predict:
    """Fit a logistic regression on standardized features, with scikit-learn's own regularization."""
    predict: Predict = _classifier(train, validation).predict
    return predict


def ridge(train: TableRows, validation: TableRows) -> Predict:
    """Fit a ridge regression on standardized features; leaving out one row after the other decides its strength."""
    predict: Predict = _fitted(make_pipeline(StandardScaler(), RidgeCV(RIDGE_ALPHAS)), train, validation).predict
    return predict


def simple_model_of_table(train: TableRows, validation: TableRows, test: TableRows, *, num_classes: int) -> Baseline:
    """Fit what suits the targets, and tell what it makes of the test rows.

    Args:
        train: Fitted to.
        validation: Fitted to as well.
        test: Scored on.
        num_classes: How many there are; 0 where a number is told.
    """
    if not num_classes:
        values_N = ridge(train, validation)(test.features)
        return Baseline(
            name="ridge",
            description="Ridge regression on standardized features",
            metrics=value_scores(values_N, test.targets).named(),
            predictions=values_N,
        )
    model = _classifier(train, validation)
    probabilities_NC = all_classes(model.predict_proba(test.features), model.classes_, num_classes)
    return of_probabilities(
        "logistic_regression", "Logistic regression on standardized features", probabilities_NC, test.targets
    )


def _classifier(train: TableRows, validation: TableRows) -> Any:
    return _fitted(make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)), train, validation)


def _fitted(model: Any, train: TableRows, validation: TableRows) -> Any:
    rows = train.and_rows(validation)
    return model.fit(rows.features, rows.targets)
