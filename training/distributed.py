"""Training in several processes at once, with torch's own DistributedDataParallel (arXiv:2006.15704).

``torchrun --nproc-per-node 2 -m training ...`` starts the processes and tells each of them who it is. Each takes its
share of every batch; their gradients are averaged as they come out of the backward pass, so that all hold the same
weights after every step. Alone, everything here is as good as not there.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from training.device import choose_device, device_of
from training.errors import TrainingError
from training.seeding import derive

_RANK = 4  # the stream of random numbers; see training.batches for the others

T = TypeVar("T")


@contextmanager
def processes(device: str = "auto") -> Iterator[torch.device]:
    """Join the processes that torchrun started, if it did, and part from them in the end.

    Args:
        device: ``auto`` gives each process of a machine its own GPU, where there are enough.

    Yields:
        The device of this process.

    Raises:
        TrainingError: There are fewer GPUs than processes, or none though one was asked for.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ["WORLD_SIZE"] == "1":
        yield choose_device(device)
        return
    chosen = choose_device(device)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        if chosen.index >= torch.cuda.device_count():
            raise TrainingError(
                f"there are {torch.cuda.device_count()} GPUs for {os.environ['LOCAL_WORLD_SIZE']} processes; start "
                "fewer, or train with --device cpu"
            )
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield chosen
        dist.barrier()  # who leaves early cuts the others off in the midst of what was said last
    finally:
        dist.destroy_process_group()


@dataclass(frozen=True, slots=True)
class Process:
    """One of the processes that train a network together.

    Attributes:
        rank: Which one, from 0.
        world_size: How many there are.
    """

    rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that validates, keeps checkpoints and tells."""
        return self.rank == 0

    def wrap(self, network: nn.Module, seed: int) -> nn.Module:
        """Return the module to train: its gradients are the mean over all processes, and each draws its own dropout."""
        if self.world_size == 1:
            return network
        if self.rank:  # the first draws what a single one would
            torch.manual_seed(derive(seed, _RANK, self.rank))
        device = device_of(network)
        return DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)

    def total(self, value: float) -> float:
        """Return the sum over all processes."""
        if self.world_size == 1:
            return value
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        sum_1 = torch.tensor([value], dtype=torch.float64, device=device)
        dist.all_reduce(sum_1)
        return float(sum_1)

    def of_first(self, make: Callable[[], T]) -> T:
        """Return, in every process, what the first one makes."""
        if self.world_size == 1:
            return make()
        holder = [make() if self.is_first else None]
        dist.broadcast_object_list(holder, src=0)
        return cast(T, holder[0])

    def of_all(self, value: T) -> list[T]:
        """Return the values of all processes, in the order of their ranks."""
        if self.world_size == 1:
            return [value]
        values: list[T | None] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return cast(list[T], values)


def this_process() -> Process:
    """Return who this process is; the first and only one outside of :func:`processes`."""
    if not (dist.is_available() and dist.is_initialized()):
        return Process()
    return Process(dist.get_rank(), dist.get_world_size())
