"""Texts of so many tokens, as the model's own tokenizer counts them."""

import json

import pytest

from benchmarks.scenarios import _bundles
from benchmarks.scenarios._texts import Texts

BUNDLE = _bundles.newest("transformer")


@pytest.mark.parametrize("tokens", [2, 5, 37, 300])
def test_a_text_has_the_tokens_that_were_asked_for(tokens: int) -> None:
    texts = Texts(BUNDLE, seed=1)
    assert texts.count(texts.of_length(tokens)) == tokens


def test_the_longest_text_is_as_long_as_the_model_takes() -> None:
    texts = Texts(BUNDLE, seed=1)
    assert texts.count(texts.of_length(texts.max_tokens)) == texts.max_tokens


def test_the_same_seed_makes_the_same_texts() -> None:
    first, again, other = (Texts(BUNDLE, seed=seed).log_uniform(8, least=5, most=50) for seed in (1, 1, 2))
    assert first == again != other


def test_lengths_are_spread_over_the_logarithm() -> None:
    texts = Texts(BUNDLE, seed=1)
    lengths = [texts.count(text) for text in texts.log_uniform(200, least=5, most=300)]
    assert min(lengths) >= 5
    assert max(lengths) <= 300
    # half of them lie below the geometric mean, 39; of an even spread it would be one in nine
    assert 70 <= sum(length < 39 for length in lengths) <= 130


def test_all_words_are_of_the_vocabulary() -> None:
    vocabulary = json.loads((BUNDLE / "tokenizer.json").read_text())["model"]["vocab"]
    text = Texts(BUNDLE, seed=1).of_length(100)
    assert set(text.split()) <= set(vocabulary)
