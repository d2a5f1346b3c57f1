"""A transformer for texts: an encoder with pre-norm, written out, pooled over the real tokens.

After Vaswani et al. (arXiv:1706.03762); normalizing before each half of a block, rather than after it, trains without
a warm-up of its own (Xiong et al., arXiv:2002.04745).

Shape suffixes: B rows of the batch, T tokens (Q those that ask, T those that are asked), D features of a token,
N heads, H features of a head, K classes.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.architectures import _padding
from training.architectures._checks import require_choice, require_number, require_size
from training.architectures._embedding import Embedding

POOLINGS = ("mean", "first")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What fixes the network.

    Attributes:
        vocab_size: Token ids lie below it; 0 is the padding.
        max_tokens: Longest text, in tokens; each place has a vector of its own, which is learned.
        width: Features of a token.
        heads: Of each attention; they share out the width.
        layers: Blocks, one upon the other.
        mlp_width: Hidden units of the dense half of a block.
        dropout: Share of the features silenced while training: of the embeddings, in each half of a block, before the
            head.
        word_dropout: Share of the tokens that are silenced whole while training.
        pooling: How the tokens become one answer: their mean, or the first, which the tokenizer must make a special
            one then.
        num_classes: Length of the logits.
    """

    vocab_size: int = 4096
    max_tokens: int = 256
    width: int = 64
    heads: int = 4
    layers: int = 2
    mlp_width: int = 128
    dropout: float = 0.1
    word_dropout: float = 0.1
    pooling: str = "mean"
    num_classes: int = 2

    def __post_init__(self) -> None:
        for name in ("vocab_size", "max_tokens", "width", "heads", "layers", "mlp_width", "num_classes"):
            require_size(name, getattr(self, name))
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, got {self.width} and {self.heads}")
        for name in ("dropout", "word_dropout"):
            require_number(name, getattr(self, name), low=0, high=1)
        require_choice("pooling", self.pooling, POOLINGS)


class Network(nn.Module):
    """Token ids to logits."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = Embedding(config.vocab_size, config.width, word_dropout=config.word_dropout)
        self.positions = nn.Parameter(torch.zeros(config.max_tokens, config.width))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.num_classes)
        nn.init.normal_(self.positions, std=0.02)

    def forward(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Return logits.

        Args:
            tokens_BT: Token ids, int64, shape (B, T) with T up to ``max_tokens``, zeros beyond their lengths.
            lengths_B: Tokens of each text, int64, shape (B,), from 1 to T.

        Returns:
            Logits, float32, shape (B, num_classes).
        """
        return self.forward_embedded(self.embedding(tokens_BT), lengths_B)

    def forward_embedded(self, embedded_BTD: Tensor, lengths_B: Tensor) -> Tensor:
        """Return logits of tokens that are embedded already, as interpretability wants them.

        Args:
            embedded_BTD: What :attr:`embedding` makes of token ids, float32, shape (B, T, width).
            lengths_B: Tokens of each text, int64, shape (B,), from 1 to T.

        Returns:
            Logits, float32, shape (B, num_classes).
        """
        lengths_B = _padding.at_least_one(lengths_B)
        real_BT = _padding.real_steps(embedded_BTD.shape[1], lengths_B)
        tokens_BTD, bias_B11T = self._enter(embedded_BTD, real_BT)
        for block in self.blocks:
            tokens_BTD = block(tokens_BTD, bias_B11T)
        if self.config.pooling == "first":
            pooled_BD = self.norm(tokens_BTD[:, 0])
        else:
            pooled_BD = _padding.mean(self.norm(tokens_BTD), real_BT, lengths_B)
        logits_BK: Tensor = self.head(self.dropout(pooled_BD))
        return logits_BK

    def attention_weights(self, tokens_BT: Tensor, lengths_B: Tensor) -> list[Tensor]:
        """Return how much each token looks at each other, block by block.

        Args:
            tokens_BT: Token ids, int64, shape (B, T), zeros beyond their lengths.
            lengths_B: Tokens of each text, int64, shape (B,), from 1 to T.

        Returns:
            For each block float32 of shape (B, heads, T, T): row q sums to 1 over the tokens that q looks at, and is 0
            where these are padding. Rows of padding mean nothing.
        """
        real_BT = _padding.real_steps(tokens_BT.shape[1], _padding.at_least_one(lengths_B))
        tokens_BTD, bias_B11T = self._enter(self.embedding(tokens_BT), real_BT)
        weights: list[Tensor] = []
        for block in cast(list[_Block], self.blocks):
            weights.append(block.attention.weights(block.norm1(tokens_BTD), bias_B11T))
            tokens_BTD = block(tokens_BTD, bias_B11T)
        return weights

    def _enter(self, embedded_BTD: Tensor, real_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens that know their place, and what is added to every score: minus infinity for padding."""
        tokens_BTD = self.dropout(embedded_BTD + self.positions[: embedded_BTD.shape[1]])
        bias_BT = torch.zeros_like(tokens_BTD[..., 0]).masked_fill(~real_BT, float("-inf"))
        return tokens_BTD, bias_BT[:, None, None]


class _Block(nn.Module):
    """Tokens look at one another, then each thinks for itself; both halves are added to what was there."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width)
        self.attention = _Attention(config)
        self.norm2 = nn.LayerNorm(config.width)
        self.dense1 = nn.Linear(config.width, config.mlp_width)
        self.dense2 = nn.Linear(config.mlp_width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens_BTD: Tensor, bias_B11T: Tensor) -> Tensor:
        tokens_BTD = tokens_BTD + self.dropout(self.attention(self.norm1(tokens_BTD), bias_B11T))
        hidden_BTM = self.dropout(functional.gelu(self.dense1(self.norm2(tokens_BTD)), approximate="tanh"))
        thought_BTD: Tensor = self.dropout(self.dense2(hidden_BTM))
        return tokens_BTD + thought_BTD


class _Attention(nn.Module):
    """Every token asks all real tokens, with several heads at once."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = config.heads
        self.to_queries = nn.Linear(config.width, config.width)
        self.to_keys = nn.Linear(config.width, config.width)
        self.to_values = nn.Linear(config.width, config.width)
        self.merge = nn.Linear(config.width, config.width)
        for layer in (self.to_queries, self.to_keys, self.to_values, self.merge):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, tokens_BTD: Tensor, bias_B11T: Tensor) -> Tensor:
        queries_BNQH, keys_BNTH = self._split(self.to_queries(tokens_BTD)), self._split(self.to_keys(tokens_BTD))
        values_BNTH = self._split(self.to_values(tokens_BTD))
        if torch.onnx.is_in_onnx_export():
            # what torch's exporter makes of the call below reshapes the keys step by step
            attended_BNQH = _weights(queries_BNQH, keys_BNTH, bias_B11T) @ values_BNTH
        else:
            # no dropout on the weights: with it torch leaves its fast kernel, and a step takes seven times as long
            attended_BNQH = functional.scaled_dot_product_attention(
                queries_BNQH, keys_BNTH, values_BNTH, attn_mask=bias_B11T
            )
        merged_BTD: Tensor = self.merge(attended_BNQH.transpose(1, 2).flatten(2))
        return merged_BTD

    def weights(self, tokens_BTD: Tensor, bias_B11T: Tensor) -> Tensor:
        """Return the weights that :meth:`forward` mixes the values by, shape (B, N, Q, T)."""
        return _weights(self._split(self.to_queries(tokens_BTD)), self._split(self.to_keys(tokens_BTD)), bias_B11T)

    def _split(self, tokens_BTD: Tensor) -> Tensor:
        """Share out the features among the heads: (B, T, D) to (B, N, T, H)."""
        num_rows, num_tokens, width = tokens_BTD.shape
        return tokens_BTD.reshape(num_rows, num_tokens, self.heads, width // self.heads).transpose(1, 2)


def _weights(queries_BNQH: Tensor, keys_BNTH: Tensor, bias_B11T: Tensor) -> Tensor:
    scale = 1 / math.sqrt(queries_BNQH.shape[3])
    return torch.softmax((queries_BNQH * scale) @ keys_BNTH.transpose(2, 3) + bias_B11T, dim=3)
