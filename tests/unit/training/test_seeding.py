import random

import numpy as np
import torch

from training.seeding import derive, generator, seed_everything


def test_each_use_has_its_own_stream():
    seeds = {derive(*path) for path in [(1,), (2,), (1, 1), (1, 2), (1, 1, 1), (1, 1, 2), (2, 1, 1)]}
    assert len(seeds) == 7
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_same_path_gives_the_same_numbers():
    draws = [torch.rand(4, generator=generator(20, 1, 3)) for _ in range(2)]
    assert torch.equal(*draws)


def test_one_seed_decides_every_global_generator():
    def draw():
        seed_everything(2**40 + 5)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    assert draw() == draw()
