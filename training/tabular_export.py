"""From a NumPy network to its bundle."""

import dataclasses
from pathlib import Path

import safetensors.numpy

from app.bundle.golden import dump_golden
from app.bundle.manifest import Architecture, Batching, Manifest, TrainingRecord
from app.tensors import Tensors
from training import architectures
from training.config import NumpyConfig
from training.cross_validation import FoldScores
from training.data import Table
from training.evaluate import score
from training.export import bundle, numpy_onnx, onnx, state_dict, tables, verify
from training.export import manifest as parts
from training.export.candidates import (
    GOLDEN_FILE,
    MAX_ROWS,
    Candidate,
    Say,
    golden_part,
    measure,
    prove,
    report_json,
)
from training.numpy_network.model import Model
from training.provenance import libraries
from training.tabular import Trained
from training.tabular_scores import compare_on_folds, metrics, score_of

LIBRARIES = ("numpy", "onnx", "onnxruntime", "safetensors", "scikit-learn", "torch")


def export(
    trained: Trained,
    config: NumpyConfig,
    data: Table,
    models_dir: Path,
    *,
    version: int | None = None,
    say: Say = lambda text: None,
) -> Path:
    """Export a trained model in both formats, prove each on the whole test set, and write the bundle.

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
    task = tables.table_task(data)
    inputs, outputs = tables.table_tensors(task)
    state = trained.model.state()
    # everything below is measured on the weights as they are shipped, float32
    model = Model.from_state(state, activation=trained.network_config["activation"])
    weights, graph = safetensors.numpy.save(state), numpy_onnx.dump(model, inputs, outputs)
    twin = architectures.build(config.architecture, trained.network_config)
    served = architectures.as_served(state_dict.load(twin, weights)).eval()

    def run(tensors: Tensors) -> Tensors:
        return model.run(tensors[tables.INPUT])

    golden = tables.make_golden(run, data)
    golden_bytes = dump_golden(golden)
    test_inputs = tables.as_inputs(data.test.features)
    expected = verify.run_in_batches(run, test_inputs, MAX_ROWS)
    eager = verify.eager_runner(served, tuple(spec.name for spec in outputs))
    candidates = (
        Candidate(fmt=onnx.FORMAT, path=onnx.FILE_NAME, content=graph, run=verify.onnx_runner(graph)),
        Candidate(fmt=state_dict.FORMAT, path=state_dict.FILE_NAME, content=weights, run=eager),
    )
    for candidate in candidates:
        prove(candidate, golden, tables.as_inputs(data.validation.features), say)

    def accuracy(tensors: Tensors) -> float | None:
        return score_of(tensors, data.test) if data.target is None else None

    artifacts = tuple(measure(each, test_inputs, expected, say, accuracy=accuracy) for each in candidates)
    folds = compare_on_folds(config, data)
    measured = metrics(trained, data, expected, folds)
    for name, value in measured.items():
        say(f"{name} {value:.4f}")
    manifest = Manifest(
        schema_version=1,
        name=config.name,
        version=version or bundle.next_version(models_dir, config.name),
        description=f"{architectures.describe(config.architecture)} Trained on {data.name}.",
        license="Apache-2.0",
        task=task,
        architecture=Architecture(name=config.architecture, config=trained.network_config),
        inputs=inputs,
        outputs=outputs,
        artifacts=artifacts,
        batching=Batching(max_rows=MAX_ROWS),
        golden=golden_part(golden_bytes, len(golden), artifacts),
        training=_record(trained, config, data),
        metrics=measured,
        input_statistics=tables.feature_statistics(data),
    )
    files = {onnx.FILE_NAME: graph, state_dict.FILE_NAME: weights, GOLDEN_FILE: golden_bytes}
    return bundle.write_bundle(models_dir, manifest, files | _reports(trained, data, expected, folds))


def _record(trained: Trained, config: NumpyConfig, data: Table) -> TrainingRecord:
    return TrainingRecord(
        data=parts.data_source(data),
        seed=config.seed,
        epochs=len(trained.fit.history),
        best_epoch=trained.fit.best.number,
        batch_size=config.batch_size,
        optimizer={
            "name": "AdamW",
            "learning_rate": config.learning_rate,
            "weight_decay": config.weight_decay,
            "max_epochs": config.epochs,
            "patience": config.patience,
            "stopped": trained.fit.stopped,
        },
        duration_s=round(trained.duration_s, 3),
        libraries=libraries(LIBRARIES),
        code_revision=trained.code_revision,
    )


def _reports(trained: Trained, data: Table, outputs: Tensors, folds: dict[str, FoldScores]) -> dict[str, bytes]:
    reports: dict[str, object] = {
        "history": [dataclasses.asdict(epoch) for epoch in trained.fit.history],
        "cross_validation": {name: scores.scores for name, scores in folds.items()},
    }
    if data.target is None:
        confusion = score(outputs["logits"], data.test.targets).confusion.tolist()
        reports["confusion_matrix"] = {"labels": data.classes, "rows_are_true_columns_are_predicted": confusion}
    return {f"report/{name}.json": report_json(report) for name, report in reports.items()}
