"""All models side by side, from their manifests alone."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.bundle.manifest import Manifest
from training import architectures

# What a model is known by, by the kind of its task.
MAIN_METRICS = {
    "image_classification": "accuracy",
    "image_reconstruction": "mse",
    "sequence_classification": "accuracy",
    "tabular_classification": "accuracy",
    "tabular_regression": "r2",
    "text_classification": "accuracy",
}

# Metrics of this form are of a class or of folds, not of a simple model.
NOT_OF_BASELINES = ("cross_validation", "recall", "precision", "f1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One format of one bundle.

    Attributes:
        model: Name and version.
        task: Its kind.
        data: What it was trained on; None where the manifest does not say.
        metric: The name of the score; None where none was measured.
        score: Of the model, on the test set.
        low: Lower end of the score's 95% interval; None where none was taken.
        high: Its upper end.
        baseline: The name of the simple model beside it; None where there is none.
        baseline_score: What that reaches.
        num_parameters: Of the network; None where its architecture is not registered here.
        format: Of the artifact, and what was done to the network, as `onnx-int8`.
        size_bytes: Of the artifact.
        test_accuracy: Of the artifact, where the task has an accuracy.
        latency_1_ms: Median for one row.
        latency_32_ms: Median for a batch of 32.
    """

    model: str
    task: str
    data: str | None
    metric: str | None
    score: float | None
    low: float | None
    high: float | None
    baseline: str | None
    baseline_score: float | None
    num_parameters: int | None
    format: str
    size_bytes: int
    test_accuracy: float | None
    latency_1_ms: float | None
    latency_32_ms: float | None


def compare(manifests: Iterable[Manifest]) -> list[Row]:
    """Return one row for every artifact, in the order of the manifests."""
    return [row for manifest in manifests for row in _rows(manifest)]


def as_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return the rows as what JSON can hold."""
    return [dataclasses.asdict(row) for row in rows]


def as_table(rows: Sequence[Row]) -> str:
    """Return the rows as a table for people; what the line above says already is not said again."""
    head = ("model", "task", "data", "score", "95%", "baseline", "parameters", "format", "size", "accuracy", "ms/1",
            "ms/32")  # fmt: skip
    lines: list[tuple[str, ...]] = [head]
    shown = ""
    for row in rows:
        about = _about(row) if row.model != shown else ("",) * 7
        lines.append((*about, *_of_artifact(row)))
        shown = row.model
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def main_metric(manifest: Manifest) -> str | None:
    """Return the name of the metric that a model is known by, or None where it was not measured."""
    name = MAIN_METRICS.get(manifest.task.kind)
    return name if name in manifest.metrics else None


def baseline_of(metrics: Mapping[str, float], metric: str) -> tuple[str, float] | None:
    """Return the name and the score of the simple model in a manifest, or None where there is none.

    It is ``baseline/<name>/<metric>``, and in bundles from before that name was settled ``<name>/<metric>``.
    """
    for key, value in metrics.items():
        *owner, last = key.split("/")
        if last == metric and owner and owner[0] not in NOT_OF_BASELINES:
            return "/".join(owner[1:] if owner[0] == "baseline" else owner), value
    return None


def told_size(size_bytes: int) -> str:
    """Return a size for people."""
    return f"{size_bytes / 1e6:.2f} MB" if size_bytes >= 100_000 else f"{size_bytes / 1e3:.1f} kB"


def num_parameters(manifest: Manifest) -> int | None:
    """Return how many numbers were fitted, or None where the architecture is not registered here."""
    try:
        network = architectures.build(manifest.architecture.name, manifest.architecture.config)
    except ValueError:
        return None
    return architectures.num_parameters(network)


def _rows(manifest: Manifest) -> list[Row]:
    metric = main_metric(manifest)
    get = manifest.metrics.get
    baseline = None if metric is None else baseline_of(manifest.metrics, metric)
    count = num_parameters(manifest)
    return [
        Row(
            model=f"{manifest.name}/{manifest.version}",
            task=manifest.task.kind,
            data=None if manifest.training is None else manifest.training.data.name,
            metric=metric,
            score=None if metric is None else get(metric),
            low=get(f"{metric}_low"),
            high=get(f"{metric}_high"),
            baseline=None if baseline is None else baseline[0],
            baseline_score=None if baseline is None else baseline[1],
            num_parameters=count,
            format=artifact.key,
            size_bytes=artifact.size_bytes,
            test_accuracy=artifact.test_accuracy,
            latency_1_ms=artifact.latency_ms.get("1"),
            latency_32_ms=artifact.latency_ms.get("32"),
        )
        for artifact in manifest.artifacts
    ]


def _about(row: Row) -> tuple[str, ...]:
    return (
        row.model,
        row.task,
        row.data or "",
        f"{row.metric} {_number(row.score)}" if row.metric else "",
        f"{_number(row.low)} to {_number(row.high)}" if row.low is not None and row.high is not None else "",
        f"{row.baseline} {_number(row.baseline_score)}" if row.baseline else "",
        f"{row.num_parameters:,}" if row.num_parameters is not None else "",
    )


def _of_artifact(row: Row) -> tuple[str, ...]:
    return (
        row.format,
        told_size(row.size_bytes),
        _number(row.test_accuracy),
        _milliseconds(row.latency_1_ms),
        _milliseconds(row.latency_32_ms),
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
