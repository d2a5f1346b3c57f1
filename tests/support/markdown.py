"""Reads the parts of a Markdown page that a test can hold, and holds what it shows against what is answered."""

import html
import json
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

# differ from answer to answer
CHANGING_KEYS = {"request_id"}
VERSION_HEADER = "x-model-version"  # says the same as the body
CHANGING_HEADERS = {"date", "content-length", "server-timing", "x-request-id", VERSION_HEADER}

_FENCE = re.compile(r"(`{3,})(.*)")
_INLINE_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_DIVIDER = re.compile(r"\|[\s:|-]+\|")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block.

    Attributes:
        line: Where it starts, counted from 1.
        kind: The first word behind the fence.
        words: The others; they tell a test what the block is.
        text: What stands in it.
        follows: The text between it and the block before is empty.
    """

    line: int
    kind: str
    words: tuple[str, ...]
    text: str
    follows: bool


@dataclass(frozen=True)
class Page:
    """One file."""

    path: Path
    text: str

    @classmethod
    def read(cls, path: Path) -> "Page":
        return cls(path, path.read_text("utf-8"))

    @cached_property
    def _parsed(self) -> tuple[tuple[Block, ...], str]:
        blocks: list[Block] = []
        prose: list[str] = []
        opened: Block | None = None
        fence, inside, is_near = "", [""], False
        for number, line in enumerate(self.text.splitlines(), 1):
            if opened is not None:
                if line.strip() == fence:
                    blocks.append(replace(opened, text="\n".join(inside)))
                    opened, is_near = None, True
                else:
                    inside.append(line)
            elif found := _FENCE.fullmatch(line):
                fence, inside = found[1], []
                kind, *words = found[2].split() or [""]
                opened = Block(line=number, kind=kind, words=tuple(words), text="", follows=is_near)
            elif line.lstrip().startswith(("```", "~~~")):
                raise ValueError(f"{self.path}:{number}: write blocks with backticks, at the start of the line")
            else:
                prose.append(line)
                is_near = is_near and not line.strip()
        if opened is not None:
            raise ValueError(f"{self.path}:{opened.line}: this block has no end")
        return tuple(blocks), "\n".join(prose)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The fenced blocks, in their order."""
        return self._parsed[0]

    @property
    def prose(self) -> str:
        """All that is in no block."""
        return self._parsed[1]

    @property
    def inline_code(self) -> list[str]:
        return _INLINE_CODE.findall(self.prose)

    @property
    def links(self) -> list[str]:
        return _LINK.findall(_INLINE_CODE.sub("", self.prose))

    @property
    def anchors(self) -> set[str]:
        """The fragments that lead to a heading, as GitHub makes them."""
        titles = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", _LINK.sub("", title).lower()).replace(" ", "-") for title in titles}

    def table(self, first_heading: str) -> list[list[str]]:
        """Return the rows of the one table whose first column has this heading; without its heading, unescaped."""
        lines = self.prose.splitlines()
        starts = [
            i
            for i, line in enumerate(lines)
            if line.startswith(f"| {first_heading} |") and _DIVIDER.fullmatch(lines[i + 1])
        ]
        if len(starts) != 1:
            raise ValueError(f"{self.path}: {len(starts)} tables start with a column {first_heading!r}, expected one")
        rows: list[list[str]] = []
        for line in lines[starts[0] + 2 :]:
            if not line.startswith("|"):
                break
            rows.append([html.unescape(cell.strip()) for cell in line.strip("|").split("|")])
        return rows


def code_words(cell: str) -> list[str]:
    """Return what stands in backticks in a cell."""
    return _INLINE_CODE.findall(cell)


def commands(text: str) -> list[str]:
    """Split a block into commands; a line that ends with a backslash or a pipe goes on."""
    whole: list[str] = []
    for line in text.splitlines():
        line = re.sub(r"(^|\s)#.*", "", line).rstrip()
        if whole and whole[-1].endswith(("\\", "|")):
            whole[-1] = whole[-1].removesuffix("\\").rstrip() + " " + line.lstrip()
        elif line:
            whole.append(line)
    return whole


def expect_like_answer(printed: str, shown: str) -> tuple[str, str]:
    """Hold status and headers of two whole answers against each other, and return their bodies."""
    parts: list[tuple[list[str], str]] = []
    for text in (printed.replace("\r\n", "\n"), shown):
        head, _, body = text.partition("\n\n")
        parts.append((head.splitlines(), body))
    (actual, actual_body), (expected, expected_body) = parts
    assert actual[0] == expected[0]
    headers, expected_headers = (dict(line.split(": ", 1) for line in lines[1:]) for lines in (actual, expected))
    assert set(expected_headers) <= set(headers)
    for name in set(expected_headers) - CHANGING_HEADERS:
        assert headers[name] == expected_headers[name]
    for fields, body in ((headers, actual_body), (expected_headers, expected_body)):
        assert fields.get(VERSION_HEADER) == json.loads(body).get("version")
    return actual_body, expected_body


def expect_like_json(shown: Any, actual: Any, *, same_version: bool = True, place: str = "#") -> None:
    """Same keys, same texts, same numbers up to rounding; where another version answers, only keys and labels."""
    assert type(shown) is type(actual), place
    if isinstance(shown, dict):
        assert list(shown) == list(actual), place
        same_version = same_version and shown.get("version") == actual.get("version")
        for key in set(shown) - CHANGING_KEYS - (set() if same_version else {"version", "versions", "probabilities"}):
            expect_like_json(shown[key], actual[key], same_version=same_version, place=f"{place}/{key}")
    elif isinstance(shown, list):
        assert len(shown) == len(actual), place
        for index, (one, other) in enumerate(zip(shown, actual, strict=True)):
            expect_like_json(one, other, same_version=same_version, place=f"{place}/{index}")
    elif isinstance(shown, float):
        assert not same_version or shown == pytest.approx(actual, rel=1e-3, abs=1e-6), place
    else:
        assert shown == actual, place


def resolve(document: Any, pointer: str) -> Any:
    for part in pointer.split("/")[1:]:
        document = document[int(part) if isinstance(document, list) else part]
    return document
