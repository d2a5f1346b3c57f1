"""The fitting of a NumPy network to rows of a table: scales, classes and draws, around the loop.

Shape suffixes: N rows of the split.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from app.tensors import Array
from training import architectures
from training.config import NumpyConfig
from training.data import Table, TableRows
from training.errors import ConfigError
from training.numpy_network.fitting import Epoch, Fit, fit
from training.numpy_network.losses import LOSSES, one_hot
from training.numpy_network.model import Model, Scale
from training.numpy_network.network import Network
from training.numpy_network.optimizers import Adam


def network_config_of(config: NumpyConfig, data: Table) -> Any:
    """Return the config of the architecture, with what follows from the data.

    Raises:
        ConfigError: There is no such architecture or field, or a value is impossible; the message names it.
    """
    measured: dict[str, Any] = {"num_features": len(data.features)}
    measured |= {"num_classes": len(data.classes)} if data.target is None else {"output": "value"}
    try:
        return architectures.make_config(config.architecture, {**measured, **config.network})
    except ValueError as exc:
        raise ConfigError(str(exc)) from exc


def fit_model(
    config: NumpyConfig,
    network_config: Any,
    train_rows: TableRows,
    validation: TableRows,
    *,
    stream: int,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> tuple[Model, Fit]:
    """Train on some rows.

    Args:
        config: Everything that decides the weights.
        network_config: From :func:`network_config_of`.
        train_rows: What the weights, and the scales, are fitted to.
        validation: Decides which weights are kept.
        stream: Keeps the draws of one fit apart from those of another.
        on_epoch: Called with each finished epoch.

    Returns:
        The model with its best weights, in float64, and how training went.

    Raises:
        NonFiniteLoss: The loss became NaN or infinite.
        Interrupted: KeyboardInterrupt came before the first epoch was done.
    """
    rng = np.random.default_rng([config.seed, stream])
    inputs = Scale.of(train_rows.features)
    targets = Scale.of(train_rows.targets[:, None]) if network_config.output == "value" else None

    def prepare(rows: TableRows) -> tuple[Array, Array]:
        if targets is None:
            return inputs.standardize(rows.features), one_hot(rows.targets, network_config.num_classes)
        return inputs.standardize(rows.features), targets.standardize(rows.targets[:, None])

    network = Network.fresh(network_config.sizes, activation=network_config.activation, rng=rng)
    outcome = fit(
        network,
        prepare(train_rows),
        prepare(validation),
        loss=LOSSES["categorical_cross_entropy" if targets is None else "mean_squared_error"],
        optimizer=Adam(config.learning_rate, weight_decay=config.weight_decay),
        epochs=config.epochs,
        batch_size=config.batch_size,
        patience=config.patience,
        rng=rng,
        on_epoch=on_epoch,
    )
    return Model(inputs=inputs, network=network, targets=targets), outcome
