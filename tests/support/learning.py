"""A small learning problem with everything that the loop must cope with: rows of different lengths, two inputs,
dropout, and random changes of the training rows.

As a script it trains once, so that tests can kill it, or start several processes of it.
"""

import argparse
import hashlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.batches import Batch, Batches, LoaderBatches, MemoryBatches
from training.config import TrainConfig
from training.device import device_of, moved
from training.distributed import processes, this_process
from training.loop import Fit, Validation, fit
from training.seeding import generator, seed_everything

NUM_CHANNELS, NUM_CLASSES = 4, 3


class Series:
    """Series of 2 to 12 steps; the class shows in their mean."""

    def __init__(self, num_rows: int = 90, *, seed: int = 0, noise: float = 0.0) -> None:
        randomness = generator(seed, 100)
        self.noise = noise
        self.lengths_N = torch.randint(2, 13, (num_rows,), generator=randomness)
        self.labels_N = torch.randint(0, NUM_CLASSES, (num_rows,), generator=randomness)
        centers_CD = torch.randn(NUM_CLASSES, NUM_CHANNELS, generator=generator(0, 101))
        self.rows = [
            centers_CD[label] + torch.randn(length, NUM_CHANNELS, generator=randomness)
            for length, label in zip(self.lengths_N.tolist(), self.labels_N.tolist(), strict=True)
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices_B: Tensor) -> Batch:
        values_BTD = nn.utils.rnn.pad_sequence([self.rows[index] for index in indices_B.tolist()], batch_first=True)
        return Batch((values_BTD, self.lengths_N[indices_B]), self.labels_N[indices_B])

    def augment(self, batch: Batch, randomness: torch.Generator) -> Batch:
        if not self.noise:
            return batch
        values_BTD, lengths_B = batch.inputs
        noise_BTD = torch.randn(values_BTD.shape, generator=randomness) * self.noise
        return Batch((values_BTD + noise_BTD, lengths_B), batch.targets)


class MeanNetwork(nn.Module):
    """The mean over the real steps of each row, and two dense layers."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.hidden = nn.Linear(NUM_CHANNELS, 16)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(16, NUM_CLASSES)

    def forward(self, values_BTD: Tensor, lengths_B: Tensor) -> Tensor:
        is_real_BT = torch.arange(values_BTD.shape[1], device=lengths_B.device) < lengths_B[:, None]
        mean_BD = (values_BTD * is_real_BT[:, :, None]).sum(1) / lengths_B[:, None]
        return self.head(self.dropout(torch.relu(self.hidden(mean_BD))))


class SeriesObjective:
    score_name = "accuracy"

    def __init__(self, validation: Series) -> None:
        self.validation = validation

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets)

    def validate(self, network: nn.Module) -> Validation:
        inputs, targets = moved(self.validation.batch(torch.arange(len(self.validation))), device_of(network))
        was_training = network.training
        network.eval()
        with torch.inference_mode():
            logits = network(*inputs)
        network.train(was_training)
        loss = functional.cross_entropy(logits, targets).item()
        return Validation(loss, float((logits.argmax(1) == targets).float().mean()))


def series_config(**changes: object) -> TrainConfig:
    settings = {"architecture": "mean", "epochs": 4, "batch_size": 16, "learning_rate": 0.05, "by_length": True}
    return TrainConfig(**{**settings, **changes})


def digest(network: nn.Module) -> str:
    """Return the SHA-256 of all weights with their names."""
    sha256 = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        sha256.update(name.encode())
        sha256.update(tensor.detach().contiguous().numpy().tobytes())
    return sha256.hexdigest()


def train_series(
    config: TrainConfig,
    *,
    dropout: float = 0.0,
    noise: float = 0.0,
    num_rows: int = 90,
    num_workers: int | None = None,
    run_dir: Path | None = None,
    kill_at: tuple[int, int] | None = None,
    device: str = "cpu",
    **options: object,
) -> tuple[nn.Module, Fit]:
    """Train a fresh network; ``kill_at`` an epoch and step, this process ends itself as ``kill -9`` would."""
    process = this_process()
    seed_everything(config.seed)
    network = MeanNetwork(dropout).to(device)
    settings = {
        "batch_size": config.batch_size,
        "seed": config.seed,
        "by_length": config.by_length,
        "rank": process.rank,
        "world_size": process.world_size,
    }
    examples = Series(num_rows, noise=noise)
    batches: Batches
    if num_workers is None:
        batches = MemoryBatches(examples, **settings)
    else:
        batches = LoaderBatches(examples, num_workers=num_workers, **settings)
    if kill_at is not None:
        batches.epoch = _deadly(batches, kill_at)  # type: ignore[method-assign]
    outcome = fit(network, batches, SeriesObjective(Series(60, seed=1)), config, run_dir=run_dir, **options)
    return network, outcome


def _deadly(batches: Batches, kill_at: tuple[int, int]):
    plain = batches.epoch

    def epoch(number: int) -> Iterator[Batch]:
        for step, batch in enumerate(plain(number), start=1):
            if (number, step) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

    return epoch


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("settings", type=json.loads, help="of train_series, as JSON; config holds the config's")
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--run-dir", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = dict(arguments.settings)
    config = series_config(**settings.pop("config", {}))
    if "kill_at" in settings:
        settings["kill_at"] = tuple(settings["kill_at"])
    with processes("cpu"):
        network, outcome = train_series(config, run_dir=arguments.run_dir, **settings)
        if this_process().is_first:
            told = {
                "digest": digest(network),
                "train_losses": [epoch.train_loss for epoch in outcome.history],
                "validation_losses": [epoch.validation_loss for epoch in outcome.history],
                "stopped": outcome.stopped,
            }
            arguments.result.write_text(json.dumps(told))


if __name__ == "__main__":
    main()
