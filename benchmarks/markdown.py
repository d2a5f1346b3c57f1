"""Tables and paragraphs of Markdown."""

import math
import re
import textwrap
from collections.abc import Sequence

_WIDTH = 120


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def wrapped(text: str) -> str:
    """Break the lines of paragraphs and lists anew; tables and headings stay as they are."""
    blocks = [
        block if block.startswith(("|", "#")) else "\n".join(map(_filled, re.split(r"\n(?=- )", block)))
        for block in re.split(r"\n{2,}", text.strip())
    ]
    return "\n\n".join(blocks) + "\n"


def listed(names: Sequence[str]) -> str:
    """Return names as words: a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def number(value: float, form: str = ".2f") -> str:
    """Return a figure; a dash where there is none."""
    return "-" if math.isnan(value) else format(value, form)


def _filled(paragraph: str) -> str:
    indent = "  " if paragraph.startswith("- ") else ""
    return textwrap.fill(
        " ".join(paragraph.split()),
        width=_WIDTH,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
