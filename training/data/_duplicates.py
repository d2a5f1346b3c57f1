"""Texts that are there twice, or nearly: found, so that no split holds what another has seen.

The same text is one whose letters are the same: digits, punctuation, white space, links and addresses, which mass mail
varies, do not count. Nearly the same are two texts whose sketches agree in :data:`NEAR` of their numbers; a sketch is
the :data:`SKETCH` smallest hashes of all runs of :data:`RUN` words, and the share that two have in common estimates how
many of the runs they share (Broder, On the resemblance and containment of documents, 1997, "bottom-k").
"""

import hashlib
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

SKETCH, RUN, NEAR = 64, 4, 0.8

_MASKED = re.compile(r"(?:https?|ftp)://\S+|www\.\S+|\S+@\S+")
_NO_LETTERS = re.compile(r"[\W\d_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """The texts that stay.

    Attributes:
        kept: Their positions, rising.
        num_same: How many were dropped as the same as one that stays.
        num_near: How many were dropped as nearly the same as one that stays.
    """

    kept: tuple[int, ...]
    num_same: int
    num_near: int


def normalized(text: str) -> str:
    """Return the words of a text in lower case, without links and addresses, digits and punctuation."""
    return _NO_LETTERS.sub(" ", _MASKED.sub(" ", text.lower())).strip()


def fraction_of(text: str) -> float:
    """Return a number from 0 up to 1 that the normalized text alone decides, evenly spread over texts."""
    return int.from_bytes(hashlib.sha256(normalized(text).encode()).digest()[:8]) / 2**64


def unique(texts: Sequence[str]) -> Unique:
    """Return which texts are the first of their kind."""
    kept: list[int] = []
    seen: set[str] = set()
    num_near = 0
    holders: defaultdict[int, list[int]] = defaultdict(list)  # of each hash, the kept texts that have it
    sizes: dict[int, int] = {}
    for index, text in enumerate(texts):
        letters = normalized(text)
        if letters in seen:
            continue
        seen.add(letters)
        sketch = _sketch(letters)
        common = Counter(holder for value in sketch for holder in holders[value])
        if any(count >= NEAR * max(len(sketch), sizes[holder]) for holder, count in common.items()):
            num_near += 1
            continue
        kept.append(index)
        sizes[index] = len(sketch)
        for value in sketch:
            holders[value].append(index)
    return Unique(kept=tuple(kept), num_same=len(texts) - len(kept) - num_near, num_near=num_near)


def _sketch(letters: str) -> list[int]:
    words = letters.split()
    # a hash of a fixed definition: Python's own differs from run to run
    runs = {zlib.crc32(" ".join(words[at : at + RUN]).encode()) for at in range(max(1, len(words) - RUN + 1))}
    return sorted(runs)[:SKETCH]
