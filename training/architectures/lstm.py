"""A recurrent network for texts: an embedding, LSTM cells read forward and backward, pooled over the real tokens.

After Hochreiter and Schmidhuber ("Long short-term memory", 1997), with the forget gate of Gers et al. (2000); the
pooling by attention is that of Yang et al. ("Hierarchical attention networks for document classification", 2016).

Shape suffixes: B rows of the batch, T tokens, E numbers of an embedding, D features of a token, K classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.architectures import _padding
from training.architectures._checks import require_choice, require_number, require_size, require_truth
from training.architectures._embedding import Embedding
from training.architectures._recurrent import Stack

POOLINGS = ("mean_max", "attention")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What fixes the network.

    Attributes:
        vocab_size: Token ids lie below it; 0 is the padding.
        embedding: Numbers that stand for a token.
        hidden: Units of each direction of each layer.
        layers: Recurrent layers, one upon the other.
        bidirectional: Read each text backward too.
        dropout: Share of the features silenced while training: of the embeddings, between layers, before the head.
        word_dropout: Share of the tokens that are silenced whole while training.
        pooling: How the tokens become one answer: ``mean_max`` takes the mean and the largest of each feature,
            ``attention`` a mean whose weights are learned.
        num_classes: Length of the logits.
    """

    vocab_size: int = 4096
    embedding: int = 64
    hidden: int = 64
    layers: int = 1
    bidirectional: bool = True
    dropout: float = 0.3
    word_dropout: float = 0.1
    pooling: str = "mean_max"
    num_classes: int = 2

    def __post_init__(self) -> None:
        for name in ("vocab_size", "embedding", "hidden", "layers", "num_classes"):
            require_size(name, getattr(self, name))
        require_truth("bidirectional", self.bidirectional)
        for name in ("dropout", "word_dropout"):
            require_number(name, getattr(self, name), low=0, high=1)
        require_choice("pooling", self.pooling, POOLINGS)


class Network(nn.Module):
    """Token ids to logits."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = Embedding(config.vocab_size, config.embedding, word_dropout=config.word_dropout)
        self.dropout = nn.Dropout(config.dropout)
        self.body = Stack(
            "LSTM",
            config.embedding,
            config.hidden,
            layers=config.layers,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
        )
        num_features = self.body.num_outputs
        self.score = nn.Linear(num_features, 1, bias=False) if config.pooling == "attention" else None
        self.head = nn.Linear(num_features if self.score is not None else 2 * num_features, config.num_classes)

    def forward(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Return logits.

        Args:
            tokens_BT: Token ids, int64, shape (B, T), zeros beyond their lengths.
            lengths_B: Tokens of each text, int64, shape (B,), from 1 to T.

        Returns:
            Logits, float32, shape (B, num_classes).
        """
        return self.forward_embedded(self.embedding(tokens_BT), lengths_B)

    def forward_embedded(self, embedded_BTE: Tensor, lengths_B: Tensor) -> Tensor:
        """Return logits of tokens that are embedded already, as interpretability wants them.

        Args:
            embedded_BTE: What :attr:`embedding` makes of token ids, float32, shape (B, T, embedding).
            lengths_B: Tokens of each text, int64, shape (B,), from 1 to T.

        Returns:
            Logits, float32, shape (B, num_classes).
        """
        lengths_B = _padding.at_least_one(lengths_B)
        steps_BTD = self.body(self.dropout(embedded_BTE), lengths_B)
        logits_BK: Tensor = self.head(self.dropout(self._pool(steps_BTD, lengths_B)))
        return logits_BK

    def _pool(self, steps_BTD: Tensor, lengths_B: Tensor) -> Tensor:
        real_BT = _padding.real_steps(steps_BTD.shape[1], lengths_B)
        if self.score is None:
            means_BD = _padding.mean(steps_BTD, real_BT, lengths_B)
            return torch.cat([means_BD, _padding.largest(steps_BTD, real_BT)], dim=1)
        scores_BT1 = self.score(torch.tanh(steps_BTD)).masked_fill(~real_BT.unsqueeze(2), float("-inf"))
        return (steps_BTD * torch.softmax(scores_BT1, dim=1)).sum(dim=1)
