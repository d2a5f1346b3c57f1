"""Two versions of the cnn that give different probabilities for the same pictures, and questions that tell them apart.

Version 2 is the committed network. Version 1 is the same with twice its temperature, which the graph divides its logits
by; its golden rows are worked out from the others, so that it proves itself as any bundle does.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from app.bundle.golden import GoldenRows
from app.tensors import Tensors
from benchmarks import pictures
from benchmarks.scenarios._bundles import newest
from tests.drills.books import Books
from tests.drills.crowd import Question
from tests.support.bundles import edit_manifest, prediction, write_file_with_digest, write_golden
from tests.support.committed import LATEST
from tests.support.open_inference import golden_of

MODEL = "cnn"
ARTIFACT = "model.onnx"
_ATOL = 2e-4
_VERSION = b"\r\nx-model-version:"


def write(models_dir: Path) -> None:
    """Write both versions into a models folder."""
    for version in (1, 2):
        copy(models_dir, version)
    folder = models_dir / MODEL / "1"
    write_file_with_digest(folder, ARTIFACT, _with_twice_the_temperature((folder / ARTIFACT).read_bytes()))
    write_golden(folder, golden(1))


def copy(models_dir: Path, version: int) -> Path:
    """Write the committed network as a version, with its ONNX artifact alone; return its folder."""
    source, folder = newest(MODEL), models_dir / MODEL / str(version)
    folder.mkdir(parents=True)
    for name in ("manifest.json", "golden.npz", ARTIFACT):
        shutil.copy(source / name, folder / name)

    def edit(document: dict[str, Any]) -> None:
        document["version"] = version
        document["artifacts"] = [part for part in document["artifacts"] if part["path"] == ARTIFACT]
        document["golden"]["tolerance"] = {"onnx": document["golden"]["tolerance"]["onnx"]}
        document["golden"].pop("output_tolerance", None)

    edit_manifest(folder, edit)
    return folder


def golden(version: int) -> GoldenRows:
    """Return the golden rows of a version."""
    rows = golden_of(LATEST[MODEL])
    if version != 1:
        return rows
    logits_BC = rows.outputs["logits"] / 2
    exponentials_BC = np.exp(logits_BC - logits_BC.max(axis=1, keepdims=True))
    outputs: Tensors = {
        "logits": logits_BC,
        "probabilities": (exponentials_BC / exponentials_BC.sum(axis=1, keepdims=True)).astype(np.float32),
    }
    labels = list(rows.responses[0]["probabilities"])
    responses = [prediction(row_C, labels) for row_C in outputs["probabilities"]]
    return GoldenRows(requests=rows.requests, inputs=rows.inputs, outputs=outputs, responses=responses)


def questions() -> list[Question]:
    """Return a question for each golden row; its answer must be that of the version that it names, twice."""
    known = {str(version): golden(version).responses for version in (1, 2)}
    asked = []
    for row, instance in enumerate(golden(2).requests):
        (data,) = pictures.http_requests(f"/predict/{MODEL}", [pictures.as_json({"instances": [instance]})])
        expected = {version: responses[row]["probabilities"] for version, responses in known.items()}

        def check(books: Books, head: bytes, body: bytes, expected: Mapping[str, Any] = expected) -> str:
            return _check(books, head, body, expected)

        asked.append(Question(data=data, check=check))
    return asked


def _check(books: Books, head: bytes, body: bytes, expected: Mapping[str, Mapping[str, float]]) -> str:
    version = head.lower().partition(_VERSION)[2].partition(b"\r\n")[0].strip().decode("latin-1")
    document = json.loads(body)
    books.versions[version] += 1
    if document["version"] != version:
        return f"the head says version {version}, the body {document['version']}"
    if version not in expected:
        return f"version {version} answered"
    told = document["predictions"][0]["probabilities"]
    if max(abs(told[label] - value) for label, value in expected[version].items()) > _ATOL:
        return f"numbers that are not those of version {version}"
    return ""


def _with_twice_the_temperature(model: bytes) -> bytes:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_from_string(model)
    (last,) = [node for node in graph.graph.node if "logits" in node.output]
    (temperature,) = [tensor for tensor in graph.graph.initializer if tensor.name == last.input[1]]
    assert last.op_type == "Div"
    temperature.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(temperature) * 2, temperature.name))
    content: bytes = graph.SerializeToString()
    return content
