"""Grad-CAM and HiResCAM: where a convolution looks when the network decides for a class.

Grad-CAM (Selvaraju et al., arXiv:1610.02391) averages the gradient of each channel over the picture. That is exact for
networks which average their features over the picture themselves; where dense layers follow instead, a feature can
speak for a class in one place and against it in another, and the average knows neither. HiResCAM (Draelos and Carin,
arXiv:2011.08891) leaves the average out.

Shape suffixes: B rows of the batch, H height, W width.
"""

from captum.attr import LayerAttribution, LayerGradCam, LayerGradientXActivation
from torch import Tensor, nn


def explained_layer(network: nn.Module) -> nn.Module:
    """Return the layer whose features are weighed: the last one that still knows where in the picture it is.

    An architecture names it with an attribute ``explained_layer``; without one it is its last convolution.

    Raises:
        ValueError: There is no convolution.
    """
    named = getattr(network, "explained_layer", None)
    if isinstance(named, nn.Module):
        return named
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    if not convolutions:
        raise ValueError(
            f"{type(network).__name__} has no convolution for Grad-CAM: use integrated gradients or occlusion"
        )
    return convolutions[-1]


def grad_cam(
    network: nn.Module,
    pixels_BHW: Tensor,
    targets_B: Tensor,
    *,
    layer: nn.Module | None = None,
    only_for: bool = True,
) -> Tensor:
    """Weigh the features of a layer by how much the class gains from each, and sum them.

    Args:
        network: Takes pixels, returns logits.
        pixels_BHW: float32, shape (B, height, width).
        targets_B: The class that is explained for each row, int64.
        layer: Its output has shape (B, channels, h, w); :func:`explained_layer` without it.
        only_for: Keep what speaks for the class and drop what speaks against it, as the paper does.

    Returns:
        float32, shape (B, height, width): the layer's map, enlarged to the picture bilinearly.
    """
    method = LayerGradCam(network, explained_layer(network) if layer is None else layer)
    small_B1hw = method.attribute(
        pixels_BHW.detach().clone().requires_grad_(True), target=targets_B, relu_attributions=only_for
    )
    return _enlarged(small_B1hw, pixels_BHW)


def hires_cam(
    network: nn.Module,
    pixels_BHW: Tensor,
    targets_B: Tensor,
    *,
    layer: nn.Module | None = None,
    only_for: bool = True,
) -> Tensor:
    """Weigh every feature by its own gradient, place by place, and sum the channels.

    The arguments and the result are those of :func:`grad_cam`.
    """
    method = LayerGradientXActivation(network, explained_layer(network) if layer is None else layer)
    products_BKhw = method.attribute(pixels_BHW.detach().clone().requires_grad_(True), target=targets_B)
    small_B1hw = products_BKhw.sum(dim=1, keepdim=True)
    return _enlarged(small_B1hw.relu() if only_for else small_B1hw, pixels_BHW)


def _enlarged(small_B1hw: Tensor, pixels_BHW: Tensor) -> Tensor:
    size = tuple(pixels_BHW.shape[1:])
    enlarged_B1HW: Tensor = LayerAttribution.interpolate(small_B1hw.detach(), size, interpolate_mode="bilinear")
    return enlarged_B1HW[:, 0]
