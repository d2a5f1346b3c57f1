"""Texts of a wanted number of tokens, made of the words of a tokenizer's vocabulary; no text of anybody's."""

import json
from pathlib import Path

import numpy as np

from app.preprocess.text import TextPreparation
from benchmarks.scenarios import _bundles

_LEAST_LETTERS = 3
_TRIES = 50


class Texts:
    """Makes texts; the same seed makes the same.

    Args:
        bundle: Folder of a text model.
        seed: Of the random choices.

    Attributes:
        max_tokens: Most tokens that the model takes, special ones included.
    """

    def __init__(self, bundle: Path, *, seed: int) -> None:
        settings = _bundles.manifest_of(bundle).task
        assert settings.kind == "text_classification"
        tokenizer = (bundle / settings.text.tokenizer.path).read_bytes()
        self.max_tokens = settings.text.max_tokens
        self._preparation = TextPreparation(tokenizer, settings.text.max_chars, settings.text.max_tokens)
        vocabulary = sorted(json.loads(tokenizer)["model"]["vocab"])
        self._words = [word for word in vocabulary if word.isascii() and word.isalpha() and len(word) >= _LEAST_LETTERS]
        self._random = np.random.default_rng(seed)

    def count(self, text: str) -> int:
        """Return how many tokens the model sees of a text."""
        return len(self._preparation.ids(text))

    def of_length(self, tokens: int) -> str:
        """Return a text of so many tokens.

        Raises:
            ValueError: None was found: the vocabulary has too few words that are a token each.
        """
        overhead = self.count(self._words[0]) - 1
        for _ in range(_TRIES):
            words = list(self._random.choice(self._words, max(1, tokens - overhead)))
            while words and self.count(" ".join(words)) > tokens:
                words.pop()
            text = " ".join(words)
            if text and self.count(text) == tokens:
                return text
        raise ValueError(f"no text of {tokens} tokens was found")

    def log_uniform(self, count: int, *, least: int, most: int) -> list[str]:
        """Return texts whose numbers of tokens are spread evenly over the logarithm."""
        lengths = np.exp(self._random.uniform(np.log(least), np.log(most + 1), count)).astype(int)
        return [self.of_length(int(length)) for length in np.clip(lengths, least, most)]
