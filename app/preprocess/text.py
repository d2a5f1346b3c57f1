"""Texts as the model takes them: characters to the ids of tokens, by the `tokenizers` library.

The library is imported nowhere else, and not before a text model is there.
"""

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from app.tensors import Array

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class TokenizerRefused(ValueError):
    """A ``tokenizer.json`` that cannot prepare texts; the message says why."""


class TextRefused(ValueError):
    """A text that has no tokens; the message says why."""


class TextPreparation:
    """From a text to the ids of its tokens; the same text always becomes the same ids.

    What follows ``max_chars`` characters is cut off, so that a long text costs no more than one of that length; then
    the tokenizer splits it and adds its special tokens, within ``max_tokens`` together. Special tokens that are written
    out in a text are text. There is always one token at least: where the encoding is empty, as that of blanks alone may
    be, it is the unknown token.

    May be used on several threads at once.

    Args:
        tokenizer_json: A ``tokenizer.json`` of the library.
        max_chars: Characters that are read.
        max_tokens: Tokens that are kept, special ones included.

    Attributes:
        vocab_size: Number of tokens, special ones included.

    Raises:
        TokenizerRefused: It is none, cuts texts at random, adds more special tokens than are kept, or has nothing to
            say of a blank text.
    """

    def __init__(self, tokenizer_json: bytes, max_chars: int, max_tokens: int) -> None:
        self._max_chars = max_chars
        self._tokenizer = tokenizer = _parse(tokenizer_json)
        self.vocab_size: int = tokenizer.get_vocab_size(with_added_tokens=True)
        model = json.loads(tokenizer_json)["model"]
        if model.get("dropout"):
            raise TokenizerRefused(
                f"the tokenizer splits at random (dropout {model['dropout']}): save it without dropout"
            )
        num_special = tokenizer.num_special_tokens_to_add(False)
        if num_special >= max_tokens:
            raise TokenizerRefused(
                f"the tokenizer adds {num_special} special tokens, so that {max_tokens} tokens hold nothing of the text"
            )
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_tokens)
        tokenizer.encode_special_tokens = True
        try:
            self._blank = self._encode("") or _unknown_token(tokenizer, model)
        except TextRefused as exc:
            raise TokenizerRefused(str(exc)) from exc

    def ids(self, text: str) -> Array:
        """Return the ids of the tokens of one text, int64 of shape (tokens,), from 1 to ``max_tokens`` of them.

        Raises:
            TextRefused: The text holds half a surrogate pair, or a character that the tokenizer has no token for, not
                even an unknown one.
        """
        return np.array(self._encode(text[: self._max_chars]) or self._blank, np.int64)

    def _encode(self, text: str) -> list[int]:
        try:
            # unlike encode(), this lets other threads run meanwhile
            (encoding,) = self._tokenizer.encode_batch_fast([text])
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:  # a Rust panic is no Exception
            if not _is_unicode(text):
                raise TextRefused("the text holds half a surrogate pair, which is no character") from exc
            raise TextRefused(f"the tokenizer fails: {exc}") from exc
        return encoding.ids


def _parse(tokenizer_json: bytes) -> "Tokenizer":
    # its threads would only take the place of the service's own, and are at odds with the forks of data loaders
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(tokenizer_json.decode())
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as exc:
        raise TokenizerRefused(f"this is no tokenizer.json that can be read: {exc}") from exc


def _unknown_token(tokenizer: "Tokenizer", model: dict[str, Any]) -> list[int]:
    """Return the one id that stands for what has no token."""
    name = model.get("unk_token")
    number = model.get("unk_id") if name is None else tokenizer.token_to_id(name)  # Unigram tells the id instead
    if number is None:
        raise TokenizerRefused(
            "the tokenizer makes nothing of a blank text: give its model an `unk_token` that is in the vocabulary "
            "(Unigram: an `unk_id`), or a post-processor that adds special tokens"
        )
    return [number]


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
