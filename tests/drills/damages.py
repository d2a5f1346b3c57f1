"""Ten kinds of broken bundles, five of each: how each is broken, and the reason that the service has to give for it.

Reasons are patterns that have to match the whole reason; what differs from case to case (a place, a number) is worked
out here and not read from the answer.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.drills import two_versions
from tests.drills.two_versions import ARTIFACT, MODEL
from tests.support.bundles import edit_manifest, file_ref, read_manifest, write_file_with_digest, write_golden

OF_EACH = 5
_NOT_VALID = r"manifest\.json is not valid: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One kind.

    Attributes:
        kind: In words.
        harm: Breaks the bundle in a folder, in one of :data:`OF_EACH` ways; returns the pattern of the reason.
    """

    kind: str
    harm: Callable[[Path, int], str]


def _flipped(folder: Path, way: int) -> str:
    path = folder / ARTIFACT
    data = bytearray(path.read_bytes())
    data[len(data) * (way + 1) // (OF_EACH + 1)] ^= 1 << way
    return _written(folder, bytes(data))


def _truncated(folder: Path, way: int) -> str:
    data = (folder / ARTIFACT).read_bytes()
    return _written(folder, data[: len(data) * way // OF_EACH])


def _written(folder: Path, data: bytes) -> str:
    """Write an artifact that is not what the manifest describes."""
    described = read_manifest(folder)["artifacts"][0]
    found = file_ref(ARTIFACT, data)
    (folder / ARTIFACT).write_bytes(data)
    return re.escape(
        f"{ARTIFACT} is not the file that the manifest describes: it has {found['size_bytes']} bytes and SHA-256 "
        f"{found['sha256']}, the manifest says {described['size_bytes']} bytes and {described['sha256']}"
    )


def _missing(folder: Path, way: int) -> str:
    name = (ARTIFACT, "golden.npz", "manifest.json")[way % 3]
    (folder / name).unlink()
    return re.escape(f"{name} cannot be read: No such file or directory")


def _no_json(folder: Path, way: int) -> str:
    text = (folder / "manifest.json").read_text()
    broken = (text[: len(text) // 2], "", "null", "[" + text + "]", text.replace(":", "=", 1))[way]
    (folder / "manifest.json").write_text(broken)
    lines = broken.splitlines() or [""]
    what = (
        rf"Invalid JSON: EOF while parsing an? \w+ at line {len(lines)} column {len(lines[-1])}",
        "Invalid JSON: EOF while parsing a value at line 1 column 0",
        "Input should be an object",
        "Input should be an object",
        f"Invalid JSON: expected `:` at line 2 column {lines[min(1, len(lines) - 1)].find('=') + 1}",
    )[way]
    return f"{_NOT_VALID}document: {what}"


def _missing_member(folder: Path, way: int) -> str:
    name = ("task", "inputs", "outputs", "artifacts", "golden")[way]
    edit_manifest(folder, lambda document: document.pop(name))
    return f"{_NOT_VALID}{name}: Field required"


def _outside(folder: Path, way: int) -> str:
    path = ("../2/model.onnx", "/etc/passwd", "a/../../2/model.onnx", "..\\\\model.onnx", "../../mlp/2/model.onnx")[way]
    edit_manifest(folder, lambda document: document["artifacts"][0].update(path=path))
    told = "must be a relative path inside the bundle folder, without '..'"
    return f"{_NOT_VALID}artifacts.0.path: {re.escape(told)}"


def _misnamed(folder: Path, way: int) -> str:
    change: dict[str, Any] = ({"version": 1}, {"version": 999}, {"name": "mlp"}, {"name": "cnn2"}, {"version": 10**6})[
        way
    ]
    edit_manifest(folder, lambda document: document.update(change))
    document = read_manifest(folder)
    return re.escape(
        f"manifest.json is that of {document['name']}/{document['version']}, but lies in {MODEL}/{folder.name}"
    )


def _other_network(folder: Path, way: int) -> str:
    """Golden rows of another network: everything is as described, and the numbers are wrong."""
    right, rows = two_versions.golden(2).outputs["logits"], two_versions.golden(1 if way % 2 else 2)
    if way % 2 == 0:
        rows.outputs["logits"] = (right + (way + 1) / 10 * np.arange(10)).astype(np.float32)
    write_golden(folder, rows)
    difference = np.abs(rows.outputs["logits"].astype(float) - right).max()
    return (
        rf"golden replay: output 'logits' differs by {re.escape(f'{difference:.3g}')} in row \d+, "
        "more than atol=0.0001 and rtol=0.0001 allow"
    )


def _other_contract(folder: Path, way: int) -> str:
    def edit(document: dict[str, Any]) -> None:
        if way < 3:
            document["task"]["labels"][way] = "Something else"
        elif way == 3:
            document["task"]["labels"].reverse()
        else:
            document["task"]["image"]["low"] = -1.0

    edit_manifest(folder, edit)
    return (
        r"its task (are|is) not (those|that) of version 2: all versions of a name share task, inputs and outputs; "
        "package it under another name"
    )


def _no_graph(folder: Path, way: int) -> str:
    """What is no graph, with the right digest."""
    data = (folder / ARTIFACT).read_bytes()
    broken = (b"{}", b"\x00" * 100, json.dumps({"a": 1}).encode(), data[: len(data) // 2], data[100:])[way]
    write_file_with_digest(folder, ARTIFACT, broken)
    return r"ONNX Runtime refuses the graph: \[ONNXRuntimeError\] : \d+ : INVALID_PROTOBUF : Failed to load model .*"


DAMAGES = (
    Damage(kind="a flipped bit", harm=_flipped),
    Damage(kind="an artifact cut off", harm=_truncated),
    Damage(kind="a missing file", harm=_missing),
    Damage(kind="a manifest that is no JSON", harm=_no_json),
    Damage(kind="a missing member", harm=_missing_member),
    Damage(kind="a path outside", harm=_outside),
    Damage(kind="another bundle's manifest", harm=_misnamed),
    Damage(kind="another network's golden rows", harm=_other_network),
    Damage(kind="another contract", harm=_other_contract),
    Damage(kind="no graph", harm=_no_graph),
)
