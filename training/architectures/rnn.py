"""A recurrent network for series: Elman's cells with tanh, read forward and backward, pooled over the real steps.

After Elman ("Finding structure in time", 1990) and Schuster and Paliwal ("Bidirectional recurrent neural networks",
1997).

Shape suffixes: B rows of the batch, T steps, C channels, D features of a step, K classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.architectures import _padding
from training.architectures._checks import require_choice, require_number, require_numbers, require_size, require_truth
from training.architectures._recurrent import Stack

POOLINGS = ("mean", "last", "max")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What fixes the network.

    Attributes:
        num_channels: Numbers of each step.
        hidden: Units of each direction of each layer.
        layers: Recurrent layers, one upon the other.
        bidirectional: Read each series backward too.
        dropout: Share of the features silenced while training, between layers and before the head.
        noise: Standard deviation of the noise added to each number while training, in units of ``input_std``.
        pooling: How the steps become one answer: their mean, the last of each direction, or the largest.
        num_classes: Length of the logits.
        input_mean: Subtracted from each channel, one number for each; of the training split. Empty for zeros.
        input_std: Each channel is divided by it; of the training split. Empty for ones.
    """

    num_channels: int = 12
    hidden: int = 64
    layers: int = 1
    bidirectional: bool = True
    dropout: float = 0.3
    noise: float = 0.0
    pooling: str = "last"
    num_classes: int = 9
    input_mean: tuple[float, ...] = ()
    input_std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("num_channels", "hidden", "layers", "num_classes"):
            require_size(name, getattr(self, name))
        require_truth("bidirectional", self.bidirectional)
        require_number("dropout", self.dropout, low=0, high=1)
        require_number("noise", self.noise, low=0)
        require_choice("pooling", self.pooling, POOLINGS)
        require_numbers("input_mean", self.input_mean, self.num_channels)
        require_numbers("input_std", self.input_std, self.num_channels, low=1e-6)


class Network(nn.Module):
    """Raw series to logits; the scaling is part of it."""

    input_mean: Tensor
    input_std: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        # they stand in the config, so the weights need not repeat them
        mean_C = torch.tensor(config.input_mean or (0.0,) * config.num_channels)
        std_C = torch.tensor(config.input_std or (1.0,) * config.num_channels)
        self.register_buffer("input_mean", mean_C, persistent=False)
        self.register_buffer("input_std", std_C, persistent=False)
        self.body = Stack(
            "RNN",
            config.num_channels,
            config.hidden,
            layers=config.layers,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(self.body.num_outputs, config.num_classes)

    def forward(self, sequence_BTC: Tensor, lengths_B: Tensor) -> Tensor:
        """Return logits.

        Args:
            sequence_BTC: Series in their own units, float32, shape (B, T, num_channels), zeros beyond their lengths.
            lengths_B: Steps of each series, int64, shape (B,), from 1 to T.

        Returns:
            Logits, float32, shape (B, num_classes).
        """
        lengths_B = _padding.at_least_one(lengths_B)
        scaled_BTC = (sequence_BTC - self.input_mean) / self.input_std
        if self.training and self.config.noise > 0:
            scaled_BTC = scaled_BTC + self.config.noise * torch.randn_like(scaled_BTC)
        steps_BTD = self.body(scaled_BTC, lengths_B)
        logits_BK: Tensor = self.head(self.dropout(self._pool(steps_BTD, lengths_B)))
        return logits_BK

    def _pool(self, steps_BTD: Tensor, lengths_B: Tensor) -> Tensor:
        real_BT = _padding.real_steps(steps_BTD.shape[1], lengths_B)
        if self.config.pooling == "mean":
            return _padding.mean(steps_BTD, real_BT, lengths_B)
        if self.config.pooling == "max":
            return _padding.largest(steps_BTD, real_BT)
        # what is read backward ends at the first step
        ahead_BD = _padding.last(steps_BTD[..., : self.config.hidden], lengths_B)
        back_BD = steps_BTD[:, 0, self.config.hidden :]
        return torch.cat([ahead_BD, back_BD], dim=1)
