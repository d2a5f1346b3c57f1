"""What is kept comes back as it was, and so does what was not a number."""

import math
from pathlib import Path

import pytest

from benchmarks import results
from tests.unit.benchmarks.made_up import comparison, record, sample, visit


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    kept = record(comparison())
    results.store(tmp_path, kept)
    assert results.load(tmp_path) == {"cnn": kept}


def test_a_latency_that_was_never_measured_stays_so(tmp_path: Path) -> None:
    found = comparison()
    found.visits["Triton, unbatched"] = [visit({1: sample(0, p50_ms=float("nan"))})]
    results.store(tmp_path, record(found))
    back = results.load(tmp_path)["cnn"].comparison
    assert back is not None
    assert math.isnan(back.figure("Triton, unbatched", 1, "p50_ms"))


def test_a_file_that_is_no_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cnn.json").write_text("{}")
    with pytest.raises(ValueError, match="part"):
        results.load(tmp_path)
