import pytest
import torch

from training.augment import Augmentation, augment


def pictures(num=64):
    return torch.arange(num * 5 * 4, dtype=torch.int32).reshape(num, 5, 4)


def seeded():
    return torch.Generator().manual_seed(3)


def test_nothing_asked_for_changes_nothing():
    assert augment(pictures(), Augmentation(), seeded()) is not None
    assert torch.equal(augment(pictures(), Augmentation(), seeded()), pictures())


def test_a_flip_mirrors_some_pictures_left_to_right_and_leaves_the_others():
    before = pictures()
    after = augment(before, Augmentation(flip=True), seeded())
    kept = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    mirrored = [torch.equal(a.flip(1), b) for a, b in zip(before, after, strict=True)]
    assert all(k != m for k, m in zip(kept, mirrored, strict=True))
    assert 10 < sum(mirrored) < 54


def test_a_shift_moves_by_no_more_than_asked_and_fills_with_black():
    one_pixel = torch.zeros(200, 7, 7, dtype=torch.uint8)
    one_pixel[:, 3, 3] = 255
    after = augment(one_pixel, Augmentation(max_shift=2), seeded())
    assert after.dtype == torch.uint8
    assert after.shape == one_pixel.shape
    assert (after.flatten(1).sum(1) == 255).all()
    places = after.flatten(1).argmax(1)
    offsets = {(int(place) // 7 - 3, int(place) % 7 - 3) for place in places}
    assert offsets == {(y, x) for y in range(-2, 3) for x in range(-2, 3)}


def test_what_is_shifted_out_does_not_come_back_on_the_other_side():
    corner = torch.zeros(100, 4, 4, dtype=torch.uint8)
    corner[:, 0, 0] = 1
    after = augment(corner, Augmentation(max_shift=1), seeded())
    assert after[:, 2:, :].sum() == 0
    assert after[:, :, 2:].sum() == 0


def test_the_same_generator_changes_the_same_batch_alike():
    both = Augmentation(flip=True, max_shift=1)
    assert torch.equal(augment(pictures(), both, seeded()), augment(pictures(), both, seeded()))


def test_a_negative_shift_is_refused():
    with pytest.raises(ValueError, match="max_shift"):
        Augmentation(max_shift=-1)
