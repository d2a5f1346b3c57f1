"""The model card: what a model is, what it is for, how good it is and where it fails (Mitchell et al., 2019)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from app.bundle.manifest import Manifest, TrainingRecord
from training.report.compare import baseline_of, main_metric, num_parameters, told_size
from training.report.evaluation import FOLDER, Comparison, Evaluation
from training.report.examples import example_body

MODEL_CARD = f"{FOLDER}/model_card.md"

# In this order, those that were measured.
CHIEF_METRICS = (
    "accuracy", "macro_f1", "weighted_f1", "macro_precision", "macro_recall", "roc_auc", "average_precision", "loss",
    "ece", "r2", "mse", "rmse", "mae", "anomaly_roc_auc", "anomaly_recall", "anomaly_share", "validation_accuracy",
    "validation_r2", "validation_mse", "train_accuracy", "train_r2",
)  # fmt: skip
SMALLER_IS_BETTER = "Of loss, ece, mse, rmse and mae, less is better; of all others, more."

OF_CLASSES = ("precision", "recall", "f1")

INTENDED_USE = {
    "image_classification": "Telling which of its classes a picture like those of its training data shows.",
    "image_reconstruction": "Telling whether a picture is like those of its training data, by how well it is rebuilt.",
    "sequence_classification": "Telling which of its classes a series like those of its training data belongs to.",
    "tabular_classification": "Telling which of its classes a row like those of its training data belongs to.",
    "tabular_regression": "Telling a number from a row like those of its training data.",
    "tensors": "What whoever packaged it says: its tensors have names, and no meaning that is known here.",
    "text_classification": "Telling which of its classes a text like those of its training data belongs to.",
}
ALWAYS_LIMITS = (
    "It answers anything of the right form, also what is like nothing in its training data, and may be sure of it.",
    "Its numbers were measured on rows of the same source as its training data; other sources are another matter.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What a card says that no measurement tells.

    Attributes:
        intended_use: What for; None for what the task says.
        limits: What not for, and where it fails, beside what is always true.
        privacy: Whether the data are of people, and what of them is in the bundle.
    """

    intended_use: str | None = None
    limits: Sequence[str] = ()
    privacy: str = "The bundle holds no rows of the training data but the golden rows that its file lists."


def model_card(manifest: Manifest, evaluation: Evaluation, notes: Notes | None = None) -> str:
    """Return the card, in Markdown; plots are embedded by their paths beside it."""
    notes = notes or Notes()
    sections = (
        _heading(manifest, notes),
        _results(evaluation),
        _baseline(evaluation.comparison),
        _folds(manifest),
        _calibration(evaluation),
        [f"## Fit: {evaluation.verdict.kind}", "", evaluation.verdict.reason, ""],
        _classes(manifest, evaluation),
        _mistakes(evaluation),
        _plots(evaluation),
        _variants(manifest),
        _training(manifest),
        _data(manifest, notes),
        _call(manifest),
    )
    return "\n".join(line for section in sections for line in section).rstrip() + "\n"


def _heading(manifest: Manifest, notes: Notes) -> list[str]:
    kind = manifest.task.kind
    count = num_parameters(manifest)
    size = "" if count is None else f" It has {count:,} parameters."
    return [
        f"# {manifest.name} {manifest.version}",
        "",
        f"{manifest.description}{size}",
        "",
        "## Intended use and limits",
        "",
        notes.intended_use or INTENDED_USE[kind],
        "",
        *(f"- {limit}" for limit in (*notes.limits, *ALWAYS_LIMITS)),
        "",
    ]


def _results(evaluation: Evaluation) -> list[str]:
    measured = evaluation.metrics
    theirs = evaluation.comparison.metrics if evaluation.comparison is not None else {}
    rows = []
    for name in CHIEF_METRICS:
        if name in measured:
            interval = evaluation.intervals.get(name)
            ends = f"{_number(interval.low)} to {_number(interval.high)}" if interval is not None else ""
            rows.append([name, _number(measured[name]), ends, _number(theirs[name]) if name in theirs else ""])
    return [
        "## Results on the test set",
        "",
        *_table(["metric", "model", "95% interval", "simple model"], rows),
        "",
        f"{SMALLER_IS_BETTER} Intervals are Wilson's for accuracy, and bootstrapped for all others. What starts with "
        "`validation_` or `train_` is of those rows.",
        "",
    ]


def _baseline(comparison: Comparison | None) -> list[str]:
    if comparison is None:
        return []
    return [
        "## Beside a simple model",
        "",
        f"{comparison.description} (`{comparison.name}`), fitted to the training and validation rows together. "
        f"{comparison.sentence}",
        "",
    ]


def _folds(manifest: Manifest) -> list[str]:
    prefix = "cross_validation/"
    folds = {name.removeprefix(prefix): value for name, value in manifest.metrics.items() if name.startswith(prefix)}
    if not folds:
        return []
    return [
        "## Cross-validation over all rows",
        "",
        *_table(["metric", "value"], [[name, _number(value)] for name, value in folds.items()]),
        "",
        *_fold_winner(manifest, folds),
        "",
    ]


def _fold_winner(manifest: Manifest, folds: Mapping[str, float]) -> list[str]:
    metric = main_metric(manifest)
    ours, spread = folds.get(f"{metric}_mean"), folds.get(f"{metric}_std")
    theirs = baseline_of(folds, f"{metric}_mean")
    if ours is None or spread is None or theirs is None:
        return []
    ahead = "The network" if ours > theirs[1] else f"The simple model ({theirs[0]})"
    return [
        f"{ahead} is ahead by {_number(abs(ours - theirs[1]))}; between folds, the network's own score has a standard "
        f"deviation of {_number(spread)}."
    ]


def _calibration(evaluation: Evaluation) -> list[str]:
    told = evaluation.calibration
    if told is None:
        return []
    if told.temperature == 1.0:
        said = (
            "No temperature made the validation rows notably likelier, so the logits are left as they are. On the test "
            f"set the expected calibration error is {told.before.ece:.4f}."
        )
    else:
        direction = "fell" if told.after.ece < told.before.ece else "rose"
        said = (
            f"The logits are divided by {told.temperature:.4g}, fitted on the validation rows. On the test set the "
            f"expected calibration error {direction} from {told.before.ece:.4f} to {told.after.ece:.4f}, and the "
            f"cross-entropy went from {told.loss_before:.4f} to {told.loss_after:.4f}."
        )
    return ["## Calibration", "", said, ""]


def _classes(manifest: Manifest, evaluation: Evaluation) -> list[str]:
    labels: Sequence[str] = getattr(manifest.task, "labels", ())
    support = evaluation.details.get("support", {})
    rows = [
        [label, str(support[label]), *(_number(evaluation.metrics[f"{name}/{label}"]) for name in OF_CLASSES)]
        for label in labels
        if support.get(label)
    ]
    return ["## By class", "", *_table(["class", "test rows", *OF_CLASSES], rows), ""] if rows else []


def _mistakes(evaluation: Evaluation) -> list[str]:
    if not evaluation.mistakes:
        return []
    has_length = any(each.length is not None for each in evaluation.mistakes)
    rows = [
        [each.true, each.predicted, f"{each.probability:.4f}", *([str(each.length)] if has_length else [])]
        for each in evaluation.mistakes
    ]
    head = ["is", "is called", "probability", *(["length"] if has_length else [])]
    return ["## Surest mistakes on the test set", "", *_table(head, rows), ""]


def _plots(evaluation: Evaluation) -> list[str]:
    lines = ["## Plots", ""]
    for plot in evaluation.plots:
        lines += [f"![{plot.caption}]({PurePosixPath(plot.path).name})", ""]
    return lines


def _variants(manifest: Manifest) -> list[str]:
    rows = [
        [
            each.format,
            f"`{each.path}`",
            told_size(each.size_bytes),
            "" if each.test_accuracy is None else _number(each.test_accuracy),
            f"{each.latency_ms['1']:.3f} ms" if "1" in each.latency_ms else "",
            f"{each.latency_ms['32']:.3f} ms" if "32" in each.latency_ms else "",
        ]
        for each in manifest.artifacts
    ]
    head = ["format", "file", "size", "test accuracy", "1 row", "32 rows"]
    return [
        "## Variants",
        "",
        *_table(head, rows),
        "",
        "Median times for a batch, on one thread of the training machine.",
        "",
    ]


def _training(manifest: Manifest) -> list[str]:
    record = manifest.training
    if record is None:
        return []
    optimizer = ", ".join(f"{name} {value}" for name, value in record.optimizer.items() if name != "name")
    return [
        "## How it was trained",
        "",
        f"{record.optimizer.get('name', 'An optimizer')} ({optimizer}) in batches of {record.batch_size}, for "
        f"{record.epochs} epochs and {record.duration_s:.0f} s, with seed {record.seed}; epoch {record.best_epoch} was "
        f"kept. By revision `{record.code_revision[:12]}`, with {_libraries(record)}.",
        "",
    ]


def _libraries(record: TrainingRecord) -> str:
    return ", ".join(f"{name} {version}" for name, version in record.libraries.items())


def _data(manifest: Manifest, notes: Notes) -> list[str]:
    lines = ["## Data, license and privacy", ""]
    if manifest.training is not None:
        data = manifest.training.data
        rows = ", ".join(f"{count:,} {split}" for split, count in data.split_rows.items())
        lines += [
            f"{data.name} (license {data.license}): {rows} rows. The manifest holds the digests of its files.",
            "",
        ]
    return [*lines, f"The model's own license is {manifest.license}.", "", notes.privacy, ""]


def _call(manifest: Manifest) -> list[str]:
    return [
        "## How to call it",
        "",
        f"`POST /predict/{manifest.name}` with this body, which is made up:",
        "",
        "```json",
        example_body(manifest.task),
        "```",
        "",
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.5g}"
