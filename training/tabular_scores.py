"""What a NumPy network reaches on its table, and what the simple model beside it."""

from app.tensors import Array, Tensors
from training.baselines import logistic_regression, ridge
from training.config import NumpyConfig
from training.cross_validation import FoldScores, cross_validate
from training.data import Table, TableRows
from training.errors import Interrupted
from training.evaluate import score, score_values
from training.export.verify import VALUE
from training.tabular_fitting import fit_model, network_config_of

NETWORK = "network"


def score_name(data: Table) -> str:
    """Return what the score of a table is called."""
    return "accuracy" if data.target is None else "r2"


def score_of(outputs: Tensors, rows: TableRows) -> float:
    """Return the accuracy of a classifier's outputs, or R2 of a regression's."""
    if VALUE in outputs:
        return score_values(outputs[VALUE], rows.targets).r2
    return score(outputs["logits"], rows.targets).accuracy


def fold_metrics(data: Table, folds: dict[str, FoldScores]) -> dict[str, float]:
    """Return what the network and its baseline reached, as metrics of the manifest.

    Args:
        data: The table.
        folds: From :func:`compare_on_folds`.
    """
    name = score_name(data)
    measured: dict[str, float] = {}
    for contender, scores in folds.items():
        prefix = "cross_validation" if contender == NETWORK else f"cross_validation/{contender}"
        measured |= {f"{prefix}/{name}_mean": scores.mean, f"{prefix}/{name}_std": scores.std}
    return measured


def compare_on_folds(config: NumpyConfig, data: Table) -> dict[str, FoldScores]:
    """Cross-validate the recipe and its baseline over all rows of a table, on the same folds.

    Raises:
        Interrupted: KeyboardInterrupt came; a fold that was not trained to its end would spoil the figures.
    """
    network_config = network_config_of(config, data)
    baseline = _baseline_name(data)

    def contest(train: TableRows, validation: TableRows, held_out: TableRows, fold: int) -> dict[str, float]:
        model, outcome = fit_model(config, network_config, train, validation, stream=fold)
        if outcome.stopped == "interrupted":
            raise Interrupted(f"interrupted in fold {fold}, so there is no score of all")
        return {
            NETWORK: score_of(model.run(held_out.features), held_out),
            baseline: _baseline_score(train, validation, held_out),
        }

    rows = data.train.and_rows(data.validation).and_rows(data.test)
    return cross_validate(rows, contest, num_folds=config.folds, seed=config.seed)


def _baseline_name(data: Table) -> str:
    return "logistic_regression" if data.target is None else "ridge"


def _baseline_score(train: TableRows, validation: TableRows, held_out: TableRows) -> float:
    if held_out.targets.dtype.kind == "i":
        classes_N: Array = logistic_regression(train, validation)(held_out.features)
        return float((classes_N == held_out.targets).mean())
    return score_values(ridge(train, validation)(held_out.features), held_out.targets).r2
