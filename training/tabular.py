"""Training of a NumPy network on a table."""

import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

import safetensors.numpy

from training import architectures
from training.config import NumpyConfig
from training.data import Table
from training.export import numpy_onnx, state_dict, tables
from training.numpy_network.fitting import Epoch
from training.numpy_network.model import Model
from training.provenance import code_revision, libraries
from training.tabular_fitting import fit_model, network_config_of
from training.tabular_scores import compare_on_folds, fold_metrics, score_name, score_of
from training.trained import Trained

LIBRARIES = ("numpy", "onnx", "onnxruntime", "safetensors", "scikit-learn", "torch")


def train(
    config: NumpyConfig,
    data: Table,
    *,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    clock: Callable[[], float] = time.monotonic,
) -> Trained:
    """Train one model, and measure its recipe on folds of the table.

    Args:
        config: Everything that decides the weights.
        data: A table.
        on_epoch: Called with each finished epoch.
        clock: Seconds, for the record only.

    Raises:
        ValueError: The architecture or its config is impossible.
        NonFiniteLoss: The loss became NaN or infinite.
        Interrupted: KeyboardInterrupt came before the first epoch was done.
    """
    revision = code_revision()
    network_config = network_config_of(config, data)
    started = clock()
    model, outcome = fit_model(config, network_config, data.train, data.validation, stream=0, on_epoch=on_epoch)
    duration_s = clock() - started
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(network_config)))
    # everything that is measured afterwards is measured on the weights as they are shipped, float32
    state = model.state()
    shipped = Model.from_state(state, activation=network_config.activation)
    weights = safetensors.numpy.save(state)
    name = score_name(data)
    validation = score_of(shipped.run(data.validation.features), data.validation)
    folds = compare_on_folds(config, data)
    return Trained(
        name=config.name,
        architecture=config.architecture,
        network_config=values,
        network=state_dict.load(architectures.build(config.architecture, values), weights),
        history=outcome.history,
        best_epoch=outcome.best.number,
        stopped=outcome.stopped,
        validation={"validation_loss": outcome.best.validation_loss, f"validation_{name}": validation},
        seed=config.seed,
        batch_size=config.batch_size,
        optimizer=_optimizer_settings(config, outcome.stopped),
        duration_s=duration_s,
        code_revision=revision,
        libraries=libraries(LIBRARIES),
        weights=weights,
        reference=lambda tensors: shipped.run(tensors[tables.INPUT]),
        graph=lambda inputs, outputs: numpy_onnx.dump(shipped, inputs, outputs),
        further_metrics=fold_metrics(data, folds),
        further_reports={"cross_validation": {contender: scores.scores for contender, scores in folds.items()}},
    )


def _optimizer_settings(config: NumpyConfig, stopped: str) -> dict[str, Any]:
    return {
        "name": "AdamW",
        "learning_rate": config.learning_rate,
        "weight_decay": config.weight_decay,
        "max_epochs": config.epochs,
        "patience": config.patience,
        "stopped": stopped,
    }
