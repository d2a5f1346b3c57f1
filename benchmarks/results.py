"""What parts of the benchmarks found, kept as JSON, so that the page can be made of several runs on one machine."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter
from pydantic_core import to_json

from benchmarks.comparison import Comparison
from benchmarks.findings import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One part, and the circumstances.

    Attributes:
        part: Name of a workload or of a scenario.
        date: When it was measured, as in 2026-11-30.
        machine: Label and value of everything that figures depend on.
        rounds: How often each server was started.
        seconds: Measured for each load.
        warm_up_s: Before each.
        is_one_core: Whether server and load had to share a core.
        comparison: What a workload found.
        finding: What a scenario found.
    """

    part: str
    date: str
    machine: dict[str, str]
    rounds: int
    seconds: float
    warm_up_s: float
    is_one_core: bool
    comparison: Comparison | None = None
    finding: Finding | None = None


_RECORD = TypeAdapter(Record)


def store(folder: Path, record: Record) -> Path:
    """Write a record, in place of an older one of the same part."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{record.part}.json"
    path.write_text(json.dumps(json.loads(to_json(asdict(record), inf_nan_mode="strings")), indent=1) + "\n")
    return path


def load(folder: Path) -> dict[str, Record]:
    """Return all records of a folder, by the names of their parts.

    Raises:
        ValueError: A file is none.
    """
    return {path.stem: _RECORD.validate_json(path.read_bytes()) for path in sorted(folder.glob("*.json"))}
