"""Which tokens speak for a class: integrated gradients from the network's embedding on.

A single text's attributions belong to whoever may read the text. What is reported is summed over the vocabulary, and
only of tokens that many texts share, so that no text can be put together from it.

Shape suffixes: B rows of the batch, T tokens of the longest row, E numbers of an embedding, V tokens of the vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import LayerIntegratedGradients
from torch import Tensor, nn

from training.explain.gradients import Attribution, chosen
from training.explain.scores import log_odds

NUM_STEPS = 24
# tokens times steps of one call, which is what its memory grows with
MAX_CALL_TOKENS = 32_768


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What one token of the vocabulary says, over all texts that hold it.

    Attributes:
        token: As the vocabulary writes it.
        num_texts: Texts that hold it.
        mean: Its attribution, summed within a text, averaged over those texts; nats of log-odds of the class.
    """

    token: str
    num_texts: int
    mean: float


def embedding_of(network: nn.Module) -> nn.Module:
    """Return the module that turns token ids into vectors.

    An architecture names it with an attribute ``explained_embedding``; without one it is its only `nn.Embedding`.

    Raises:
        ValueError: There is none, or more than one.
    """
    named = getattr(network, "explained_embedding", None)
    if isinstance(named, nn.Module):
        return named
    found = [module for module in network.modules() if isinstance(module, nn.Embedding)]
    if len(found) != 1:
        raise ValueError(
            f"{type(network).__name__} has {len(found)} embeddings, not one: name the one of the tokens with an "
            "attribute explained_embedding, or hand it over"
        )
    return found[0]


def token_attributions(
    network: nn.Module,
    tokens_BT: Tensor,
    lengths_B: Tensor,
    targets_B: Tensor,
    *,
    embedding: nn.Module | None = None,
    baseline_id: int = 0,
    keep_ids: Sequence[int] = (),
    num_steps: int = NUM_STEPS,
) -> Attribution:
    """Share the log-odds of a class out among the tokens of each text.

    Args:
        network: Called with tokens and lengths; returns logits.
        tokens_BT: int64, filled up to T.
        lengths_B: Real tokens of each row, int64.
        targets_B: The class that is explained for each row, int64.
        embedding: :func:`embedding_of` the network without it.
        baseline_id: The token that says nothing, in the place of each real one; that of padding, mostly.
        keep_ids: Tokens that stand in the baseline too, such as the one that marks a beginning.
        num_steps: Points on the line from the baseline to the text.

    Returns:
        Attributions of shape (B, T), in nats, 0 where there is padding.
    """
    forward = log_odds(network)
    method = LayerIntegratedGradients(forward, embedding_of(network) if embedding is None else embedding)
    values_BT = torch.zeros(tokens_BT.shape)
    change_B = torch.zeros(len(tokens_BT))
    # texts of like length go together, so that little is spent on padding
    for rows in _by_length(lengths_B, num_steps):
        longest = int(lengths_B[rows].max())
        tokens, lengths, targets = tokens_BT[rows, :longest], lengths_B[rows], targets_B[rows]
        kept = torch.isin(tokens, torch.tensor(list(keep_ids), dtype=tokens.dtype))
        baseline = torch.where(kept, tokens, torch.full_like(tokens, baseline_id))
        vectors_BTE = method.attribute(
            tokens, baselines=baseline, target=targets, additional_forward_args=(lengths,), n_steps=num_steps
        )
        real_BT = torch.arange(longest) < lengths[:, None]
        values_BT[rows, :longest] = vectors_BTE.detach().sum(dim=2).float() * real_BT
        with torch.no_grad():
            change_B[rows] = chosen(forward(tokens, lengths), targets) - chosen(forward(baseline, lengths), targets)
    return Attribution(values=values_BT, change_B=change_B)


def words(
    values_BT: Tensor,
    tokens_BT: Tensor,
    lengths_B: Tensor,
    token_of: Callable[[int], str],
    *,
    least_texts: int,
    leave_out: Sequence[int] = (),
) -> list[Word]:
    """Sum attributions over the vocabulary.

    Args:
        values_BT: From :func:`token_attributions`, all for the same class.
        tokens_BT: int64.
        lengths_B: int64.
        token_of: Names a token's id.
        least_texts: Tokens of fewer texts are left out: their mean says little, and might tell of one text.
        leave_out: Further ids, such as those of special tokens.

    Returns:
        What speaks most for the class first, what speaks most against it last.
    """
    num_ids = int(tokens_BT.max()) + 1
    sums_V, counts_V = np.zeros(num_ids), np.zeros(num_ids, np.int64)
    for values, tokens, length in zip(values_BT.numpy(), tokens_BT.numpy(), lengths_B.tolist(), strict=True):
        np.add.at(sums_V, tokens[:length], values[:length])
        counts_V[np.unique(tokens[:length])] += 1
    counts_V[list(leave_out)] = 0
    found = [
        Word(token=token_of(index), num_texts=int(counts_V[index]), mean=float(sums_V[index] / counts_V[index]))
        for index in np.flatnonzero(counts_V >= max(1, least_texts)).tolist()
    ]
    return sorted(found, key=lambda word: (-word.mean, word.token))


def _by_length(lengths_B: Tensor, num_steps: int) -> list[Tensor]:
    groups: list[list[int]] = []
    for index in torch.argsort(lengths_B, descending=True, stable=True).tolist():
        # the first of a group is its longest
        if groups and (len(groups[-1]) + 1) * int(lengths_B[groups[-1][0]]) * num_steps <= MAX_CALL_TOKENS:
            groups[-1].append(index)
        else:
            groups.append([index])
    return [torch.tensor(group) for group in groups]
