"""The simple models that a network is held against, and reported beside even where they win.

Each is fitted to the training and the validation rows together: they need no validation of their own.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from app.tensors import Array
from training.data import TableRows

RIDGE_ALPHAS = np.logspace(-2, 3, 26)

# From features, float64 of shape (N, F), to classes or values, shape (N,).
Predict = Callable[[Array], Array]


def logistic_regression(train: TableRows, validation: TableRows) -> Predict:
    """Fit a logistic regression on standardized features, with scikit-learn's own regularization."""
    return _fitted(make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)), train, validation)


def ridge(train: TableRows, validation: TableRows) -> Predict:
    """Fit a ridge regression on standardized features; leaving out one row after the other decides its strength."""
    return _fitted(make_pipeline(StandardScaler(), RidgeCV(RIDGE_ALPHAS)), train, validation)


def _fitted(model: Any, train: TableRows, validation: TableRows) -> Predict:
    rows = train.and_rows(validation)
    model.fit(rows.features, rows.targets)
    predict: Predict = model.predict
    return predict
