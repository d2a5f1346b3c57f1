"""``python -m benchmarks.training_loop``: what an epoch of the loop costs beside its bare computation.

Both run in one process, in turn, on the same network and the same batches. The bare computation is forward, loss,
backward and step over batches that lie in memory ready-made; the loop also shuffles, takes out, changes at random,
watches for NaN, draws its bar, and keeps its record. Seconds are those of the processor, so that other work on the
machine disturbs little.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from training import architectures, config, data
from training.augment import augment
from training.batches import Batch, LoaderBatches, MemoryBatches
from training.config import TrainConfig
from training.data import Rows
from training.loop import Epoch, Validation, fit
from training.optim import make_optimizer
from training.seeding import seed_everything

BAR = 1.15


class Pictures:
    """Pictures as a network takes them, with the recipe's random changes."""

    lengths_N = None

    def __init__(self, rows: Rows, settings: TrainConfig) -> None:
        self._images_NHW, self._labels_N = torch.tensor(rows.images), torch.tensor(rows.labels)
        self._augmentation = settings.augmentation

    def __len__(self) -> int:
        return len(self._labels_N)

    def batch(self, indices_B: Tensor) -> Batch:
        return Batch((self._images_NHW[indices_B].float(),), self._labels_N[indices_B])

    def augment(self, batch: Batch, randomness: torch.Generator) -> Batch:
        return Batch((augment(batch.inputs[0], self._augmentation, randomness),), batch.targets)


class NoValidation:
    """Cross-entropy without a look at validation, which is no part of what is measured."""

    score_name = "none"

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets)

    def validate(self, network: nn.Module) -> Validation:
        return Validation(0.0, 0.0)


def compare(
    settings: TrainConfig, rows: Rows, path: type[MemoryBatches] | type[LoaderBatches]
) -> list[tuple[float, float]]:
    """Return the seconds of each epoch, of the loop and of the bare computation after it; the first is a warm-up."""
    seed_everything(settings.seed)
    network = architectures.build(settings.architecture, settings.network)
    batches = path(Pictures(rows, settings), batch_size=settings.batch_size, seed=settings.seed)
    in_memory = list(batches.epoch(1))
    optimizer = make_optimizer(network, settings)
    pairs: list[tuple[float, float]] = []

    def compute(epoch: Epoch) -> None:
        network.train()
        started = time.process_time()
        for (pixels_BHW,), labels_B in in_memory:
            loss = functional.cross_entropy(network(pixels_BHW), labels_B)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        pairs.append((epoch.duration_s, time.process_time() - started))

    fit(network, batches, NoValidation(), settings, on_epoch=compute, clock=time.process_time)
    return pairs[1:]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the ratio of every model and path; return 0 where the bar is met from memory, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_loop", description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["cnn"], help="recipes of picture networks (default: cnn)")
    parser.add_argument("--rows", type=int, default=6400, help="of the training split (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=7, help="measured, after one to warm up (default: %(default)s)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    pictures = data.load("fashion_mnist").train
    rows = Rows(images=pictures.images[: options.rows], labels=pictures.labels[: options.rows])
    is_met = True
    for name in options.models:
        settings = config.recipe(name, epochs=options.epochs + 1, patience=options.epochs + 1)
        assert isinstance(settings, TrainConfig)
        for path in (MemoryBatches, LoaderBatches):
            pairs = compare(settings, rows, path)
            ratio = statistics.median(loop_s / bare_s for loop_s, bare_s in pairs)
            loop_s, bare_s = (statistics.median(column) for column in zip(*pairs, strict=True))
            print(
                f"{name:<12} {path.__name__:<14} loop {loop_s:.3f} s, bare {bare_s:.3f} s an epoch, ratio {ratio:.3f}"
            )
            is_met &= ratio <= BAR or path is not MemoryBatches
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
