"""The same file in another language: every ONNX artifact answers in Node.js as it does here."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.bundle.loader import Bundle, open_bundle
from tests.node.cases import array_document, cases_of
from tests.support.committed import LATEST, NAMES

HERE = Path(__file__).parent
NODE = shutil.which("node")

pytestmark = [
    pytest.mark.needs_node,
    pytest.mark.skipif(NODE is None, reason="node is not installed"),
    pytest.mark.skipif(
        not (HERE / "node_modules" / "onnxruntime-node").is_dir(),
        reason="onnxruntime-node is not installed: make replay-node",
    ),
]


def replay(cases: list[dict[str, Any]], folder: Path) -> tuple[int, list[dict[str, Any]]]:
    """Return the exit status and what was printed of each case."""
    file = folder / "cases.json"
    file.write_text(json.dumps(cases))
    done = subprocess.run(
        [str(NODE), str(HERE / "replay.mjs"), str(file)], capture_output=True, text=True, timeout=300, check=False
    )
    assert not done.stderr, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(params=NAMES)
def bundle(request: pytest.FixtureRequest) -> Bundle:
    return open_bundle(LATEST[request.param])


def test_golden_rows_come_out_as_the_trainer_measured(bundle: Bundle, tmp_path: Path) -> None:
    cases = cases_of(bundle)
    assert [case["label"].split()[1] for case in cases] == [
        artifact.key for artifact in bundle.manifest.artifacts if artifact.format == "onnx"
    ]
    status, outcomes = replay(cases, tmp_path)
    assert status == 0
    assert [(outcome["label"], outcome["rows"], outcome["isRight"]) for outcome in outcomes] == [
        (case["label"], bundle.manifest.golden.rows, True) for case in cases
    ]


@pytest.mark.parametrize("value", [1.0, float("nan")])
def test_a_row_that_comes_out_otherwise_is_found(bundle: Bundle, tmp_path: Path, value: float) -> None:
    """A replay that could not fail would prove nothing."""
    golden = bundle.golden()
    name = bundle.manifest.outputs[-1].name
    golden.outputs[name] = golden.outputs[name].copy()
    golden.outputs[name].reshape(-1)[-1] += np.float32(value)
    (case, *_) = cases_of(bundle)
    wrong = json.loads(json.dumps(case))
    wrong["outputs"][name] = array_document(golden.outputs[name])
    status, outcomes = replay([case, wrong], tmp_path)
    assert status == 1
    assert [outcome["isRight"] for outcome in outcomes] == [True, False]
