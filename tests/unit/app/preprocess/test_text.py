import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, processors

from app.preprocess.text import TextPreparation, TextRefused, TokenizerRefused
from tests.support.kinds import tokenizer_json

PREPARATION = TextPreparation(tokenizer_json(), 100, 16)
UNKNOWN = 1


def edited(change: Callable[[dict[str, Any]], None]) -> bytes:
    document = json.loads(tokenizer_json())
    change(document)
    return json.dumps(document).encode()


def with_special_tokens(unknown: str | None = "[UNK]") -> bytes:
    tokenizer = Tokenizer.from_str(tokenizer_json().decode())
    tokenizer.model.unk_token = unknown
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[PAD] $A [UNK]", special_tokens=[("[PAD]", 0), ("[UNK]", 1)]
    )
    return tokenizer.to_str().encode()


def test_a_text_becomes_what_the_library_makes_of_it() -> None:
    ids = PREPARATION.ids("The cat, the dog")
    assert ids.dtype == np.int64
    assert ids.tolist() == Tokenizer.from_str(tokenizer_json().decode()).encode("the cat, the dog").ids
    assert Tokenizer.from_str(tokenizer_json().decode()).decode(ids.tolist()[:2]) == "the cat"
    assert PREPARATION.vocab_size == len(json.loads(tokenizer_json())["model"]["vocab"])


@given(st.text(max_size=300))
def test_every_text_has_tokens_within_bounds_and_always_the_same(text: str) -> None:
    ids = PREPARATION.ids(text)
    assert 1 <= len(ids) <= 16
    assert ids.min() >= 0
    assert ids.max() < PREPARATION.vocab_size
    assert np.array_equal(PREPARATION.ids(text), ids)


@given(st.text(st.sampled_from("the cat sat\0é"), max_size=60), st.text(max_size=20))
def test_what_follows_the_last_character_that_is_read_changes_nothing(text: str, more: str) -> None:
    preparation = TextPreparation(tokenizer_json(), 10, 16)
    cut = text.ljust(10)[:10]
    assert np.array_equal(preparation.ids(cut + more), preparation.ids(cut))


@pytest.mark.parametrize("text", ["", " ", "\n\t \u3000"])
def test_a_blank_text_is_the_unknown_token(text: str) -> None:
    assert PREPARATION.ids(text).tolist() == [UNKNOWN]


def test_characters_that_the_tokenizer_does_not_know_are_unknown_tokens() -> None:
    assert set(PREPARATION.ids("日本語")) == {UNKNOWN}
    assert PREPARATION.ids("\0").tolist() == [UNKNOWN]


def test_a_unigram_tokenizer_names_its_unknown_token_by_number() -> None:
    tokenizer = Tokenizer(models.Unigram([("a", -1.0), ("<unk>", -2.0), (" ", -1.0)], unk_id=1))
    tokenizer.normalizer = normalizers.Strip()
    preparation = TextPreparation(tokenizer.to_str().encode(), 10, 4)
    assert preparation.ids("  ").tolist() == [1]
    assert preparation.ids("ab").tolist() == [0, 1]


def test_special_tokens_are_added_within_the_bound_and_leave_no_text_empty() -> None:
    for data in (with_special_tokens(), with_special_tokens(unknown=None)):
        preparation = TextPreparation(data, 100, 4)
        assert preparation.ids("").tolist() == preparation.ids(" ").tolist() == [0, 1]
        ids = preparation.ids("the cat sat on the mat").tolist()
        assert (len(ids), ids[0], ids[-1]) == (4, 0, 1)


def test_a_special_token_that_is_written_out_is_text() -> None:
    assert 0 not in PREPARATION.ids("[PAD] the [PAD]")


def test_padding_and_truncation_of_the_file_itself_are_not_used() -> None:
    tokenizer = Tokenizer.from_str(tokenizer_json().decode())
    tokenizer.enable_padding(length=12)
    tokenizer.enable_truncation(2, direction="left")
    other = TextPreparation(tokenizer.to_str().encode(), 100, 16)
    for text in ("the", "the cat sat on the mat"):
        assert np.array_equal(other.ids(text), PREPARATION.ids(text))


def test_half_a_surrogate_pair_is_refused_and_the_next_text_is_not() -> None:
    with pytest.raises(TextRefused, match="half a surrogate pair"):
        PREPARATION.ids("the \ud800")
    assert PREPARATION.ids("the").size == 1


def test_a_character_without_any_token_is_refused() -> None:
    unigram = json.loads(Tokenizer(models.Unigram([("a", -1.0)])).to_str())
    unigram["post_processor"] = json.loads(with_special_tokens())["post_processor"]
    preparation = TextPreparation(json.dumps(unigram).encode(), 10, 4)
    assert preparation.ids("a").tolist() == [0, 0, 1]
    with pytest.raises(TextRefused, match="the tokenizer fails"):
        preparation.ids("b")


def without_unknown_token(document: dict[str, Any]) -> None:
    document["model"]["unk_token"] = None


def unknown_token_outside(document: dict[str, Any]) -> None:
    document["model"]["unk_token"] = "[other]"


def random_splits(document: dict[str, Any]) -> None:
    document["model"]["dropout"] = 0.1


def special_token_that_is_not_there(document: dict[str, Any]) -> None:
    """The library panics on it, which is no Exception."""
    piece = {"SpecialToken": {"id": "[X]", "type_id": 0}}
    document["post_processor"] = {"type": "TemplateProcessing", "single": [piece], "pair": [], "special_tokens": {}}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no tokenizer.json that can be read"),
        (b"{}", "no tokenizer.json that can be read: Model missing"),
        (b"\xff", "no tokenizer.json that can be read"),
        (tokenizer_json()[:-20], "no tokenizer.json that can be read: EOF"),
        (edited(lambda document: document["model"].pop("vocab")), "no tokenizer.json that can be read"),
        (edited(without_unknown_token), "makes nothing of a blank text: give its model an `unk_token`"),
        (edited(unknown_token_outside), "makes nothing of a blank text"),
        (edited(random_splits), r"splits at random \(dropout 0.1\)"),
        (edited(special_token_that_is_not_there), "fails"),
    ],
)
def test_a_tokenizer_that_cannot_prepare_texts_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(TokenizerRefused, match=message):
        TextPreparation(data, 100, 16)


@pytest.mark.parametrize("max_tokens", [1, 2])
def test_special_tokens_that_leave_no_room_for_the_text_are_refused(max_tokens: int) -> None:
    with pytest.raises(TokenizerRefused, match=f"adds 2 special tokens, so that {max_tokens} tokens hold nothing"):
        TextPreparation(with_special_tokens(), 100, max_tokens)


def run(script: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_library_is_imported_by_the_first_tokenizer_and_starts_no_threads() -> None:
    script = f"""
import os, sys, threading
from app.preprocess.text import TextPreparation
assert "tokenizers" not in sys.modules
before = len(os.listdir("/proc/self/task"))
preparation = TextPreparation({tokenizer_json()!r}, 4096, 256)
for _ in range(50):
    preparation.ids("the cat sat on the mat " * 100)
print(len(os.listdir("/proc/self/task")) - before)
"""
    assert run(script).strip() == "0"
