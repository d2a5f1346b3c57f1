"""Epochs as TensorBoard reads them."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from training.epochs import Epoch
from training.numpy_network import fitting


@contextmanager
def tensorboard(run_dir: Path) -> Iterator[Callable[[Epoch | fitting.Epoch], None]]:
    """Write every epoch to ``run_dir/tensorboard``; ``tensorboard --logdir`` shows it.

    Yields:
        What each epoch is to be told to.
    """
    from torch.utils.tensorboard import SummaryWriter  # takes a second to import, and few ask for it

    with SummaryWriter(str(run_dir / "tensorboard")) as writer:

        def tell(epoch: Epoch | fitting.Epoch) -> None:
            for name, value in dataclasses.asdict(epoch).items():
                if name != "number":
                    writer.add_scalar(name, value, epoch.number)
            writer.flush()

        yield tell
