"""Words that tell of persons, found with the help of the headers of mails, so that no vocabulary keeps them.

A word is taken for a name where some header names a person with it and the texts write it in lower case in no more
than :data:`LOWER` of its uses: so "Peter" is one, and "will" or "mark" are words that are names as well. And a word
that stands in many mails, but of fewer than :data:`MIN_SENDERS` people, is of their signatures. All mails are looked
at, those of the test split too: this can only take words away, and tells nothing of any class.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from email.parser import BytesHeaderParser
from email.utils import getaddresses

from training.data._mail import header_text

LOWER = 0.5
MIN_SENDERS = 10

_HEADERS = ("From", "To", "Cc", "Reply-To", "Sender")
_WORD = re.compile(r"[^\W\d_]{2,}")


def words_of_headers(raw: bytes) -> set[str]:
    """Return the words, in lower case, of the persons' names in the headers of a mail."""
    message = BytesHeaderParser().parsebytes(raw)
    values = [header_text(value) for name in _HEADERS for value in message.get_all(name, [])]
    return {word.lower() for name, _ in getaddresses(values) for word in _WORD.findall(name)}


def names_of_persons(headers: set[str], texts: Iterable[str]) -> frozenset[str]:
    """Return the words of headers that texts write as names.

    Args:
        headers: Words of :func:`words_of_headers`.
        texts: What people wrote.
    """
    uses: Counter[str] = Counter()
    lower: Counter[str] = Counter()
    for text in texts:
        for word in _WORD.findall(text):
            folded = word.lower()
            uses[folded] += 1
            lower[folded] += word == folded
    return frozenset(word for word in headers if lower[word] <= LOWER * uses[word])


def sender_of(raw: bytes) -> str:
    """Return the address of who sent a mail, in lower case; empty where there is none."""
    sender = header_text(BytesHeaderParser().parsebytes(raw)["From"])
    return next((address.lower() for _, address in getaddresses([sender])), "")


def words_of_few(texts: Sequence[str], senders: Sequence[str]) -> frozenset[str]:
    """Return the words, in lower case, that stand in many texts, and in those of few senders only.

    Args:
        texts: What people wrote.
        senders: Of each text, who sent it.
    """
    in_texts: Counter[str] = Counter()
    by_senders: defaultdict[str, set[str]] = defaultdict(set)
    for text, sender in zip(texts, senders, strict=True):
        for word in {word.lower() for word in _WORD.findall(text)}:
            in_texts[word] += 1
            if len(by_senders[word]) < MIN_SENDERS:
                by_senders[word].add(sender)
    many = (word for word, count in in_texts.items() if count >= MIN_SENDERS)
    return frozenset(word for word in many if len(by_senders[word]) < MIN_SENDERS)
