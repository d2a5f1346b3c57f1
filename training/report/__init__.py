"""The report of a model: what was measured of it, drawn and said in plain words.

Of the three ways in, one suits each task; all take plain arrays and return an :class:`Evaluation`, whose ``metrics`` go
into the manifest and whose ``files()`` go into the bundle's ``report/``. When the manifest is made, :func:`model_card`
writes the card that goes beside them.

- :func:`evaluate_classifier`: of images, texts, series and tables
- :func:`evaluate_regression`: of tables
- :func:`evaluate_reconstruction`: of images
"""

from training.report.classification import evaluate_classifier
from training.report.compare import as_json, as_table, compare
from training.report.evaluation import Comparison, Course, Evaluation, Mistake, Plot
from training.report.model_card import MODEL_CARD, Notes, model_card
from training.report.values import evaluate_reconstruction, evaluate_regression

__all__ = [
    "MODEL_CARD",
    "Comparison",
    "Course",
    "Evaluation",
    "Mistake",
    "Notes",
    "Plot",
    "as_json",
    "as_table",
    "compare",
    "evaluate_classifier",
    "evaluate_reconstruction",
    "evaluate_regression",
    "model_card",
]
