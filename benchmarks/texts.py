"""Texts of mixed lengths, made up of words that the tokenizer has: nobody's mail is sent, and anyone gets the same.

What a text says is nothing; what it costs is its number of tokens.
"""

import json
import math
import random
from pathlib import Path

MIN_TOKENS, MAX_TOKENS = 5, 300
SPECIAL_TOKENS = 1  # [CLS], which the tokenizer puts first
_SEED = 4


def texts(tokenizer_json: Path, count: int) -> list[str]:
    """Return so many texts, their lengths log-uniform from 5 to 300 tokens: each word is one token.

    Args:
        tokenizer_json: A WordPiece tokenizer that lowers letters and adds one special token.
        count: How many.
    """
    vocabulary = json.loads(tokenizer_json.read_text())["model"]["vocab"]
    words = sorted(word for word in vocabulary if word.isascii() and word.isalpha() and word.islower())
    randomly = random.Random(_SEED)
    lengths = [
        round(math.exp(randomly.uniform(math.log(MIN_TOKENS), math.log(MAX_TOKENS)))) - SPECIAL_TOKENS
        for _ in range(count)
    ]
    return [" ".join(randomly.choices(words, k=length)) for length in lengths]
