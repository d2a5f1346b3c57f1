"""``python -m app predict`` about some files, of a running service or without one."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.bundle.loader import open_bundle
from clients.python.tests.support.scripted import Reply, in_turn, scripted
from tests.support.committed import LATEST, MODELS
from tests.support.predict_command import COMMAND, environ, predict
from tests.support.server import RunningService


def test_a_reader_that_leaves_is_no_fault_to_tell() -> None:
    picture = MODELS.parent / "docs" / "images" / "ankle-boot.png"
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run(
            [*COMMAND, "cnn", "--local", str(picture)],
            env=environ(), stdout=write_end, stderr=subprocess.PIPE, timeout=60,
        )  # fmt: skip
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (1, b"")


def test_files_may_stand_behind_the_options(tmp_path: Path) -> None:
    done = predict("cnn", "--local", "--top-k", 1, MODELS.parent / "docs" / "images" / "ankle-boot.png")
    assert done.returncode == 0, done.stderr
    assert "Ankle boot" in done.stdout


@pytest.mark.parametrize(
    ("options", "status"),
    [(["--timeout", "-1"], 2), (["--timeout", "nan"], 2), (["--url", "http://a..b"], 1)],
)
def test_a_service_that_cannot_be_asked_is_told(options: list[str], status: int) -> None:
    done = predict("cnn", MODELS.parent / "docs" / "images" / "ankle-boot.png", *options)
    assert done.returncode == status
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize(
    "documents",
    [
        ({"request_schema": {}}, {}),
        ({"request_schema": 5, "media_types": []}, {}),
        ({"request_schema": {}, "media_types": ["image/png"]}, {"predictions": None}),
    ],
)
def test_another_server_is_told_from_the_service(documents: tuple[dict[str, Any], dict[str, Any]]) -> None:
    card, answer = documents
    with scripted(in_turn(Reply(document=answer)), card) as server:
        done = predict("cnn", MODELS.parent / "docs" / "images" / "ankle-boot.png", "--url", server.url)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "answers as no service of this kind does" in done.stderr


@pytest.mark.parametrize("local", [False, True])
def test_a_picture_is_answered(local: bool, service: RunningService, tmp_path: Path) -> None:
    picture = MODELS.parent / "docs" / "images" / "ankle-boot.png"
    place = ["--local"] if local else ["--url", service.url]
    done = predict("cnn", picture, *place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith(f"{picture}: Ankle boot (0.9")
    assert done.stdout.splitlines()[1].split()[:2] == ["Ankle", "boot"]
    document = json.loads(predict("cnn", picture, "--json", "--top-k", 2, *place).stdout)
    assert document["model"] == "cnn"
    assert len(document["predictions"][0]["probabilities"]) == 2


def test_the_service_is_found_by_its_port(service: RunningService) -> None:
    done = predict("cnn", MODELS.parent / "docs" / "images" / "ankle-boot.png", port=service.url.rpartition(":")[2])
    assert done.returncode == 0, done.stderr


def test_no_service_is_told_with_what_helps() -> None:
    done = predict("cnn", MODELS.parent / "docs" / "images" / "ankle-boot.png", "--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "--local" in done.stderr
    assert "Traceback" not in done.stderr


def test_texts_numbers_and_json_are_asked_about(service: RunningService, tmp_path: Path) -> None:
    (tmp_path / "mail.txt").write_text("Dear friend, you have won a free prize")
    assert predict("lstm", tmp_path / "mail.txt", "--url", service.url).returncode == 0
    typed = subprocess.run(
        [*COMMAND, "lstm", "-", "--url", service.url], env=environ(), input=b"Hello", capture_output=True, timeout=60
    )
    assert typed.returncode == 0, typed.stderr
    request = open_bundle(LATEST["numpy_mlp"]).golden().requests[0]
    (tmp_path / "row.csv").write_text(",".join(str(number) for number in request["features"].values()))
    (tmp_path / "row.json").write_text(json.dumps(request))
    (tmp_path / "body.json").write_text(json.dumps({"instances": [request]}))
    said = [
        json.loads(predict("numpy_mlp", tmp_path / name, "--json", *place).stdout)["predictions"]
        for name in ("row.csv", "row.json", "body.json")
        for place in (["--url", service.url], ["--local"])
    ]
    assert all(one == said[0] for one in said)


def test_one_refused_file_does_not_keep_the_others_from_an_answer(service: RunningService, tmp_path: Path) -> None:
    picture = MODELS.parent / "docs" / "images" / "ankle-boot.png"
    (tmp_path / "bad.json").write_text('{"image": [[1]]}')
    done = predict("cnn", tmp_path / "bad.json", picture, "--url", service.url)
    assert done.returncode == 1
    assert "Ankle boot" in done.stdout
    assert "bad.json: refused (422)" in done.stderr
