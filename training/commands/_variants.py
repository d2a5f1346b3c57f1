"""Every format of one bundle, built from the bundle itself and the data that it was trained on."""

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from app.bundle.loader import Bundle, BundleRef
from app.tensors import Tensors
from training import architectures
from training.batches import MemoryBatches
from training.bundling import subject_of
from training.commands._bundles import Origin, label, network_of, opened, origin_of, served, told_as_training_errors
from training.config import TrainConfig
from training.export import onnx, prune, state_dict, verdicts
from training.export.candidates import Say
from training.export.golden import response
from training.export.variants import choose
from training.export.verify import PROBABILITIES
from training.loop import fit
from training.report.compare import told_size
from training.seeding import seed_everything

# Share of the recipe's learning rate with which what is left of a network is trained on: it has learned already.
FINE_TUNING_RATE = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """How a network is made smaller.

    Attributes:
        share: Of the units of each hidden layer, how many are removed.
        epochs: Over the training rows, afterwards.
    """

    share: float
    epochs: int


def build(
    ref: BundleRef, output: Path, *, keys: Collection[str], pruning: Pruning, data_dir: Path | None, say: Say
) -> list[dict[str, Any]]:
    """Build the formats that a bundle lacks, and write it with those that are worth it.

    Args:
        ref: Of the bundle; it is left as it is.
        output: Where the new bundle goes, under its name and version; what lies there is replaced.
        keys: The formats that are wanted, among `training.export.verdicts.KEYS`.
        pruning: Of the networks whose units can be removed.
        data_dir: Of the data set.
        say: Called with lines for people.

    Returns:
        One row for every format, those of the bundle included: what was measured, and why it is not shipped.

    Raises:
        TrainingError: The bundle is damaged, or its data are missing.
    """
    bundle = opened(ref)
    manifest = bundle.manifest
    origin = origin_of(bundle, data_dir)
    with told_as_training_errors(label(ref)):
        graph = bundle.read(bundle.artifact(onnx.FORMAT))
        golden = bundle.golden()
    subject = subject_of(
        origin.problem,
        served=served(bundle),
        graph=graph,
        golden=golden,
        tensors=origin.tensors,
        pruned=_smaller(bundle, origin, pruning) if prune.can_prune(manifest.architecture.name) else None,
        respond=_responses(origin.problem.data.classes),
    )
    lacking = set(keys) - {artifact.key for artifact in manifest.artifacts}
    choice = choose(subject, keys=lacking, say=lambda text: say(f"{label(ref)}: {text}"))
    verdicts.extend(bundle, choice, output)
    name = origin.problem.score_name
    about = {"model": label(ref), "score_name": name}
    rows = [{**about, **row} for row in verdicts.report(choice, manifest.artifacts)]
    for row in rows[: len(manifest.artifacts)]:  # a manifest tells of each artifact an accuracy, or nothing
        row["score"] = manifest.metrics.get(name) if row["score"] is None else row["score"]
    return rows


def _smaller(bundle: Bundle, origin: Origin, pruning: Pruning) -> Callable[[], nn.Module]:
    manifest = bundle.manifest
    name = manifest.architecture.name

    def fine_tune(network: nn.Module) -> None:
        recipe, problem = origin.config, origin.problem
        assert isinstance(recipe, TrainConfig)
        config = dataclasses.replace(
            recipe,
            epochs=pruning.epochs,
            patience=pruning.epochs,
            learning_rate=FINE_TUNING_RATE * recipe.learning_rate,
        )
        seed_everything(config.seed)
        examples = problem.examples(problem.data.train, augmented=True)
        batches = MemoryBatches(
            examples, batch_size=config.batch_size, seed=config.seed, by_length=config.by_length
        )  # fmt: skip
        fit(network, batches, problem, config)

    def make() -> nn.Module:
        smaller, config = prune.prune(
            name, manifest.architecture.config, network_of(bundle), share=pruning.share, fine_tune=fine_tune
        )
        # built anew, in the memory layout of serving
        plain = state_dict.load(architectures.build(name, config), state_dict.dump(smaller))
        return architectures.as_served(plain, temperature=manifest.temperature).eval()

    return make


def _responses(classes: tuple[str, ...]) -> Callable[[Tensors], list[Any]]:
    return lambda outputs: [response(probabilities_C, classes) for probabilities_C in outputs[PROBABILITIES]]


def as_table(rows: list[dict[str, Any]]) -> str:
    """Return the rows of :func:`build` as a table for people."""
    head = ("model", "format", "score", "size", "ms/1", "ms/32", "verdict")
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    latency_ms = row["latency_ms"] or {}
    return (
        row["model"],
        row["key"],
        "" if row["score"] is None else f"{row['score_name']} {row['score']:.4f}",
        "" if row["size_bytes"] is None else told_size(row["size_bytes"]),
        *(f"{latency_ms[rows]:.3f}" if rows in latency_ms else "" for rows in ("1", "32")),
        "shipped" if row["shipped"] else f"not shipped: {row['reason']}",
    )
