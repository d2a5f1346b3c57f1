"""Logistic regression on pixels, and principal components, for pictures.

Shape suffixes: N training pictures, M test pictures, H height, W width.
"""

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from app.tensors import Array
from training.baselines.baseline import Baseline, all_classes, of_probabilities
from training.metrics import reconstruction_scores

WHITE = 255.0

# All 60,000 pictures of Fashion-MNIST take twenty seconds; what more steps would gain is in the fourth digit.
MOST_STEPS = 100


def logistic_regression_of_pictures(
    images_NHW: NDArray[np.uint8],
    labels_N: NDArray[np.int64],
    test_images_MHW: NDArray[np.uint8],
    test_labels_M: NDArray[np.int64],
    *,
    num_classes: int,
) -> Baseline:
    """Fit a logistic regression to pixels, one weight for each pixel and class.

    Args:
        images_NHW: Of the training and the validation rows.
        labels_N: Their classes.
        test_images_MHW: Scored on.
        test_labels_M: Their classes.
        num_classes: How many there are.
    """
    model = LogisticRegression(max_iter=MOST_STEPS, tol=1e-3)
    # more threads add in another order, and steps that end early keep the difference
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the description says so
        model.fit(_flat(images_NHW), labels_N)
    probabilities_MC = all_classes(model.predict_proba(_flat(test_images_MHW)), model.classes_, num_classes)
    return of_probabilities(
        "logistic_regression",
        f"Logistic regression on pixels, at most {MOST_STEPS} steps of L-BFGS",
        probabilities_MC,
        test_labels_M,
    )


def principal_components(
    images_NHW: NDArray[np.uint8], test_images_MHW: NDArray[np.uint8], num_components: int
) -> Baseline:
    """Keep a few principal components of each picture, and put it together again: the best that a linear code can do.

    Args:
        images_NHW: Of the training and the validation rows.
        test_images_MHW: Scored on.
        num_components: Numbers of the code, as many as the network's.

    Raises:
        ValueError: There are fewer pictures or pixels than components.
    """
    with threadpool_limits(1):
        model = PCA(num_components, svd_solver="covariance_eigh").fit(_flat(images_NHW))
    test_MP = _flat(test_images_MHW)
    rebuilt_MP = model.inverse_transform(model.transform(test_MP))
    return Baseline(
        name=f"pca_{num_components}",
        description=f"{num_components} principal components",
        metrics=reconstruction_scores(rebuilt_MP, test_MP).named(),
        predictions=rebuilt_MP.reshape(test_images_MHW.shape).astype(np.float32),
    )


def _flat(images_NHW: NDArray[np.uint8]) -> Array:
    """Return pixels from 0 to 1, float32 of shape (N, H * W)."""
    return images_NHW.reshape(len(images_NHW), -1).astype(np.float32) / np.float32(WHITE)
