import random

import numpy as np
import pytest
import torch

from training.seeding import derive, generator, random_state, restore_random_state, seed_everything, seeded


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


def draw_all():
    return random.random(), float(np.random.rand()), float(torch.rand(())), float(np.random.standard_normal())


def test_the_generators_go_on_from_where_they_stood_also_after_a_file(tmp_path):
    seed_everything(3)
    draw_all()
    torch.save(random_state(), tmp_path / "state.pt")
    expected = [draw_all() for _ in range(3)]
    seed_everything(4)
    restore_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [draw_all() for _ in range(3)] == expected


def test_a_seeded_while_leaves_no_trace():
    seed_everything(3)
    expected = [draw_all(), draw_all()]
    seed_everything(3)
    assert draw_all() == expected[0]
    with seeded(9):
        inside = draw_all()
    assert draw_all() == expected[1]
    with seeded(9):
        assert draw_all() == inside


def test_an_error_in_a_seeded_while_leaves_no_trace_either():
    seed_everything(3)
    expected = draw_all()
    seed_everything(3)

    def fail():
        with seeded(9):
            draw_all()
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert draw_all() == expected
