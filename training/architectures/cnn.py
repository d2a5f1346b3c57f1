"""A small convolutional network: two rounds of 3x3 convolution, 2x2 pooling and ReLU, then two dense layers.

Shape suffixes: B rows of the batch, H height, W width, K channels (h and w after one pooling, y and x after two),
D features, C classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.architectures._checks import require_number, require_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What fixes the network.

    Attributes:
        height: Of the picture, in pixels; at least 4, as it is halved twice.
        width: Of the picture, in pixels; at least 4.
        channels: Of the first and of the second convolution.
        dense: Units of the hidden dense layer.
        dropout: Share of the features silenced while training, before each dense layer.
        num_classes: Length of the logits.
        input_mean: Subtracted from each pixel; of the training split, on the scale 0-255.
        input_std: Each pixel is divided by it; of the training split, on the scale 0-255.
    """

    height: int = 28
    width: int = 28
    channels: tuple[int, int] = (32, 64)
    dense: int = 128
    dropout: float = 0.3
    num_classes: int = 10
    input_mean: float = 0.0
    input_std: float = 255.0

    def __post_init__(self) -> None:
        for name in ("height", "width", "dense", "num_classes"):
            require_size(name, getattr(self, name))
        if min(self.height, self.width) < 4:
            raise ValueError(f"height and width must be at least 4, got {self.height} and {self.width}")
        sizes: object = self.channels  # a manifest may hold anything
        if not isinstance(sizes, tuple) or len(sizes) != 2:
            raise ValueError(f"channels must be a list of two sizes, got {self.channels!r}")
        for index, size in enumerate(self.channels):
            require_size(f"channels[{index}]", size)
        require_number("dropout", self.dropout, low=0, high=1)
        require_number("input_mean", self.input_mean, low=0)
        require_number("input_std", self.input_std, low=1e-6)


class Network(nn.Module):
    """Raw pixels to logits; the scaling is part of it."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        first, second = config.channels
        self.conv1 = nn.Conv2d(1, first, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(first, second, kernel_size=3, padding=1)
        self.dropout = nn.Dropout(config.dropout)
        self.dense = nn.Linear(second * (config.height // 4) * (config.width // 4), config.dense)
        self.head = nn.Linear(config.dense, config.num_classes)

    def forward(self, pixels_BHW: Tensor) -> Tensor:
        """Return logits.

        Args:
            pixels_BHW: Grey values from 0 to 255, float32, shape (B, height, width).

        Returns:
            Logits, float32, shape (B, num_classes).
        """
        scaled_BHW = (pixels_BHW - self.config.input_mean) / self.config.input_std
        # pooling before ReLU gives the same numbers, and leaves ReLU a quarter of the work
        features_BKhw = torch.relu(functional.max_pool2d(self.conv1(scaled_BHW.unsqueeze(1)), 2))
        features_BKyx = torch.relu(functional.max_pool2d(self.conv2(features_BKhw), 2))
        hidden_BD = torch.relu(self.dense(self.dropout(features_BKyx.flatten(1))))
        logits_BC: Tensor = self.head(self.dropout(hidden_BD))
        return logits_BC
