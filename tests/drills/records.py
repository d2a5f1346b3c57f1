"""What drills found, kept as JSON, so that the page can be made of several runs."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One drill, and the circumstances.

    Attributes:
        drill: Its name.
        title: What was done.
        bar: What it had to reach.
        line: Its figures.
        misses: What of the bar was not met.
        date: As in 2026-11-30.
        machine: Label and value of everything that figures depend on.
        other_cores: How many cores other work on the machine kept busy meanwhile.
        figures: All of them.
    """

    drill: str
    title: str
    bar: str
    line: str
    misses: tuple[str, ...]
    date: str
    machine: dict[str, str]
    other_cores: float
    figures: dict[str, Any]


_RECORD = TypeAdapter(Record)


def told(record: Record) -> str:
    """Return the one line that a drill prints."""
    verdict = f"MISSED ({'; '.join(record.misses)})" if record.misses else "met"
    return f"{record.drill}: {record.line} | bar: {record.bar} | {verdict}"


def store(folder: Path, record: Record) -> Path:
    """Write a record, in place of an older one of the same drill."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{record.drill}.json"
    path.write_text(json.dumps(asdict(record), indent=1) + "\n")
    return path


def load(folder: Path) -> dict[str, Record]:
    """Return all records of a folder, by the names of their drills.

    Raises:
        ValueError: A file is none.
    """
    return {path.stem: _RECORD.validate_json(path.read_bytes()) for path in sorted(folder.glob("*.json"))}
