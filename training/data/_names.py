"""Words that are names of persons, told from the headers of mails, so that no vocabulary keeps them.

A word is taken for a name where some header names a person with it and the texts write it in lower case in no more
than :data:`LOWER` of its uses: so "Peter" is one, and "will" or "mark" are words that are names as well. All mails are
looked at, those of the test split too: this can only take words away, and tells nothing of any class.
"""

import re
from collections import Counter
from collections.abc import Iterable
from email.parser import BytesHeaderParser
from email.utils import getaddresses

from training.data._mail import header_text

LOWER = 0.5

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
