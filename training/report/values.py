"""From a regression's values, or an autoencoder's reconstructions, to all that is told of it.

Shape suffixes: N validation rows, M test rows, K rows of another kind, H height, W width.
"""

from functools import partial

import numpy as np
from sklearn.metrics import roc_auc_score

from app.tensors import Array
from training.baselines import Baseline
from training.intervals import Interval, bootstrap, bootstrap_mean, compare_errors
from training.metrics import reconstruction_scores, value_scores
from training.report import galleries, plots
from training.report.course import learning_curves_of
from training.report.evaluation import Comparison, Course, Evaluation, Plot, Winner, with_ends
from training.verdict import FinalScores, Verdict, judge


def evaluate_regression(
    *,
    name: str,
    unit: str | None,
    validation_values_N: Array,
    validation_targets_N: Array,
    test_values_M: Array,
    test_targets_M: Array,
    course: Course,
    train_r2: float | None = None,
    baseline: Baseline | None = None,
) -> Evaluation:
    """Measure and draw what a regression does.

    Args:
        name: Of the number that is told.
        unit: Of the number; None where it has none.
        validation_values_N: As the model tells them, in that unit.
        validation_targets_N: The true ones.
        test_values_M: As the model tells them.
        test_targets_M: The true ones.
        course: How training went.
        train_r2: Of the plain network on rows that it was fitted to; None where not taken.
        baseline: A simple model on the same test rows, in the same order.

    Raises:
        ValueError: Values and targets do not match, or the targets are all the same.
    """
    values_M, targets_M = test_values_M.astype(np.float64), test_targets_M.astype(np.float64)
    squares_M = (values_M - targets_M) ** 2
    # in each draw, R2 is against the mean of that draw
    intervals = {
        "r2": _r2_interval(values_M, targets_M),
        "mae": bootstrap_mean(np.abs(values_M - targets_M)),
        "mse": bootstrap_mean(squares_M),
    }
    validation_r2 = value_scores(validation_values_N, validation_targets_N).r2
    measured = value_scores(values_M, targets_M).named()
    comparison = _compare(squares_M, (baseline.predictions - targets_M) ** 2, measured, baseline) if baseline else None
    drawn = (
        learning_curves_of(course),
        Plot(
            name="residuals",
            caption="Predicted against true values of the test rows, and the errors.",
            draw=partial(plots.residuals, values_M, targets_M, name=name, unit=unit),
        ),
    )
    validation_interval = _r2_interval(validation_values_N.astype(np.float64), validation_targets_N.astype(np.float64))
    return Evaluation(
        main_metric="r2",
        metrics=_all(measured, {"train_r2": train_r2, "validation_r2": validation_r2}, intervals, baseline),
        intervals=intervals,
        verdict=_verdict(course, train_r2, validation_r2, validation_interval, comparison),
        plots=drawn,
        comparison=comparison,
    )


def evaluate_reconstruction(
    *,
    originals_MHW: Array,
    reconstructions_MHW: Array,
    validation_originals_NHW: Array,
    validation_reconstructions_NHW: Array,
    low: float,
    high: float,
    threshold: float,
    course: Course,
    train_r2: float | None = None,
    baseline: Baseline | None = None,
    other_errors_K: Array | None = None,
    other_name: str = "of another kind",
) -> Evaluation:
    """Measure and draw what an autoencoder does; all errors are told on a scale from 0 (``low``) to 1 (``high``).

    Args:
        originals_MHW: The test pictures, in their own units.
        reconstructions_MHW: What the model makes of them, in the same units.
        validation_originals_NHW: The validation pictures.
        validation_reconstructions_NHW: What the model makes of them.
        low: The least value of a pixel.
        high: The greatest.
        threshold: An error above it is called an anomaly; from quantiles of the validation errors.
        course: How training went.
        train_r2: The share of the variance of pictures told that it was fitted to; None where not taken.
        baseline: A linear code of the same size on the same test rows; its predictions are from 0 to 1.
        other_errors_K: The model's errors on pictures of another kind, where anomalies were tried.
        other_name: What those are.

    Raises:
        ValueError: The shapes do not match.
    """
    originals_MHW, rebuilt_MHW = _unit(originals_MHW, low, high), _unit(reconstructions_MHW, low, high)
    scores = reconstruction_scores(rebuilt_MHW, originals_MHW)
    errors_M = _errors(rebuilt_MHW, originals_MHW)
    validation = reconstruction_scores(
        _unit(validation_reconstructions_NHW, low, high), _unit(validation_originals_NHW, low, high)
    )
    measured = scores.named() | {"anomaly_share": float((errors_M > threshold).mean())}
    intervals = {"mse": bootstrap_mean(errors_M)}
    if other_errors_K is not None:
        measured |= {
            "anomaly_roc_auc": _anomaly_area(errors_M, other_errors_K),
            "anomaly_recall": float((other_errors_K > threshold).mean()),
        }
    comparison = None
    if baseline is not None:
        comparison = _compare(errors_M, _errors(baseline.predictions, originals_MHW), measured, baseline)
    drawn = (
        learning_curves_of(course),
        Plot(
            name="reconstructions",
            caption="Test pictures and their reconstructions, from the best to the worst.",
            draw=partial(galleries.reconstructions, originals_MHW, rebuilt_MHW, errors_M),
        ),
        Plot(
            name="errors",
            caption="How badly pictures are rebuilt, and the threshold of an anomaly.",
            draw=partial(
                plots.error_histogram, errors_M, threshold, other_errors_M=other_errors_K, other_name=other_name
            ),
        ),
    )
    told = {"validation_mse": validation.mse, "validation_r2": validation.r2, "train_r2": train_r2}
    return Evaluation(
        main_metric="mse",
        metrics=_all(measured, told, intervals, baseline),
        intervals=intervals,
        verdict=_verdict(course, train_r2, validation.r2, None, comparison),
        plots=drawn,
        comparison=comparison,
    )


def _all(
    measured: dict[str, float],
    further: dict[str, float | None],
    intervals: dict[str, Interval],
    baseline: Baseline | None,
) -> dict[str, float]:
    told = {name: value for name, value in further.items() if value is not None}
    return measured | told | with_ends(intervals) | (baseline.named() if baseline is not None else {})


def _r2_interval(values_N: Array, targets_N: Array) -> Interval:
    return bootstrap(lambda drawn_N: value_scores(values_N[drawn_N], targets_N[drawn_N]).r2, len(values_N))


def _verdict(
    course: Course,
    train_r2: float | None,
    validation_r2: float,
    validation_interval: Interval | None,
    comparison: Comparison | None,
) -> Verdict:
    finals = None
    if train_r2 is not None:
        finals = FinalScores(
            name="R2",
            train=train_r2,
            validation=validation_r2,
            validation_interval=validation_interval,
            baseline=None if comparison is None else comparison.score_ahead("r2"),
        )
    return judge(
        course.history,
        course.best_epoch,
        finals=finals,
        guess_loss=course.guess_loss,
        stopped_early=course.stopped_early,
    )


def _compare(ours_M: Array, theirs_M: Array, measured: dict[str, float], baseline: Baseline) -> Comparison:
    """Hold squared errors against each other, row by row."""
    paired = compare_errors(ours_M, theirs_M)
    ours, theirs = measured["mse"], baseline.metrics["mse"]
    winner: Winner | None = None
    if not paired.differ:
        said = f"No clear difference: the network's mean squared error is {ours:.4g}, the simple model's {theirs:.4g}"
    elif paired.difference < 0:
        winner, said = "network", f"The network wins, with a mean squared error of {ours:.4g} against {theirs:.4g}"
    else:
        winner = "simple model"
        said = f"The simple model wins, with a mean squared error of {theirs:.4g} against the network's {ours:.4g}"
    interval = f"{paired.interval.low:.3g} to {paired.interval.high:.3g}"
    return Comparison(
        name=baseline.name,
        description=baseline.description,
        metrics=baseline.metrics,
        winner=winner,
        sentence=f"{said}; the difference, row by row, is {paired.difference:.3g} (95%: {interval}).",
    )


def _unit(images_NHW: Array, low: float, high: float) -> Array:
    scaled: Array = (images_NHW.astype(np.float64) - low) / (high - low)
    return scaled


def _errors(rebuilt_NHW: Array, originals_NHW: Array) -> Array:
    errors_N: Array = ((rebuilt_NHW - originals_NHW) ** 2).reshape(len(originals_NHW), -1).mean(axis=1)
    return errors_N


def _anomaly_area(errors_M: Array, other_errors_K: Array) -> float:
    is_other = np.repeat([0, 1], [len(errors_M), len(other_errors_K)])
    return float(roc_auc_score(is_other, np.concatenate([errors_M, other_errors_K])))
