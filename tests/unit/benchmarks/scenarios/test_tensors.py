"""The same numbers go through every door, in requests that the service takes and answers alike."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.scenarios import _alternate, _picture_bundle, _v2, _ways, tensors
from benchmarks.scenarios._ways import CNN, NAMES, PICTURE, PREDICT_BYTES, PREDICT_JSON, V2_BYTES, V2_JSON
from benchmarks.servers import start, two_cores
from tests.unit.benchmarks.scenarios.test_bundles import prove_folder

ROW = np.array([[[0.0, 1.5], [0.1, 255.0]]], np.float32)


def turn(**rates: float) -> _alternate.Turn:
    """Return a turn in which every load had 1000 requests/s and 100 us, but for those that are named otherwise."""
    named = {_names[key]: rate for key, rate in rates.items()}
    return {
        tensors.key(model, name): _alternate.Sample(
            requests_per_s=named.get((model, name), 1000.0),
            server_us=1e5 / named.get((model, name), 1000.0),
            p50_ms=1.0,
            p99_ms=2.0,
            generator_busy=0.1,
            failures=0,
        )
        for model in (CNN, PICTURE)
        for name in NAMES
    }


_names = {
    "cnn_v2_bytes": (CNN, V2_BYTES),
    "cnn_v2_json": (CNN, V2_JSON),
    "cnn_bytes": (CNN, PREDICT_BYTES),
    "picture_v2_bytes": (PICTURE, V2_BYTES),
}


def test_the_bundle_of_large_pictures_is_proven(tmp_path: Path) -> None:
    prove_folder(_picture_bundle.write(tmp_path))


def test_numbers_in_json_are_short_and_still_the_same() -> None:
    numbers = _v2.json_numbers(ROW)
    assert json.dumps(numbers.tolist()) == "[[[0, 1.5], [0.1, 255]]]"
    assert np.array_equal(np.array(numbers.tolist(), np.float32), ROW)


def test_a_binary_request_says_where_its_json_ends() -> None:
    head, _, body = _v2.binary_request("cnn", "image", ROW, "scores").partition(b"\r\n\r\n")
    (stated,) = [line for line in head.split(b"\r\n") if line.startswith(b"Inference-Header-Content-Length: ")]
    size = int(stated.split(b": ")[1])
    assert json.loads(body[:size])["inputs"][0]["parameters"] == {"binary_data_size": ROW.nbytes}
    assert np.array_equal(np.frombuffer(body[size:], "<f4"), ROW.ravel())
    assert b"Content-Length: %d\r\n" % len(body) in head


def test_a_binary_answer_that_is_cut_off_is_no_answer() -> None:
    header = b'{"outputs":[{"name":"scores","parameters":{"binary_data_size":8}}]}'
    scores = np.array([0.5, 0.25], "<f4")
    assert np.array_equal(_v2.read_binary(header + scores.tobytes()), scores)
    with pytest.raises(ValueError, match="7 bytes behind its JSON"):
        _v2.read_binary(header + scores.tobytes()[:-1])


def test_bytes_are_held_to_so_many_times_the_rate_of_json() -> None:
    turns = [turn(cnn_v2_bytes=1099, picture_v2_bytes=2001), turn(cnn_v2_bytes=1050, picture_v2_bytes=2001)]
    assert not tensors.bytes_bar(turns, CNN, 1.1).is_met
    assert tensors.bytes_bar(turns, PICTURE, 2.0).is_met
    assert "2.00 times (2,001 against 1,000 requests/s)" in tensors.bytes_bar(turns, PICTURE, 2.0).measured


def test_the_protocol_is_held_to_the_predict_door_in_the_same_form() -> None:
    assert tensors.door_bar([turn(cnn_v2_bytes=920)], CNN, V2_BYTES, PREDICT_BYTES).is_met
    assert not tensors.door_bar([turn(cnn_v2_bytes=900)], CNN, V2_BYTES, PREDICT_BYTES).is_met
    assert not tensors.door_bar([turn(cnn_v2_json=900)], CNN, V2_JSON, PREDICT_JSON).is_met
    assert "+11.1% CPU time" in tensors.door_bar([turn(cnn_v2_bytes=900)], CNN, V2_BYTES, PREDICT_BYTES).measured


def test_all_forms_and_bars_are_in_the_report() -> None:
    finding = tensors.report([turn(), turn()])
    assert len(finding.table_markdown.splitlines()) == 2 + 2 * len(NAMES)
    assert len(finding.bars) == 2 + 2 * len(tensors.PAIRS)


def test_the_service_answers_every_form_of_a_row_alike(tmp_path: Path) -> None:
    _picture_bundle.write(tmp_path / "models")
    tensors._bundles.link([CNN], tmp_path / "models")
    with start(tensors.server(tmp_path / "models"), two_cores()[0]) as running:
        for case in _ways.cases():
            found = _ways.ways(case)
            assert tuple(way.name for way in found) == NAMES
            tensors.expect_same_answers(running, case, found)
