"""A multilayer perceptron: the picture as one long row, hidden layers with ReLU and dropout, one logit per class.

Shape suffixes: B rows of the batch, H height, W width, D features, C classes.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from training.architectures._checks import require_number, require_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What fixes the network.

    Attributes:
        height: Of the picture, in pixels.
        width: Of the picture, in pixels.
        hidden: Units of each hidden layer, from the input on; empty is logistic regression.
        dropout: Share of hidden units silenced while training.
        num_classes: Length of the logits.
        input_mean: Subtracted from each pixel; of the training split, on the scale 0-255.
        input_std: Each pixel is divided by it; of the training split, on the scale 0-255.
    """

    height: int = 28
    width: int = 28
    hidden: tuple[int, ...] = (512, 256)
    dropout: float = 0.3
    num_classes: int = 10
    input_mean: float = 0.0
    input_std: float = 255.0

    def __post_init__(self) -> None:
        for name in ("height", "width", "num_classes"):
            require_size(name, getattr(self, name))
        if not isinstance(self.hidden, tuple):
            raise ValueError(f"hidden must be a list of layer sizes, got {self.hidden!r}")
        for index, size in enumerate(self.hidden):
            require_size(f"hidden[{index}]", size)
        require_number("dropout", self.dropout, low=0, high=1)
        require_number("input_mean", self.input_mean, low=0)
        require_number("input_std", self.input_std, low=1e-6)


class Network(nn.Module):
    """Raw pixels to logits; the scaling is part of it."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        num_features = config.height * config.width
        for size in config.hidden:
            layers += [nn.Linear(num_features, size), nn.ReLU(), nn.Dropout(config.dropout)]
            num_features = size
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(num_features, config.num_classes)

    def forward(self, pixels_BHW: Tensor) -> Tensor:
        """Return logits.

        Args:
            pixels_BHW: Grey values from 0 to 255, float32, shape (B, height, width).

        Returns:
            Logits, float32, shape (B, num_classes).
        """
        scaled_BHW = (pixels_BHW - self.config.input_mean) / self.config.input_std
        logits_BC: Tensor = self.head(self.body(scaled_BHW.flatten(1)))
        return logits_BC
