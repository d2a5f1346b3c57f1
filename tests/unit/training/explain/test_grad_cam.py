import pytest
import torch
from torch import nn

from training.explain.grad_cam import explained_layer, grad_cam, hires_cam


class Corner(nn.Module):
    """Two channels, the picture and its negative; class 0 goes by the upper left quarter of the first alone."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, kernel_size=1, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1))

    def forward(self, pixels_BHW):
        features = self.conv(pixels_BHW.unsqueeze(1))
        return torch.stack([features[:, 0, :4, :4].sum(dim=(1, 2)), features[:, 1].mean(dim=(1, 2))], dim=1)


@pytest.fixture
def picture():
    return torch.rand((1, 8, 8), generator=torch.Generator().manual_seed(1)) + 0.5


def test_hires_cam_stays_in_the_place_that_decides_and_grad_cam_spreads_over_the_channel(picture):
    network, target = Corner(), torch.tensor([0])
    placed = hires_cam(network, picture, target)
    torch.testing.assert_close(placed[0, :4, :4], picture[0, :4, :4])
    assert not placed[0, 4:].any()
    assert not placed[0, :, 4:].any()
    # the gradient of the channel, averaged: 16 of 64 places have 1
    torch.testing.assert_close(grad_cam(network, picture, target), picture * 16 / 64)


def test_what_speaks_against_a_class_is_dropped_unless_it_is_asked_for(picture):
    network, target = Corner(), torch.tensor([1])
    assert not grad_cam(network, picture, target).any()
    torch.testing.assert_close(grad_cam(network, picture, target, only_for=False), -picture / 64)


def test_a_small_map_is_enlarged_to_the_picture(committed, pixels):
    network = committed("cnn").network
    sizes = []
    hook = network.conv2.register_forward_hook(lambda module, args, output: sizes.append(tuple(output.shape[2:])))
    found = hires_cam(network, pixels[:3], torch.tensor([0, 1, 2]))
    hook.remove()
    assert sizes[0] == (14, 14)
    assert found.shape == (3, 28, 28)
    assert (found >= 0).all()


def test_the_layer_is_the_one_that_the_network_names_or_its_last_convolution(committed):
    network = committed("cnn").network
    assert explained_layer(network) is network.conv2
    named = Corner()
    named.explained_layer = nn.Conv2d(1, 1, 1)
    assert explained_layer(named) is named.explained_layer


def test_a_network_without_convolutions_is_refused_with_what_to_use_instead(committed, pixels):
    with pytest.raises(ValueError, match="no convolution for Grad-CAM: use integrated gradients or occlusion"):
        grad_cam(committed("mlp").network, pixels[:1], torch.tensor([0]))
