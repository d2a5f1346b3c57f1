"""A job is begun, refused, gone on with and ended as its command says; whatever happens, the bytes are the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.predict import job, model
from app.predict.errors import BadUse, PredictError, Stopped
from app.predict.pipeline import Pipeline
from app.predict.request import Request
from app.settings import Settings
from tests.support.bundles import dummy_bundle

GOOD = '{"image": [[1, 2, 3], [4, 5, %d]]}\n'
BAD = '{"image": [[1, 2, 3], [4, 5]]}\n'


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    dummy_bundle(tmp_path / "models")
    return Settings(models_dir=tmp_path / "models")


@pytest.fixture(autouse=True)
def many_small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "CHUNK_ROWS", 8)
    monkeypatch.setattr(job, "NOTE_EVERY_S", 0.0)


def run(tmp_path: Path, settings: Settings, **changes: Any) -> int:
    values: dict[str, Any] = {
        "ref": model.find("dummy", None, settings),
        "input": tmp_path / "in.jsonl",
        "output": tmp_path / "out.csv",
        "query": {},
        "threads": 2,
    }
    return job.run(Request(**(values | changes)), settings)


def write(tmp_path: Path, rows: int, *, bad: tuple[int, ...] = ()) -> None:
    lines = [BAD if row in bad else GOOD % (row % 200) for row in range(rows)]
    (tmp_path / "in.jsonl").write_text("".join(lines))


def outputs(tmp_path: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in tmp_path.glob("out.*")}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("chunks", [0, 1, 3])
def test_a_job_that_broke_off_anywhere_gives_the_same_bytes(
    suffix: str, chunks: int, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 45, bad=(0, 17, 44))
    output = tmp_path / f"out.{suffix}"
    assert run(tmp_path, settings, output=output) == 3
    expected = outputs(tmp_path)
    for name in expected:
        (tmp_path / name).unlink()
    whole = Pipeline.run

    def broken(self: Pipeline, position: Any) -> Any:
        for count, done in enumerate(whole(self, position)):
            if count == chunks:
                raise OSError("no space left on device")
            yield done

    monkeypatch.setattr(Pipeline, "run", broken)
    with pytest.raises(OSError, match="no space"):
        run(tmp_path, settings, output=output)
    monkeypatch.setattr(Pipeline, "run", whole)
    assert run(tmp_path, settings, output=output, threads=1) == 3
    assert outputs(tmp_path) == expected


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_job_that_broke_off_between_its_last_steps_is_ended(
    suffix: str, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 20, bad=(3,))
    output = tmp_path / f"out.{suffix}"
    assert run(tmp_path, settings, output=output) == 3
    expected = outputs(tmp_path)
    for name in expected:
        (tmp_path / name).unlink()

    def broken(*_: object) -> int:
        raise OSError("killed")

    whole = job._conclude
    monkeypatch.setattr(job, "_conclude", broken)
    with pytest.raises(OSError, match="killed"):
        run(tmp_path, settings, output=output)
    monkeypatch.setattr(job, "_conclude", whole)
    assert output.exists()
    assert run(tmp_path, settings, output=output) == 3
    assert outputs(tmp_path) == expected


def break_off(tmp_path: Path, settings: Settings) -> None:
    """Leave a job behind that was begun."""
    write(tmp_path, 30, bad=(1, 2))
    with pytest.raises(Stopped):
        run(tmp_path, settings, max_rejected=1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"query": {"top_k": "2"}}, "another options .query was {}"),
        ({"with_probabilities": True}, "another options .probabilities"),
        ({"batch_rows": 4}, "another options .batch_rows"),
    ],
)
def test_other_options_are_refused(changes: Any, words: str, tmp_path: Path, settings: Settings) -> None:
    break_off(tmp_path, settings)
    with pytest.raises(BadUse, match=words):
        run(tmp_path, settings, **changes)
    assert run(tmp_path, settings, is_restarted=True, **changes) == 3


def test_another_input_or_bundle_is_refused(tmp_path: Path, settings: Settings) -> None:
    break_off(tmp_path, settings)
    manifest = tmp_path / "models" / "dummy" / "1" / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text + "\n")
    with pytest.raises(BadUse, match="another bundle"):
        run(tmp_path, settings)
    manifest.write_text(text)
    write(tmp_path, 31)
    with pytest.raises(BadUse, match="another input"):
        run(tmp_path, settings)


def test_an_output_that_is_there_is_kept_unless_forced(tmp_path: Path, settings: Settings) -> None:
    write(tmp_path, 3)
    (tmp_path / "out.csv").write_text("mine")
    with pytest.raises(BadUse, match="--force"):
        run(tmp_path, settings)
    with pytest.raises(BadUse, match="--force"):
        run(tmp_path, settings, is_restarted=True)
    assert outputs(tmp_path) == {"out.csv": b"mine"}
    assert run(tmp_path, settings, is_forced=True) == 0
    assert (tmp_path / "out.csv").read_text().count("\n") == 4


def test_too_many_rejected_rows_end_it_and_more_may_be_allowed(tmp_path: Path, settings: Settings) -> None:
    break_off(tmp_path, settings)
    with pytest.raises(Stopped, match="2 of"):
        run(tmp_path, settings, max_rejected=1)
    assert run(tmp_path, settings, max_rejected=2) == 3
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 29


def test_a_share_of_rejected_rows_is_judged_at_the_end(tmp_path: Path, settings: Settings) -> None:
    write(tmp_path, 30, bad=(0, 1, 2))
    with pytest.raises(Stopped, match="3 of 30"):
        run(tmp_path, settings, max_rejected=0.09)
    assert not (tmp_path / "out.csv").exists()
    assert run(tmp_path, settings, max_rejected=0.1) == 3


def test_an_empty_file_gives_an_empty_output(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "in.jsonl").write_text("")
    for name in ("out.csv", "out.parquet", "out.jsonl"):
        assert run(tmp_path, settings, output=tmp_path / name) == 0
    assert (tmp_path / "out.csv").read_text() == "row,label,index,probability\n"


def test_a_sick_model_ends_it_and_what_was_answered_stays(tmp_path: Path) -> None:
    dummy_bundle(tmp_path / "models", behavior={"fails_after_calls": 30}, max_rows=8)
    settings = Settings(models_dir=tmp_path / "models")
    write(tmp_path, 400)
    with pytest.raises(Stopped, match="can answer nobody"):
        run(tmp_path, settings, threads=1)
    head, *lines = (tmp_path / "out.csv.checkpoint").read_text().splitlines()
    assert json.loads(head)["bundle"]["name"] == "dummy"
    assert 0 < json.loads(lines[-1])["rows"] < 400
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(("max_rows", "row_bytes", "rows"), [(3, 0, 6), (8, 0, 8), (32, 0, 32), (2, 2**23, 2)])
def test_chunks_are_full_batches(max_rows: int, row_bytes: int, rows: int) -> None:
    assert job.chunk_rows(max_rows, row_bytes) == rows


def test_input_is_not_written_over(tmp_path: Path, settings: Settings) -> None:
    write(tmp_path, 3)
    with pytest.raises(PredictError, match="same file"):
        run(tmp_path, settings, output=tmp_path / "in.jsonl", is_forced=True)
