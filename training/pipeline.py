"""The whole way of a picture classifier: data and config in, a proven bundle out."""

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from app.bundle.golden import dump_golden
from app.bundle.manifest import Architecture, Batching, ImageClassification, Manifest
from app.tensors import Tensors
from training import architectures
from training.augment import Augmentation, augment
from training.batches import Batch, LoaderBatches, MemoryBatches
from training.config import TrainConfig
from training.data import Pictures, Rows
from training.evaluate import Scores, predict, score
from training.export import bundle, golden, onnx, state_dict, verify
from training.export import manifest as parts
from training.export.candidates import (
    GOLDEN_FILE,
    MAX_ROWS,
    NUM_BATCH_CHECKED,
    Candidate,
    Say,
    golden_part,
    measure,
    prove,
    report_json,
)
from training.loop import Epoch, Fit, Validation, fit
from training.provenance import code_revision
from training.seeding import seed_everything


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A network that has been trained, and what it needs to be exported.

    Attributes:
        network: Holds its best weights.
        network_config: Its whole config, as the manifest holds it.
        fit: How training went.
        duration_s: How long it took.
        code_revision: Of the code that trained it, taken at the start: a repository may move on meanwhile.
    """

    network: nn.Module
    network_config: dict[str, Any]
    fit: Fit
    duration_s: float
    code_revision: str


class _Pictures:
    """Pictures as a network takes them: float32 pixels from 0 to 255."""

    lengths_N = None

    def __init__(self, rows: Rows, augmentation: Augmentation) -> None:
        self._images_NHW = torch.tensor(rows.images)
        self._labels_N = torch.tensor(rows.labels)
        self._augmentation = augmentation

    def __len__(self) -> int:
        return len(self._labels_N)

    def batch(self, indices_B: Tensor) -> Batch:
        return Batch((self._images_NHW[indices_B].float(),), self._labels_N[indices_B])

    def augment(self, batch: Batch, randomness: torch.Generator) -> Batch:
        (pixels_BHW,), labels_B = batch
        return Batch((augment(pixels_BHW, self._augmentation, randomness),), labels_B)


class _Classification:
    """Cross-entropy, judged by accuracy."""

    score_name = "accuracy"

    def __init__(self, validation: Rows, label_smoothing: float) -> None:
        self._validation = validation
        self._label_smoothing = label_smoothing

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets, label_smoothing=self._label_smoothing)

    def validate(self, network: nn.Module) -> Validation:
        (logits_NC,) = predict(network, self._validation.images)
        scores = score(logits_NC, self._validation.labels)
        return Validation(scores.loss, scores.accuracy)


def train(
    config: TrainConfig,
    data: Pictures,
    *,
    loader: bool = False,
    show_progress: bool = False,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    clock: Callable[[], float] = time.monotonic,
) -> Trained:
    """Train one network.

    Args:
        config: Everything that decides the weights.
        data: Fashion-MNIST or another data set of grey pictures.
        loader: Take the batches from a ``DataLoader``; they are the same.
        show_progress: Draw bars on stderr.
        on_epoch: Called with each finished epoch.
        clock: Seconds, for the record only.

    Raises:
        ValueError: The architecture or its config is impossible.
        NonFiniteLoss: The loss became NaN or infinite.
        Interrupted: KeyboardInterrupt came before the first epoch was done.
    """
    revision = code_revision()
    _, height, width = data.train.images.shape
    pixels = parts.pixel_statistics(data.train.images)
    measured = {
        "height": height,
        "width": width,
        "num_classes": len(data.classes),
        "input_mean": round(pixels.mean, 4),
        "input_std": round(pixels.std, 4),
    }
    seed_everything(config.seed)
    network_config = architectures.make_config(config.architecture, {**measured, **config.network})
    network = architectures.build(config.architecture, dataclasses.asdict(network_config))
    batches = (LoaderBatches if loader else MemoryBatches)(
        _Pictures(data.train, config.augmentation), batch_size=config.batch_size, seed=config.seed
    )
    objective = _Classification(data.validation, config.label_smoothing)
    started = clock()
    outcome = fit(network, batches, objective, config, show_progress=show_progress, on_epoch=on_epoch, clock=clock)
    return Trained(
        network=network,
        network_config=json.loads(json.dumps(dataclasses.asdict(network_config))),
        fit=outcome,
        duration_s=clock() - started,
        code_revision=revision,
    )


def export(
    trained: Trained,
    config: TrainConfig,
    data: Pictures,
    models_dir: Path,
    *,
    version: int | None = None,
    say: Say = lambda text: None,
) -> Path:
    """Export a trained network in every format, prove each on the whole test set, and write the bundle.

    Args:
        trained: What :func:`train` returned.
        config: What it was trained with.
        data: What it was trained on; the test split is looked at here for the first time.
        models_dir: Where bundles lie.
        version: Of the bundle; without it the next free one.
        say: Called with lines for people.

    Returns:
        The bundle's folder.

    Raises:
        NotProven: An artifact does not answer as the network does.
        VersionExists: That version is there already.
    """
    name = config.architecture
    task = parts.image_task(data)
    inputs, outputs = parts.image_tensors(task)
    weights = state_dict.dump(trained.network)
    # everything below is measured on the weights as they are shipped, in the memory layout that serving uses
    served = architectures.as_served(state_dict.load(architectures.build(name, trained.network_config), weights)).eval()
    graph = onnx.dump(served, inputs, outputs)
    eager = verify.eager_runner(served, tuple(spec.name for spec in outputs))

    rows = golden.make_golden(eager, data.validation.images, data.classes)
    golden_bytes = dump_golden(rows)
    test_inputs: Tensors = {"image": data.test.images.astype(np.float32)}
    expected = verify.run_in_batches(eager, test_inputs, MAX_ROWS)
    candidates = (
        Candidate(fmt=onnx.FORMAT, path=onnx.FILE_NAME, content=graph, run=verify.onnx_runner(graph)),
        Candidate(fmt=state_dict.FORMAT, path=state_dict.FILE_NAME, content=weights, run=eager),
    )
    pictures: Tensors = {"image": data.validation.images[:NUM_BATCH_CHECKED].astype(np.float32)}
    for candidate in candidates:
        prove(candidate, rows, pictures, say)

    def accuracy(outputs: Tensors) -> float:
        return score(outputs["logits"], data.test.labels).accuracy

    artifacts = tuple(measure(each, test_inputs, expected, say, accuracy=accuracy) for each in candidates)
    test_scores = score(expected["logits"], data.test.labels)
    say(f"test accuracy {test_scores.accuracy:.4f}, loss {test_scores.loss:.4f}, macro F1 {test_scores.macro_f1:.4f}")
    manifest = Manifest(
        schema_version=1,
        name=name,
        version=version or bundle.next_version(models_dir, name),
        description=f"{architectures.describe(name)} Trained on {data.name}.",
        license="Apache-2.0",
        task=task,
        architecture=Architecture(name=name, config=trained.network_config),
        inputs=inputs,
        outputs=outputs,
        artifacts=artifacts,
        batching=Batching(max_rows=MAX_ROWS),
        golden=golden_part(golden_bytes, len(rows), artifacts),
        training=parts.training_record(
            config, data, trained.fit, duration_s=trained.duration_s, revision=trained.code_revision
        ),
        metrics=parts.metrics(test_scores, trained.fit, data.classes),
        input_statistics={"image": parts.pixel_statistics(data.train.images)},
    )
    files = {
        onnx.FILE_NAME: graph,
        state_dict.FILE_NAME: weights,
        GOLDEN_FILE: golden_bytes,
        **_reports(trained.fit, test_scores, task),
    }
    return bundle.write_bundle(models_dir, manifest, files)


def _reports(outcome: Fit, test: Scores, task: ImageClassification) -> dict[str, bytes]:
    history = [dataclasses.asdict(epoch) for epoch in outcome.history]
    confusion = {"labels": task.labels, "rows_are_true_columns_are_predicted": test.confusion.tolist()}
    return {
        "report/history.json": report_json(history),
        "report/confusion_matrix.json": report_json(confusion),
    }
