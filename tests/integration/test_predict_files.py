"""``python -m app predict`` over whole files: every format, bad rows, and runs that were cut short."""

import base64
import csv
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from app.bundle.loader import open_bundle
from tests.support.bundles import dummy_bundle
from tests.support.committed import LATEST, MODELS, NAMES
from tests.support.predict_command import COMMAND, POISON, environ, images, lines_of, png, predict, write_input
from tests.support.server import RunningService, serve


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A model of 2x3 pixels that fails on one value."""
    dummy_bundle(tmp_path / "models", behavior={"raise_on": POISON})
    return tmp_path / "models"


def expect_close(found: Any, expected: Any, *, atol: float = 2e-5) -> None:
    """Hold a prediction against another: numbers within the tolerance of batches, all else the same."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name in expected:
            expect_close(found[name], expected[name], atol=atol)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            expect_close(one, other, atol=atol)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=atol, rel=2e-5)
    else:
        assert found == expected


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_answered_as_the_http_door_answers_them(name: str, service: RunningService, tmp_path: Path) -> None:
    requests = open_bundle(LATEST[name]).golden().requests
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(request) + "\n" for request in requests))
    done = predict(name, "--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl")
    assert done.returncode == 0, done.stderr
    answer = httpx.post(f"{service.url}/predict/{name}", json={"instances": requests}).json()
    found = lines_of(tmp_path / "out.jsonl")
    assert [line["row"] for line in found] == list(range(len(requests)))
    # an anomaly's error is of the size of the pixels, squared
    expect_close([line["prediction"] for line in found], answer["predictions"], atol=1e-3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_every_input_gives_the_same_output(models: Path, tmp_path: Path) -> None:
    outputs = []
    for name in ("a.csv", "a.jsonl", "a.parquet", "pictures"):
        write_input(tmp_path / name, images(9))
        own = () if name == "pictures" else ("--id", "name")
        done = predict(
            "dummy", "--input", tmp_path / name, "--output", tmp_path / f"{name}.out.csv", *own, models=models
        )
        assert done.returncode == 0, done.stderr
        outputs.append((tmp_path / f"{name}.out.csv").read_text().replace(".png,", ","))
    assert len(set(outputs)) == 1
    assert outputs[0].splitlines()[0] == "row,id,label,index,probability"


def test_every_output_holds_the_same(models: Path, tmp_path: Path) -> None:
    write_input(tmp_path / "in.parquet", images(1500))
    for suffix in ("csv", "jsonl", "parquet"):
        done = predict(
            "dummy", "--input", tmp_path / "in.parquet", "--output", tmp_path / f"out.{suffix}", "--id", "name",
            "--probabilities", models=models,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    table = pq.read_table(tmp_path / "out.parquet")
    assert str(table.schema.field("probabilities.a").type) == "float"
    with (tmp_path / "out.csv").open(newline="") as file:
        in_csv = list(csv.DictReader(file))
    in_lines = lines_of(tmp_path / "out.jsonl")
    assert len(in_csv) == len(in_lines) == table.num_rows == 1500
    for row, line, cells in zip(table.to_pylist(), in_lines, in_csv, strict=True):
        prediction = line["prediction"]
        assert row["row"] == line["row"] == int(cells["row"])
        assert row["id"] == line["id"] == cells["id"]
        assert row["label"] == prediction["label"] == cells["label"]
        assert row["probabilities.b"] == prediction["probabilities"]["b"] == float(cells["probabilities.b"])


def test_bad_rows_are_set_aside_with_their_reason(models: Path, tmp_path: Path) -> None:
    good = [[1, 2, 3], [4, 5, 6]]
    lines = [
        json.dumps({"image": good}),
        '{"image": [[1, 2, 3], [4, 5]]}',
        "no json",
        json.dumps({"image": [[POISON, 2, 3], [4, 5, 6]]}),
        '{"image": [[1, 2, 3], [4, 5, NaN]]}, {"image": 1}',
        json.dumps({"image": [[1, 2, 3], [4, 5, 999]]}),
        json.dumps({"image": good}),
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    done = predict("dummy", "--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl", models=models)
    assert done.returncode == 3, done.stderr
    assert "5 rows rejected" in done.stderr
    answers = lines_of(tmp_path / "out.jsonl")
    assert [answer["row"] for answer in answers] == [0, 6]
    assert answers[0]["prediction"] == answers[1]["prediction"]
    rejected = lines_of(tmp_path / "out.jsonl.rejected.jsonl")
    assert [line["row"] for line in rejected] == [1, 2, 3, 4, 5]
    assert [line["line"] for line in rejected] == [2, 3, 4, 5, 6]
    assert [line["code"] for line in rejected] == [
        "invalid_input", "malformed_body", "model_rejected_input", "malformed_body", "invalid_input",
    ]  # fmt: skip
    with serve(models) as service:
        asked = httpx.post(
            f"{service.url}/predict/dummy",
            content=f'{{"instances": [{lines[5]}]}}',
            headers={"Content-Type": "application/json"},
        ).json()
    assert rejected[4]["errors"] == asked["errors"]
    assert rejected[4]["detail"] == asked["detail"]
    assert rejected[1]["text"] == "no json"


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_killed_and_resumed_gives_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    dummy_bundle(tmp_path / "models", behavior={"sleep_s": 0.001, "raise_on": POISON}, max_rows=8)
    pictures = images(20_000)
    pictures[[5, 7_000, 19_999]] = POISON
    write_input(tmp_path / "in.parquet", pictures)
    output = tmp_path / f"out.{suffix}"
    arguments = ("dummy", "--input", tmp_path / "in.parquet", "--output", output, "--id", "name")
    whole = predict(*arguments, "--threads", 2, models=tmp_path / "models")
    assert whole.returncode == 3, whole.stderr
    expected = {path.name: path.read_bytes() for path in tmp_path.glob("out.*")}
    for path in tmp_path.glob("out.*"):
        path.unlink()
    checkpoint = tmp_path / f"{output.name}.checkpoint"
    noted = 0
    for _ in range(2):  # killed twice, each time after it has come further
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments), "--threads", "1"], env=environ(tmp_path / "models"), stderr=subprocess.PIPE
        )
        while process.poll() is None and (not checkpoint.exists() or checkpoint.read_bytes().count(b"\n") < noted + 2):
            time.sleep(0.01)
        assert process.poll() is None, "it came to its end before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.communicate()
        noted = checkpoint.read_bytes().count(b"\n")
        assert not output.exists()
    # as after a power failure: the end of what was written never reached the disk
    partial = tmp_path / f"{output.name}.partial"
    os.truncate(partial, partial.stat().st_size * 3 // 4)
    done = predict(*arguments, models=tmp_path / "models")
    assert done.returncode == 3, done.stderr
    assert "going on after row" in done.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.glob("out.*")} == expected


def test_ctrl_c_keeps_what_was_computed(tmp_path: Path) -> None:
    dummy_bundle(tmp_path / "models", behavior={"sleep_s": 0.005})
    write_input(tmp_path / "in.parquet", images(20_000))
    arguments = ["dummy", "--input", str(tmp_path / "in.parquet"), "--output", str(tmp_path / "out.csv")]
    process = subprocess.Popen(
        [*COMMAND, *arguments, "--threads", "1"],
        env=environ(tmp_path / "models"),
        stderr=subprocess.PIPE,
        # what a shell has started in the background ignores it, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    partial = tmp_path / "out.csv.partial"
    while process.poll() is None and (not partial.exists() or partial.stat().st_size < 100):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert b"the same command goes on with it" in said
    done = predict(*arguments, models=tmp_path / "models")
    assert done.returncode == 0, done.stderr
    assert "going on after row" in done.stderr
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 20_001


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_column_named_twice_is_kept_once(suffix: str, models: Path, tmp_path: Path) -> None:
    write_input(tmp_path / "in.csv", images(2))
    output = tmp_path / f"out.{suffix}"
    done = predict("dummy", "--input", tmp_path / "in.csv", "--output", output, "--keep", "name,name", models=models)
    assert done.returncode == 0, done.stderr
    if suffix == "csv":
        with output.open() as file:
            assert [row["name"] for row in csv.DictReader(file)] == ["n0", "n1"]
    else:
        assert pq.read_table(output).column("name").to_pylist() == ["n0", "n1"]


@pytest.mark.parametrize("own", [("--keep", "all"), ("--keep", "name"), ("--id", "name")])
def test_of_two_columns_of_one_name_none_is_passed_on(own: tuple[str, str], models: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text('name,image,name\na,"[[1,2,3],[4,5,6]]",b\n')
    done = predict("dummy", "--input", tmp_path / "in.csv", "--output", tmp_path / "out.csv", *own, models=models)
    assert done.returncode == 2
    assert "the column 'name' is there twice" in done.stderr


@pytest.mark.parametrize("end", [".partial", ".rejected.jsonl", ".rejected.jsonl.partial", ".checkpoint"])
@pytest.mark.parametrize("restart", [[], ["--restart"]])
def test_an_input_that_would_be_written_over_stays(end: str, restart: list[str], models: Path, tmp_path: Path) -> None:
    source = tmp_path / f"out.csv{end}"
    write_input(tmp_path / "in.jsonl", images(2))
    data = (tmp_path / "in.jsonl").read_bytes()
    source.write_bytes(data)
    arguments = ("--input", source, "--input-format", "jsonl", "--output", tmp_path / "out.csv", *restart)
    done = predict("dummy", *arguments, models=models)
    assert done.returncode == 2, done.stderr
    assert source.read_bytes() == data


def test_what_was_not_begun_leaves_no_checkpoint(models: Path, tmp_path: Path) -> None:
    write_input(tmp_path / "in.jsonl", images(2))
    arguments = ("dummy", "--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.csv", "--id", "name")
    done = predict(*arguments, "--keep", "all", models=models)
    assert done.returncode == 2
    assert sorted(path.name for path in tmp_path.glob("out*")) == []
    done = predict(*arguments, models=models)
    assert done.returncode == 0, done.stderr


def test_a_pipe_is_no_input(models: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "in.csv")
    done = predict("dummy", "--input", tmp_path / "in.csv", "--output", tmp_path / "out.csv", models=models)
    assert done.returncode == 2
    assert "no file that can be read twice" in done.stderr


def test_a_file_is_answered_where_nobody_reads_what_is_told(models: Path, tmp_path: Path) -> None:
    write_input(tmp_path / "in.csv", images(2))
    arguments = ["dummy", "--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out.csv")]
    closed = ["sh", "-c", 'exec "$@" 2>&-', "sh"]
    done = subprocess.run([*closed, *COMMAND, *arguments], env=environ(models), timeout=60)
    assert done.returncode == 0
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 3


def test_a_row_of_too_many_values_is_set_aside_alone(models: Path, tmp_path: Path) -> None:
    """Also where a row is read for its name."""
    write_input(tmp_path / "in.jsonl", images(2))
    with (tmp_path / "in.jsonl").open("a") as file:
        file.write("[" * 100_000 + "\n")
    arguments = ("--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.csv", "--id", "name")
    done = predict("dummy", *arguments, models=models)
    assert done.returncode == 3, done.stderr
    assert [line["row"] for line in lines_of(tmp_path / "out.csv.rejected.jsonl")] == [2]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_what_is_no_text_is_passed_on_as_utf8(suffix: str, models: Path, tmp_path: Path) -> None:
    row = {"name": "\udcff", "image": images(1)[0].tolist()}
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")
    output = tmp_path / f"out.{suffix}"
    done = predict("dummy", "--input", tmp_path / "in.jsonl", "--output", output, "--id", "name", models=models)
    assert done.returncode == 0, done.stderr
    told = pq.read_table(output).column("id")[0].as_py() if suffix == "parquet" else output.read_text("utf-8")
    assert "\\udcff" in told


def test_a_folder_may_hold_what_is_no_picture_and_has_no_end(models: Path, tmp_path: Path) -> None:
    write_input(tmp_path / "pictures", images(1))
    os.mkfifo(tmp_path / "pictures" / "pipe.png")
    (tmp_path / "pictures" / "below.png").mkdir()
    (tmp_path / "pictures" / "below.png" / "back").symlink_to("..")
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "x.png").write_bytes(png(images(1)[0]))
    (tmp_path / "pictures" / "link").symlink_to(tmp_path / "else")
    output = tmp_path / "out.jsonl"
    done = predict("dummy", "--input", tmp_path / "pictures", "--output", output, models=models)
    assert done.returncode == 3, done.stderr
    assert [line["id"] for line in lines_of(output)] == ["link/x.png", "n0.png"]
    (rejected,) = lines_of(tmp_path / "out.jsonl.rejected.jsonl")
    assert (rejected["id"], rejected["code"]) == ("pipe.png", "unreadable_file")


def test_pictures_in_a_table_are_paths_or_base64(tmp_path: Path) -> None:
    data = (MODELS.parent / "docs" / "images" / "ankle-boot.png").read_bytes()
    (tmp_path / "boot.png").write_bytes(data)
    rows = ["path,image,price", "a,boot.png,1", f"b,{base64.b64encode(data).decode()},2", "c,none.png,3", "d,!!,4"]
    (tmp_path / "in.csv").write_text("\n".join(rows) + "\n")
    done = predict(
        "cnn", "--input", tmp_path / "in.csv", "--output", tmp_path / "out.csv", "--id", "path", "--keep", "all"
    )
    assert done.returncode == 3, done.stderr
    with (tmp_path / "out.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [(row["id"], row["price"], row["label"]) for row in found] == [
        ("a", "1", "Ankle boot"), ("b", "2", "Ankle boot"),
    ]  # fmt: skip
    rejected = lines_of(tmp_path / "out.csv.rejected.jsonl")
    assert [(line["id"], line["code"]) for line in rejected] == [("c", "unreadable_file"), ("d", "invalid_input")]


def test_a_file_that_a_cell_names_is_held_to_the_limit_and_no_pipe_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(bytes(2000))
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "in.csv").write_text("image\nlarge.png\npipe.png\nnone.png\n")
    done = predict("cnn", "--input", tmp_path / "in.csv", "--output", tmp_path / "out.csv", max_body_bytes=1024)
    assert done.returncode == 3, done.stderr
    rejected = lines_of(tmp_path / "out.csv.rejected.jsonl")
    assert [row["code"] for row in rejected] == ["body_too_large", "unreadable_file", "unreadable_file"]
    assert "larger than 1024 bytes" in str(rejected[0])
    assert "pipe.png is no file" in str(rejected[1])
