"""What a bundle's ``report/explain/`` holds, by the kind of its task.

:func:`explain_bundle` needs nothing but a bundle and rows as the model takes them. Who has a network that is not in a
bundle yet makes a :class:`Subject` and calls the function of its kind.

The rows should be of the validation split: the test split is for measuring once, and explanations invite choices.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from app.bundle.loader import Bundle
from app.bundle.manifest import Manifest
from app.tensors import Array, Tensors
from training import architectures
from training.errors import TrainingError
from training.explain.reports import pictures, reconstructions, series, tables, texts
from training.explain.reports._parts import Report, Subject
from training.export import state_dict

__all__ = ["NotExplainable", "Report", "Subject", "explain", "explain_bundle"]


class NotExplainable(TrainingError):
    """There is no explanation for a bundle of that kind, or it lacks what one needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    manifest: Manifest
    inputs: Tensors
    targets: Array | None
    tokenizer: bytes | None


def explain_bundle(bundle: Bundle, inputs: Tensors, targets: Array | None = None) -> Report:
    """Explain the network of a bundle, from its ``state_dict``.

    Args:
        bundle: Opened, with its digests checked.
        inputs: Rows as the manifest's inputs describe them, by their names.
        targets: What is right for each row: int64 classes or float values; None for reconstructions.

    Returns:
        Files for the bundle's folder, ``report/explain/...``, and figures.

    Raises:
        NotExplainable: Its kind of task is none that this package knows, or it has no ``state_dict``.
    """
    manifest = bundle.manifest
    artifact = bundle.artifact(state_dict.FORMAT) if manifest.artifact(state_dict.FORMAT) else None
    if artifact is None:
        raise NotExplainable(
            f"bundle {manifest.name!r} has no {state_dict.FORMAT!r} artifact, and gradients need the network itself"
        )
    architecture = manifest.architecture
    network = state_dict.load(architectures.build(architecture.name, architecture.config), bundle.read(artifact))
    subject = Subject.of(architecture.name, architecture.config, network, temperature=manifest.temperature)
    tokenizer = bundle.read(manifest.task.text.tokenizer) if manifest.task.kind == "text_classification" else None
    return explain(subject, manifest, inputs, targets, tokenizer=tokenizer)


def explain(
    subject: Subject,
    manifest: Manifest,
    inputs: Tensors,
    targets: Array | None = None,
    *,
    tokenizer: bytes | None = None,
) -> Report:
    """Explain a network by the kind of its task.

    Args:
        subject: The network.
        manifest: Tells the task and the statistics of the inputs; its artifacts are not looked at.
        inputs: Rows as the manifest's inputs describe them, by their names.
        targets: What is right for each row; None for reconstructions.
        tokenizer: The content of ``tokenizer.json``, where the task reads texts.

    Raises:
        NotExplainable: There is no explanation for that kind.
    """
    kind = manifest.task.kind
    if kind not in _KINDS:
        raise NotExplainable(f"there is no explanation for tasks of the kind {kind!r}, there is for {sorted(_KINDS)}")
    asked = _Asked(manifest=manifest, inputs=inputs, targets=targets, tokenizer=tokenizer)
    report = _KINDS[kind](subject, asked)
    content = (json.dumps(report.figures, indent=2) + "\n").encode()
    return Report(files={**report.files, "report/explain/figures.json": content}, figures=report.figures)


def _pictures(subject: Subject, asked: _Asked) -> Report:
    task = asked.manifest.task
    assert task.kind == "image_classification"
    return pictures.explain(subject, asked.inputs, task.labels)


def _table(subject: Subject, asked: _Asked) -> Report:
    task = asked.manifest.task
    assert task.kind in ("tabular_classification", "tabular_regression")
    names = [feature.name for feature in task.features]
    statistics = asked.manifest.input_statistics
    (name,) = asked.inputs
    means = [statistics[f"{name}/{feature}"].mean for feature in names]
    if asked.targets is None:
        raise NotExplainable("the importance of columns is measured on targets: hand them over")
    classes = None if task.kind == "tabular_regression" else task.labels
    return tables.explain(subject, asked.inputs, asked.targets, names=names, means=means, classes=classes)


def _series(subject: Subject, asked: _Asked) -> Report:
    task = asked.manifest.task
    assert task.kind == "sequence_classification"
    return series.explain(subject, asked.inputs, task.labels)


def _texts(subject: Subject, asked: _Asked) -> Report:
    task = asked.manifest.task
    assert task.kind == "text_classification"
    if asked.tokenizer is None:
        raise NotExplainable("tokens have no names without the tokenizer: hand its file over")
    return texts.explain(subject, asked.inputs, task.labels, asked.tokenizer)


def _reconstructions(subject: Subject, asked: _Asked) -> Report:
    task = asked.manifest.task
    assert task.kind == "image_reconstruction"
    return reconstructions.explain(subject, asked.inputs, low=task.image.low, high=task.image.high)


_KINDS: dict[str, Callable[[Subject, _Asked], Report]] = {
    "image_classification": _pictures,
    "image_reconstruction": _reconstructions,
    "sequence_classification": _series,
    "tabular_classification": _table,
    "tabular_regression": _table,
    "text_classification": _texts,
}
