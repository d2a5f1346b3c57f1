"""Seeds: one number decides everything that is drawn, and each use draws from its own stream."""

import random

import numpy as np
import torch


def derive(seed: int, *path: int) -> int:
    """Return the seed of one use, such as (seed, stream, epoch); neighboring paths give unrelated numbers."""
    return int(np.random.SeedSequence([seed, *path]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(seed: int, *path: int) -> torch.Generator:
    """Return a generator for one use, independent of torch's global one."""
    return torch.Generator().manual_seed(derive(seed, *path))


def seed_everything(seed: int) -> None:
    """Seed the global generators, which fresh weights and dropout draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
