"""Logistic regression on weighted words, for texts."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from training.baselines.baseline import Baseline, all_classes, of_probabilities

# A word of a single text tells nothing of others.
FEWEST_TEXTS = 2


def logistic_regression_of_texts(
    texts: Sequence[str],
    labels_N: NDArray[np.int64],
    test_texts: Sequence[str],
    test_labels_M: NDArray[np.int64],
    *,
    num_classes: int,
) -> Baseline:
    """Fit a logistic regression to the words of texts, each weighted by how rare it is (TF-IDF).

    Args:
        texts: Of the training and the validation rows.
        labels_N: Their classes.
        test_texts: Scored on.
        test_labels_M: Their classes.
        num_classes: How many there are.

    Raises:
        ValueError: The texts do not match their labels, or no word occurs in two of them.
    """
    # the regularization is weak, as the features are of unit length and many: C is that of common practice, not tuned
    model = make_pipeline(
        TfidfVectorizer(sublinear_tf=True, min_df=FEWEST_TEXTS, dtype=np.float64),
        LogisticRegression(C=10.0, max_iter=1000),
    ).fit(texts, labels_N)
    probabilities_MC = all_classes(model.predict_proba(test_texts), model.classes_, num_classes)
    return of_probabilities(
        "tfidf_logistic_regression", "Logistic regression on TF-IDF weights of words", probabilities_MC, test_labels_M
    )
