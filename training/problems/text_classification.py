"""One text in, one of the data set's classes out.

Shape suffixes: N rows of the split.
"""

import hashlib
from typing import Any, ClassVar, Literal

import numpy as np

from app.bundle.golden import GoldenRows
from app.bundle.manifest import (
    FileRef,
    InputStatistics,
    TaskSettings,
    TensorSpec,
    TextClassification,
    TextInput,
)
from app.preprocess.text import TextPreparation, TokenizerRefused
from app.tensors import LENGTHS, Array, Tensors
from training.baselines import Baseline, logistic_regression_of_texts
from training.config import TrainConfig
from training.data import TextRows, Texts
from training.errors import ConfigError
from training.examples import RaggedExamples, pad
from training.export.tables import column_statistics
from training.export.verify import Run
from training.problems._classification import Classification
from training.problems._golden_texts import GOLDEN_TEXTS
from training.problems._options import expect_options, expect_positive, expect_rows, part_of_manifest
from training.tokenizer import train_tokenizer

INPUT = "tokens"
TOKENIZER_FILE = "tokenizer.json"
OPTIONS = {"vocab_size": 4000, "max_chars": 8192, "max_tokens": 512, "max_elements": 2048}


class TextClassificationProblem(Classification[TextRows]):
    """Texts and their classes; see :class:`training.problems.Problem`.

    The tokenizer is trained on the training split alone. No text of the data set goes into the bundle: the golden rows
    are texts of our own.

    Args:
        config: Of the training; its options are the size of the vocabulary, how much of a text is read, and how many
            tokens, padding included, one call of the served network may hold.
        data: Texts.
    """

    int8: ClassVar[Literal["weight_only"]] = "weight_only"
    privacy: ClassVar[str] = (
        "The data are texts of real people. None of them is in the bundle: golden rows are texts written for it, the "
        "report shows no text, and the vocabulary holds only pieces of words that stand in many texts."
    )
    data: Texts

    def __init__(
        self,
        config: TrainConfig,
        data: Texts,
        *,
        vocab_size: int,
        max_chars: int,
        max_tokens: int,
        max_elements: int,
    ) -> None:
        self._tokenizer_json = train_tokenizer(
            data.train.texts, vocabulary_size=vocab_size, private_words=data.private_words
        )
        tokenizer = FileRef(
            path=TOKENIZER_FILE,
            sha256=hashlib.sha256(self._tokenizer_json).hexdigest(),
            size_bytes=len(self._tokenizer_json),
        )
        self._limits = {"max_chars": max_chars, "max_tokens": max_tokens}
        self._text = part_of_manifest(TextInput, tokenizer=tokenizer, **self._limits)
        try:
            self._preparation = TextPreparation(self._tokenizer_json, **self._limits)
        except TokenizerRefused as exc:
            raise ConfigError(f"the service would not take these data options: {exc}") from exc
        self._prepared: dict[str, Array] = {}
        super().__init__(data, label_smoothing=config.label_smoothing)
        self.max_elements = max_elements
        self.inputs = (
            TensorSpec(name=INPUT, dtype="int64", shape=("batch", "tokens")),
            TensorSpec(name=LENGTHS, dtype="int64", shape=("batch",)),
        )

    @property
    def longest(self) -> dict[str, int]:
        """Return the bound of the service; see :class:`training.problems.Problem`."""
        return {"tokens": self._limits["max_tokens"]}

    @property
    def preparation(self) -> TextPreparation:
        """From a text to its token ids, as the service does it."""
        return self._preparation

    def measured(self) -> dict[str, Any]:
        """Return the vocabulary and the greatest length; see :class:`training.problems.Problem`."""
        return {
            "vocab_size": self._preparation.vocab_size,
            "max_tokens": self._limits["max_tokens"],
            "num_classes": len(self.data.classes),
        }

    def labels(self, rows: TextRows) -> Array:
        """Return the class of each text."""
        return rows.labels

    def lengths(self, rows: TextRows) -> Array:
        """Return the tokens of each text."""
        return np.array([len(ids) for ids in self.tokens(rows)], np.int64)

    def baseline(self) -> Baseline:
        """Return logistic regression on the words of whole texts; see the base class."""
        train, validation, test = self.data.train, self.data.validation, self.data.test
        return logistic_regression_of_texts(
            (*train.texts, *validation.texts),
            np.concatenate([train.labels, validation.labels]),
            test.texts,
            test.labels,
            num_classes=len(self.data.classes),
        )

    def tokens(self, rows: TextRows) -> tuple[Array, ...]:
        """Return the token ids of each text, int64 of shape (length,); each text is prepared once."""
        for text in rows.texts:
            if text not in self._prepared:
                self._prepared[text] = self._preparation.ids(text)
        return tuple(self._prepared[text] for text in rows.texts)

    def examples(self, rows: TextRows, *, augmented: bool = False) -> RaggedExamples:
        """Return padded token ids and classes; see :class:`training.problems.Problem`."""
        del augmented
        return RaggedExamples(self.tokens(rows), rows.labels)

    def settings(self, run: Run) -> TextClassification:
        """Return tokenizer, limits and labels; see :class:`training.problems.Problem`."""
        del run
        return TextClassification(text=self._text, labels=self.data.classes)

    def tensors(self, rows: TextRows) -> Tensors:
        """Return the padded token ids and their lengths; see :class:`training.problems.Problem`."""
        return as_inputs(self.tokens(rows))

    def golden(self, run: Run, settings: TaskSettings) -> GoldenRows:
        """Return golden rows of texts that nobody has sent; see :class:`training.problems.Problem`."""
        del settings
        inputs = as_inputs(tuple(self._preparation.ids(text) for text in GOLDEN_TEXTS))
        return self.answer([{"text": text} for text in GOLDEN_TEXTS], inputs, run)

    def statistics(self) -> dict[str, InputStatistics]:
        """Return those of the lengths; see :class:`training.problems.Problem`."""
        lengths_N = np.array([len(ids) for ids in self.tokens(self.data.train)], np.float64)
        return {LENGTHS: column_statistics(lengths_N)}

    def files(self) -> dict[str, bytes]:
        """Return the tokenizer; see :class:`training.problems.Problem`."""
        return {TOKENIZER_FILE: self._tokenizer_json}


def as_inputs(tokens: tuple[Array, ...]) -> Tensors:
    """Return token ids as they are fed to the served network."""
    padded_NT, lengths_N = pad(tokens)
    return {INPUT: padded_NT, LENGTHS: lengths_N}


def create(config: TrainConfig, data: Texts) -> TextClassificationProblem:
    """Return the problem; see :func:`training.problems.create`."""
    expect_rows(data, TextRows, problem="text_classification")
    options = expect_options(config.data_options, OPTIONS)
    expect_positive(options, *options)
    return TextClassificationProblem(config, data, **options)
