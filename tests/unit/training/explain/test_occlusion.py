import numpy as np
import pytest
import torch

from training.explain.occlusion import ablate, occlude
from training.explain.scores import without_gradients
from training.export.verify import onnx_runner


def weighted(inputs):
    return (inputs * torch.arange(16.0).reshape(4, 4)).sum(dim=(1, 2))


def test_what_is_lost_by_hiding_single_pixels_of_a_sum_are_its_summands():
    found = occlude(weighted, torch.full((1, 4, 4), 2.0), None, window=(1, 1), stride=(1, 1))
    torch.testing.assert_close(found[0], 2 * torch.arange(16.0).reshape(4, 4))


def test_a_window_tells_its_pixels_together_and_the_baseline_stands_in_for_them():
    found = occlude(weighted, torch.full((1, 4, 4), 2.0), None, window=(2, 4), stride=(2, 4), baseline=1.0)
    torch.testing.assert_close(found[0, :2], torch.full((2, 4), 28.0))
    torch.testing.assert_close(found[0, 2:], torch.full((2, 4), 92.0))


@pytest.mark.parametrize(("window", "stride"), [((5, 1), (1, 1)), ((2, 2), (3, 1)), ((2, 2), (0, 1)), ((2,), (1,))])
def test_windows_and_strides_that_do_not_fit_are_refused(window, stride):
    with pytest.raises(ValueError, match="stride"):
        occlude(weighted, torch.ones(1, 4, 4), None, window=window, stride=stride)


def test_an_onnx_model_is_explained_as_the_network_is(committed, pixels):
    subject = committed("mlp")
    session = onnx_runner(subject.bundle.read(subject.bundle.artifact("onnx")))
    classes = torch.tensor([9, 2, 1])
    settings = {"window": (7, 7), "stride": (7, 7)}
    of_onnx = occlude(without_gradients(session, "image", "logits"), pixels[:3], classes, **settings)
    of_torch = occlude(subject.network, pixels[:3], classes, **settings) / subject.bundle.manifest.temperature
    assert of_torch.abs().max() > 1
    np.testing.assert_allclose(of_onnx.numpy(), of_torch.numpy(), rtol=1e-4, atol=1e-3)


def test_ablation_puts_the_baseline_in_the_place_of_one_feature_at_a_time():
    def product(rows):
        return rows[:, 0] * rows[:, 1]

    found = ablate(product, torch.tensor([[3.0, 4.0]]), None, baseline_1F=torch.tensor([[1.0, 2.0]]))
    torch.testing.assert_close(found, torch.tensor([[8.0, 6.0]]))
