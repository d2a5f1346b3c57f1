"""The simple models that a network is held against, and reported beside even where they win.

Each is fitted to the training and the validation rows together: they need no validation of their own. Each is told
once, on the test rows, as a :class:`Baseline`; its predictions are kept, so that network and baseline can be compared
row by row. All are deterministic.
"""

from training.baselines.baseline import Baseline
from training.baselines.pictures import logistic_regression_of_pictures, principal_components
from training.baselines.series import nearest_neighbor
from training.baselines.tables import logistic_regression, ridge, simple_model_of_table
from training.baselines.texts import logistic_regression_of_texts

__all__ = [
    "Baseline",
    "logistic_regression",
    "logistic_regression_of_pictures",
    "logistic_regression_of_texts",
    "nearest_neighbor",
    "principal_components",
    "ridge",
    "simple_model_of_table",
]
