"""Numbers that stand for tokens.

Shape suffixes: B rows of the batch, T tokens, E numbers of an embedding.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

_STD = 0.1


class Embedding(nn.Embedding):
    """Token ids to rows of a table; while training, some tokens are silenced whole.

    Silenced words are of Iyyer et al. ("Deep unordered composition rivals syntactic methods", 2015).

    Args:
        vocab_size: Rows of the table; row 0 is the padding, and stays zero.
        size: Numbers of each row.
        word_dropout: Share of the tokens that are silenced while training.
    """

    def __init__(self, vocab_size: int, size: int, *, word_dropout: float) -> None:
        self.word_dropout = word_dropout
        super().__init__(vocab_size, size, padding_idx=0)

    def reset_parameters(self) -> None:
        """Draw fresh numbers: smaller than torch's own, with which one token would fill a gate."""
        nn.init.normal_(self.weight, std=_STD)
        with torch.no_grad():
            self.weight[0].zero_()

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Return embeddings.

        Args:
            tokens_BT: Token ids, int64, shape (B, T).

        Returns:
            float32, shape (B, T, E).
        """
        embedded_BTE = super().forward(tokens_BT)
        if self.training and self.word_dropout > 0:
            kept_BT1 = functional.dropout(torch.ones_like(embedded_BTE[..., :1]), self.word_dropout)
            embedded_BTE = embedded_BTE * kept_BT1
        return embedded_BTE
