"""From a classifier's logits to all that is told of it.

Shape suffixes: N validation rows, M test rows, C classes.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from app.tensors import Array
from training import calibration
from training.baselines import Baseline
from training.intervals import Interval, bootstrap, compare_labels, macro_f1, roc_auc, wilson
from training.metrics import LabelScores, ProbabilityScores, label_scores, probability_scores, softmax
from training.report import galleries, plots
from training.report.course import learning_curves_of
from training.report.evaluation import Comparison, Course, Evaluation, Mistake, Plot, Winner, with_ends
from training.verdict import FinalScores, judge

MOST_MISTAKES = 18


def evaluate_classifier(
    *,
    labels: Sequence[str],
    validation_logits_NC: Array,
    validation_labels_N: NDArray[np.int64],
    test_logits_MC: Array,
    test_labels_M: NDArray[np.int64],
    course: Course,
    temperature: float = 1.0,
    train_accuracy: float | None = None,
    baseline: Baseline | None = None,
    images_MHW: Array | None = None,
    lengths_M: NDArray[np.int64] | None = None,
) -> Evaluation:
    """Measure and draw what a classifier of anything does.

    Args:
        labels: The name of each class.
        validation_logits_NC: Of the plain network, not divided by the temperature.
        validation_labels_N: The true classes.
        test_logits_MC: Of the plain network, not divided by the temperature.
        test_labels_M: The true classes.
        course: How training went.
        temperature: That the exported graphs divide the logits by, from :func:`training.calibration.fit_temperature`.
        train_accuracy: Of the plain network on rows that it was fitted to, or a sample of them; None where not taken.
        baseline: A simple model on the same test rows, in the same order.
        images_MHW: The test pictures, where rows are pictures that anyone may see: the worst mistakes are drawn.
        lengths_M: Of each test row, where rows are texts or series. A text itself is never shown.

    Raises:
        ValueError: Rows, labels and logits do not match.
    """
    num_classes = len(labels)
    if test_logits_MC.shape[1] != num_classes:
        raise ValueError(f"logits of {test_logits_MC.shape[1]} classes do not fit {num_classes} labels")
    predicted_M = test_logits_MC.argmax(axis=1)
    hard = label_scores(predicted_M, test_labels_M, num_classes)
    scaled_MC = test_logits_MC.astype(np.float64) / temperature
    soft, probabilities_MC = probability_scores(scaled_MC, test_labels_M), softmax(scaled_MC)
    validation_accuracy = float((validation_logits_NC.argmax(axis=1) == validation_labels_N).mean())
    checked = calibration.check(test_logits_MC, test_labels_M, temperature)
    intervals = _intervals(predicted_M, probabilities_MC, test_labels_M, has_area=soft.roc_auc is not None)
    measured = hard.named() | soft.named() | _of_classes(hard, labels)
    measured |= {"ece_uncalibrated": checked.before.ece, "loss_uncalibrated": checked.loss_before}
    measured |= {"validation_accuracy": validation_accuracy} | with_ends(intervals)
    if train_accuracy is not None:
        measured["train_accuracy"] = train_accuracy
    comparison = None
    if baseline is not None:
        comparison = _compare(predicted_M, hard.accuracy, baseline, test_labels_M)
        measured |= baseline.named()
    wrong = _surest_mistakes(predicted_M, probabilities_MC, test_labels_M)
    return Evaluation(
        main_metric="accuracy",
        metrics=measured,
        intervals=intervals,
        verdict=judge(
            course.history,
            course.best_epoch,
            finals=_finals(train_accuracy, validation_accuracy, len(validation_labels_N), comparison),
            guess_loss=_guess_loss(validation_labels_N),
            stopped_early=course.stopped_early,
        ),
        plots=(
            *_plots(course, hard, soft, checked, probabilities_MC, test_labels_M, labels),
            *_gallery(wrong, images_MHW, predicted_M, probabilities_MC, test_labels_M, labels),
        ),
        comparison=comparison,
        calibration=checked,
        mistakes=tuple(
            Mistake(
                true=labels[test_labels_M[row]],
                predicted=labels[predicted_M[row]],
                probability=float(probabilities_MC[row].max()),
                length=None if lengths_M is None else int(lengths_M[row]),
            )
            for row in wrong
        ),
        details={"support": dict(zip(labels, hard.support, strict=True))},
    )


def _finals(
    train_accuracy: float | None, validation_accuracy: float, num_validation: int, comparison: Comparison | None
) -> FinalScores | None:
    if train_accuracy is None:
        return None
    return FinalScores(
        name="accuracy",
        train=train_accuracy,
        validation=validation_accuracy,
        validation_interval=wilson(round(validation_accuracy * num_validation), num_validation),
        baseline=None if comparison is None else comparison.score_ahead("accuracy"),
    )


def _plots(
    course: Course,
    hard: LabelScores,
    soft: ProbabilityScores,
    checked: calibration.CalibrationCheck,
    probabilities_MC: Array,
    labels_M: NDArray[np.int64],
    labels: Sequence[str],
) -> tuple[Plot, ...]:
    return (
        learning_curves_of(course),
        Plot(
            name="confusion_matrix",
            caption="How many test rows of each class are called what.",
            draw=partial(plots.confusion_matrix, hard.confusion, labels),
        ),
        Plot(
            name="roc",
            caption="ROC curves of the classes on the test set, those with the smallest area in color.",
            draw=partial(plots.roc_curves, probabilities_MC, labels_M, labels, soft.roc_auc_of_class),
        ),
        Plot(
            name="precision_recall",
            caption="Precision and recall of the classes on the test set, the worst in color.",
            draw=partial(
                plots.precision_recall_curves, probabilities_MC, labels_M, labels, soft.average_precision_of_class
            ),
        ),
        Plot(
            name="reliability",
            caption="How often the network is right on the test set, by how sure it is.",
            draw=partial(plots.reliability_diagram, checked),
        ),
    )


def _gallery(
    wrong: NDArray[np.int64],
    images_MHW: Array | None,
    predicted_M: NDArray[np.int64],
    probabilities_MC: Array,
    labels_M: NDArray[np.int64],
    labels: Sequence[str],
) -> tuple[Plot, ...]:
    if images_MHW is None or not len(wrong):
        return ()
    draw = partial(
        galleries.worst_mistakes,
        images_MHW[wrong],
        labels_M[wrong],
        predicted_M[wrong],
        probabilities_MC[wrong].max(axis=1),
        labels,
    )
    caption = "The surest mistakes on the test set, each with its label and the one given."
    return (Plot(name="worst_mistakes", caption=caption, draw=draw),)


def _intervals(
    predicted_M: NDArray[np.int64], probabilities_MC: Array, labels_M: NDArray[np.int64], *, has_area: bool
) -> dict[str, Interval]:
    num_rows = len(labels_M)
    intervals = {
        "accuracy": wilson(int((predicted_M == labels_M).sum()), num_rows),
        "macro_f1": bootstrap(macro_f1(predicted_M, labels_M, probabilities_MC.shape[1]), num_rows, strata_N=labels_M),
    }
    if has_area:
        intervals["roc_auc"] = bootstrap(roc_auc(probabilities_MC, labels_M), num_rows, strata_N=labels_M)
    return intervals


def _of_classes(scores: LabelScores, labels: Sequence[str]) -> dict[str, float]:
    """Return what is reached on each class; one without test rows is left out."""
    told: dict[str, float] = {}
    for name, of_class in (("recall", scores.recall), ("precision", scores.precision), ("f1", scores.f1)):
        for label, value, count in zip(labels, of_class, scores.support, strict=True):
            if count:
                told[f"{name}/{label}"] = value
    return told


def _compare(
    predicted_M: NDArray[np.int64], accuracy: float, baseline: Baseline, labels_M: NDArray[np.int64]
) -> Comparison:
    paired = compare_labels(predicted_M, baseline.predictions, labels_M)
    theirs = baseline.metrics["accuracy"]
    counts = (
        f"of {len(labels_M)} test rows, the network alone is right on {paired.only_first} and the simple model alone "
        f"on {paired.only_second}, {_told(paired.p_value)} (McNemar, exact)"
    )
    winner: Winner | None = None
    if not paired.differ:
        said = f"No clear difference: the network has accuracy {accuracy:.4f} and the simple model {theirs:.4f}"
    elif paired.only_first > paired.only_second:
        winner, said = "network", f"The network wins, with accuracy {accuracy:.4f} against {theirs:.4f}"
    else:
        winner = "simple model"
        said = f"The simple model wins, with accuracy {theirs:.4f} against the network's {accuracy:.4f}"
    return Comparison(
        name=baseline.name,
        description=baseline.description,
        metrics=baseline.metrics,
        winner=winner,
        sentence=f"{said}: {counts}.",
        p_value=paired.p_value,
    )


def _told(p_value: float) -> str:
    return "p < 0.0001" if p_value < 1e-4 else f"p = {p_value:.2g}"


def _surest_mistakes(
    predicted_M: NDArray[np.int64], probabilities_MC: Array, labels_M: NDArray[np.int64]
) -> NDArray[np.int64]:
    wrong = np.flatnonzero(predicted_M != labels_M)
    order = np.argsort(-probabilities_MC.max(axis=1)[wrong], kind="stable")
    return wrong[order][:MOST_MISTAKES]


def _guess_loss(labels_N: NDArray[np.int64]) -> float | None:
    """Return the loss of one who knows how frequent each class is, in nats; None where there is but one."""
    shares = np.bincount(labels_N) / len(labels_N)
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum()) or None
