"""The explanations of a classifier of texts. No text of the data is in them.

Shape suffixes: B rows, T tokens, A heads.
"""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from app.tensors import LENGTHS, Tensors
from training.explain import attention, sanity
from training.explain import pictures as plots
from training.explain.gradients import Attribution
from training.explain.reports._parts import FOLDER, Report, Subject, randomization_figures, rounded
from training.explain.texts import Word, embedding_of, token_attributions, words

NUM_ROWS = 192
NUM_RANDOMIZED = 24
# a token of fewer texts might tell of one of them
LEAST_TEXTS = 8
NUM_SHOWN = 18
# ours, of nobody's mail
SENTENCE = "Dear friend, click here now to claim your free prize, or see you at the meeting on Monday."


def explain(
    subject: Subject, inputs: Tensors, labels: tuple[str, ...], tokenizer: bytes, *, least_texts: int = LEAST_TEXTS
) -> Report:
    """Draw which tokens of the vocabulary speak for each class; and, of a transformer, what attends to what.

    Args:
        subject: Takes tokens and lengths, returns logits.
        inputs: An int64 input of shape (B, T), and ``lengths``.
        labels: Of the classes.
        tokenizer: The content of ``tokenizer.json``.
        least_texts: Tokens of fewer texts are not told.
    """
    (name,) = [key for key in inputs if key != LENGTHS]
    tokens_BT = torch.from_numpy(inputs[name][:NUM_ROWS])
    lengths_B = torch.from_numpy(inputs[LENGTHS][:NUM_ROWS])
    reader = Tokenizer.from_str(tokenizer.decode())
    special = special_ids(reader)
    found = {
        label: _attributions(subject.network, tokens_BT, lengths_B, index, special)
        for index, label in enumerate(labels if len(labels) > 2 else labels[:1])
    }
    if len(labels) == 2:
        # of two classes, what speaks for one speaks against the other, to the last digit
        first = found[labels[0]]
        found[labels[1]] = Attribution(values=-first.values, change_B=-first.change_B)
    told = {
        label: words(each.values, tokens_BT, lengths_B, _name_of(reader), least_texts=least_texts, leave_out=special)
        for label, each in found.items()
    }
    figures = rounded(
        {f"integrated gradients/incompleteness/{key}": each.incompleteness for key, each in found.items()}
    )
    some_BT, of_B = tokens_BT[:NUM_RANDOMIZED], lengths_B[:NUM_RANDOMIZED]
    randomized = sanity.randomization_test(
        subject.network,
        subject.fresh,
        lambda network: _attributions(network, some_BT, of_B, 0, special).values,
        where=torch.arange(some_BT.shape[1]) < of_B[:, None],
    )
    figures |= randomization_figures("integrated gradients", randomized)
    files = {f"{FOLDER}/tokens.png": _drawn(told), f"{FOLDER}/tokens.json": _listed(told)}
    if hasattr(subject.network, "attention_weights"):
        files[f"{FOLDER}/attention.png"] = _attention(subject.network, reader)
    return Report(files=files, figures=figures)


def special_ids(reader: Tokenizer) -> list[int]:
    """Return the ids that are no part of a text: written as ``[PAD]``, ``<pad>`` and the like."""
    return sorted(
        index for token, index in reader.get_vocab().items() if len(token) > 2 and token[0] + token[-1] in ("[]", "<>")
    )


def _attributions(
    network: nn.Module, tokens_BT: Tensor, lengths_B: Tensor, index: int, special: list[int]
) -> Attribution:
    targets_B = torch.full((len(tokens_BT),), index)
    return token_attributions(
        network, tokens_BT, lengths_B, targets_B, embedding=embedding_of(network), keep_ids=special
    )


def _name_of(reader: Tokenizer) -> Callable[[int], str]:
    return lambda index: str(reader.id_to_token(index))


def _drawn(told: dict[str, list[Word]]) -> bytes:
    rows = {
        f"for {label}": [(f"{word.token} ({word.num_texts})", word.mean) for word in found[:NUM_SHOWN] if word.mean > 0]
        for label, found in told.items()
    }
    return plots.bars_per_class(rows, label="mean attribution in a text, nats")


def _listed(told: dict[str, list[Word]]) -> bytes:
    content = {
        label: [{**dataclasses.asdict(word), "mean": round(word.mean, 4)} for word in found[: 2 * NUM_SHOWN]]
        for label, found in told.items()
    }
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _attention(network: Any, reader: Tokenizer) -> bytes:
    encoded = reader.encode(SENTENCE)
    tokens_1T, lengths_1 = torch.tensor([encoded.ids]), torch.tensor([len(encoded.ids)])
    with torch.no_grad():
        weights = network.attention_weights(tokens_1T, lengths_1)
    maps = {f"layer {index}, mean of heads": layer[0].mean(dim=0).numpy() for index, layer in enumerate(weights, 1)}
    maps["rollout"] = attention.rollout(weights, lengths_1)[0].numpy()
    return plots.attention_maps(maps, encoded.tokens)
