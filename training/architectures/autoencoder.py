"""A convolutional autoencoder: a picture squeezed into a short code, and drawn again from it.

The encoder halves the picture twice and ends in the code; the decoder mirrors it, and doubles by handing out channels
as pixels (Shi et al., arXiv:1609.05158). Trained with noise on its input it learns to take the noise away (Vincent et
al., "Extracting and composing robust features with denoising autoencoders", 2008).

Shape suffixes: B rows of the batch, H height, W width, K channels (h and w after one halving, y and x after two),
D numbers of the code.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.architectures._checks import require_number, require_size

# The scale of a grey value, on which the reconstruction is given too; errors are told on the scale from 0 to 1.
WHITE = 255.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What fixes the network.

    Attributes:
        height: Of the picture, in pixels; a multiple of 4, as it is halved twice.
        width: Of the picture, in pixels; a multiple of 4.
        channels: Of the first and of the second convolution.
        code_size: Numbers that a picture is squeezed into.
        noise: Standard deviation of the noise added to each pixel while training, on the scale 0-1; 0 for none.
        input_mean: Subtracted from each pixel; of the training split, on the scale 0-255.
        input_std: Each pixel is divided by it; of the training split, on the scale 0-255.
    """

    height: int = 28
    width: int = 28
    channels: tuple[int, int] = (16, 32)
    code_size: int = 32
    noise: float = 0.0
    input_mean: float = 0.0
    input_std: float = 255.0

    def __post_init__(self) -> None:
        for name in ("height", "width", "code_size"):
            require_size(name, getattr(self, name))
        if self.height % 4 or self.width % 4:
            raise ValueError(f"height and width must be multiples of 4, got {self.height} and {self.width}")
        sizes: object = self.channels  # a manifest may hold anything
        if not isinstance(sizes, tuple) or len(sizes) != 2:
            raise ValueError(f"channels must be a list of two sizes, got {self.channels!r}")
        for index, size in enumerate(self.channels):
            require_size(f"channels[{index}]", size)
        require_number("noise", self.noise, low=0, high=10)
        require_number("input_mean", self.input_mean, low=0)
        require_number("input_std", self.input_std, low=1e-6)


class Network(nn.Module):
    """Raw pixels to a code and back to pixels; the scaling is part of it, both ways."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        first, second = config.channels
        self.small_size = (second, config.height // 4, config.width // 4)
        num_features = second * (config.height // 4) * (config.width // 4)
        self.conv1 = nn.Conv2d(1, first, kernel_size=3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(first, second, kernel_size=3, stride=2, padding=1)
        self.to_code = nn.Linear(num_features, config.code_size)
        self.from_code = nn.Linear(config.code_size, num_features)
        # four times the channels, which become twice the height and the width
        self.deconv2 = nn.Conv2d(second, 4 * first, kernel_size=3, padding=1)
        self.deconv1 = nn.Conv2d(first, 4, kernel_size=3, padding=1)

    def encode(self, pixels_BHW: Tensor) -> Tensor:
        """Return codes.

        Args:
            pixels_BHW: Grey values from 0 to 255, float32, shape (B, height, width).

        Returns:
            float32, shape (B, code_size).
        """
        scaled_BHW = (pixels_BHW - self.config.input_mean) / self.config.input_std
        features_BKhw = functional.silu(self.conv1(scaled_BHW.unsqueeze(1)))
        features_BKyx = functional.silu(self.conv2(features_BKhw))
        code_BD: Tensor = self.to_code(features_BKyx.flatten(1))
        return code_BD

    def decode(self, code_BD: Tensor) -> Tensor:
        """Draw pictures.

        Args:
            code_BD: float32, shape (B, code_size).

        Returns:
            Grey values from 0 to 255, float32, shape (B, height, width).
        """
        features_BKyx = functional.silu(self.from_code(code_BD)).reshape(-1, *self.small_size)
        features_BKhw = functional.silu(functional.pixel_shuffle(self.deconv2(features_BKyx), 2))
        picture_BHW = functional.pixel_shuffle(self.deconv1(features_BKhw), 2).squeeze(1)
        return torch.sigmoid(picture_BHW) * WHITE

    def forward(self, pixels_BHW: Tensor) -> Tensor:
        """Return reconstructions; while training, those of pictures with noise.

        Args:
            pixels_BHW: Grey values from 0 to 255, float32, shape (B, height, width).

        Returns:
            Grey values from 0 to 255, float32, shape (B, height, width).
        """
        if self.training and self.config.noise > 0:
            noise_BHW = torch.randn_like(pixels_BHW) * (self.config.noise * WHITE)
            pixels_BHW = (pixels_BHW + noise_BHW).clamp(0, WHITE)
        return self.decode(self.encode(pixels_BHW))

    def as_served(self) -> nn.Module:
        """Return the module that answers what is served; see :mod:`training.architectures`."""
        return _Reconstruction(self)


class _Reconstruction(nn.Module):
    """An autoencoder as it is served: how far the reconstruction is from the picture, the code, the reconstruction."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels_BHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return errors (B,), mean squared on the scale 0-1, codes (B, D) and grey values (B, H, W), all float32."""
        code_BD = self.network.encode(pixels_BHW)
        reconstruction_BHW = self.network.decode(code_BD)
        difference_BHW = (reconstruction_BHW - pixels_BHW) / WHITE
        return (difference_BHW * difference_BHW).mean(dim=(1, 2)), code_BD, reconstruction_BHW
