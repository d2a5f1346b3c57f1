import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.bundle.manifest import Manifest, is_version
from tests.support.bundles import dummy_bundle, read_manifest
from tests.support.kinds import kind_document
from tests.support.ragged import series_document

REPOSITORY = Path(__file__).resolve().parents[4]

Document = dict[str, Any]


@pytest.fixture
def document(tmp_path: Path) -> Document:
    """A valid manifest, as JSON."""
    return read_manifest(dummy_bundle(tmp_path))


def parse(document: Document) -> Manifest:
    return Manifest.model_validate_json(json.dumps(document))


def places(document: Document) -> set[str]:
    """Return where a manifest is not valid; not the list, too, that pydantic finds empty without its faulty item.

    Behind ``task`` pydantic names its kind, which is no place in the document.
    """
    with pytest.raises(ValidationError) as caught:
        parse(document)
    kind = document.get("task", {}).get("kind")
    locations = [tuple(part for part in error["loc"] if part != kind) for error in caught.value.errors()]
    return {
        ".".join(str(part) for part in location)
        for location in locations
        if not any(other != location and other[: len(location)] == location for other in locations)
    }


def test_a_manifest_comes_back_as_it_was_written(document: Document) -> None:
    manifest = parse(document)
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
    assert manifest.task.labels == ("a", "b", "c")
    assert manifest.batching.max_rows == 8


def test_what_may_be_left_out_has_its_default(document: Document) -> None:
    for name in ("batching", "metrics"):
        del document[name]
    manifest = parse(document)
    assert (manifest.batching.max_rows, manifest.batching.max_wait_ms) == (32, 0.0)
    assert (manifest.metrics, manifest.training, manifest.input_statistics) == ({}, None, {})


@pytest.mark.parametrize(
    "name",
    ["schema_version", "name", "version", "description", "license", "task", "architecture", "inputs", "outputs",
     "artifacts", "golden"],
)  # fmt: skip
def test_a_missing_field_is_named(document: Document, name: str) -> None:
    del document[name]
    assert places(document) == {name}


@pytest.mark.parametrize(
    ("part", "place"),
    [
        (lambda document: document, "extra"),
        (lambda document: document["task"], "task.extra"),
        (lambda document: document["task"]["image"], "task.image.extra"),
        (lambda document: document["inputs"][0], "inputs.0.extra"),
        (lambda document: document["artifacts"][0], "artifacts.0.extra"),
        (lambda document: document["golden"], "golden.extra"),
        (lambda document: document["golden"]["tolerance"]["dummy"], "golden.tolerance.dummy.extra"),
    ],
    ids=["top", "task", "image", "input", "artifact", "golden", "tolerance"],
)
def test_an_unknown_field_is_refused_at_every_depth(
    document: Document, part: Callable[[Document], Document], place: str
) -> None:
    part(document)["extra"] = 1
    assert places(document) == {place}


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "a/..", "a\\b", "..", ".", "", "..\\x", "x\x00"])
@pytest.mark.parametrize("part", ["artifacts", "golden"])
def test_a_path_that_could_leave_the_bundle_is_refused(document: Document, part: str, path: str) -> None:
    ref, place = (document["golden"], "golden") if part == "golden" else (document["artifacts"][0], "artifacts.0")
    ref["path"] = path
    assert places(document) == {f"{place}.path"}


@pytest.mark.parametrize("path", ["model.onnx", "nested/model.onnx", "..hidden", "a..b"])
def test_a_path_inside_the_bundle_is_taken(document: Document, path: str) -> None:
    document["artifacts"][0]["path"] = path
    assert parse(document).artifacts[0].path == path


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("schema_version", 2),
        ("name", "Upper"),
        ("name", ".hidden"),
        ("name", "a/b"),
        ("name", ""),
        ("name", "a" * 65),
        ("version", 0),
        ("version", -1),
        ("task", {"kind": "horoscope"}),
        ("task.labels", ["a"]),
        ("task.image.height", 0),
        ("task.image.mode", "RGB"),
        ("artifacts", []),
        ("artifacts.0.sha256", "0" * 63),
        ("artifacts.0.sha256", "G" * 64),
        ("artifacts.0.size_bytes", 0),
        ("artifacts.0.test_accuracy", 1.01),
        ("inputs", []),
        ("outputs", []),
        ("outputs.0.dtype", "complex64"),
        ("outputs.0.name", "a b"),
        ("outputs.0.shape", []),
        ("batching.max_rows", 0),
        ("batching.max_elements", 0),
        ("batching.max_wait_ms", -1),
        ("golden.rows", 0),
        ("golden.batch_tolerance.atol", -1e-9),
        ("golden.batch_tolerance.atol", float("nan")),
        ("golden.batch_tolerance.rtol", float("inf")),
    ],
)
def test_an_impossible_value_is_refused_at_its_place(document: Document, place: str, value: object) -> None:
    *parents, last = place.split(".")
    part: Any = document
    for parent in parents:
        part = part[int(parent) if parent.isdigit() else parent]
    part[last] = value
    assert places(document) == {place}


@pytest.mark.parametrize(
    ("edit", "place", "message"),
    [
        (lambda d: d["inputs"][0]["shape"].__setitem__(0, 8), "inputs.0", "first axis of 'image' is the batch"),
        (lambda d: d["artifacts"].append(d["artifacts"][0]), "", "one artifact per format"),
        (
            lambda d: d["artifacts"].append(d["artifacts"][0] | {"format": "onnx"}),
            "",
            "nothing of the artifacts .'onnx'",
        ),
        (
            lambda d: d["artifacts"].append(d["artifacts"][0] | {"variant": "int8"}),
            "",
            "nothing of the artifacts .'dummy-int8'",
        ),
        (
            lambda d: d["artifacts"][0].update(fixed_axes={"time": 8}),
            "",
            "fixed_axes of 'dummy' name no dynamic axis of an input: .'time'",
        ),
        (
            lambda d: (d["inputs"][0]["shape"].append("time"), d["artifacts"][0].update(fixed_axes={"time": 8})),
            "",
            "fixed_axes of 'dummy': padding needs the input 'lengths'",
        ),
        (
            lambda d: d["golden"].update(output_tolerance={"onnx": {"logits": {"atol": 1.0}}}),
            "",
            "golden.output_tolerance names no artifact: .'onnx'",
        ),
        (
            lambda d: d["golden"].update(output_tolerance={"dummy": {"scores": {"atol": 1.0}}}),
            "",
            "golden.output_tolerance names no output: .'scores'",
        ),
        (lambda d: d["artifacts"][0].update(format="onnx-int8"), "artifacts.0.format", "should match pattern"),
        (lambda d: d["artifacts"][0].update(variant="int-8"), "artifacts.0.variant", "should match pattern"),
        (lambda d: d["task"].update(labels=["a", "b", "a"]), "task.labels", "labels must be distinct"),
        (lambda d: d["task"]["image"].update(low=255.0), "task.image", "must be below high"),
        (
            lambda d: d.update(
                input_statistics={"other": {"minimum": 0, "maximum": 1, "mean": 0, "std": 1, "histogram": [1.0]}}
            ),
            "",
            "input_statistics name no input: .'other'",
        ),
        (
            lambda d: d["batching"].update(max_elements=4096),
            "",
            "batching.max_elements bounds padded rows, and there is no input 'lengths'",
        ),
        (lambda d: d["inputs"].append(d["inputs"][0]), "", "the names of inputs must be distinct"),
        (lambda d: d["outputs"].append(d["outputs"][0]), "", "the names of outputs must be distinct"),
    ],
    ids=[
        "fixed batch axis",
        "format twice",
        "format without tolerance",
        "variant without tolerance",
        "fixed axis of no input",
        "fixed axis without lengths",
        "tolerance of no artifact",
        "tolerance of no output",
        "format with a hyphen",
        "variant with a hyphen",
        "label twice",
        "empty range",
        "statistics",
        "elements without lengths",
        "input twice",
        "output twice",
    ],
)
def test_parts_that_contradict_each_other_are_refused(
    document: Document, edit: Callable[[Document], object], place: str, message: str
) -> None:
    edit(document)
    assert places(document) == {place}
    with pytest.raises(ValidationError, match=message):
        parse(document)


def test_rows_with_lengths_may_have_a_bound_on_elements_and_have_none_by_default() -> None:
    document = series_document(rows=3, max_rows=8, max_elements=4096)
    assert parse(document).batching.max_elements == 4096
    del document["batching"]["max_elements"]
    assert parse(document).batching.max_elements is None


@pytest.mark.parametrize("kind", ["sequence_classification", "tensors", "text_classification"])
def test_an_artifact_whose_axis_is_fixed_below_what_the_task_takes_is_refused(kind: str) -> None:
    document = kind_document(kind)
    lengths = {"name": "lengths", "dtype": "int64", "shape": ["batch"]}
    if kind == "tensors":
        document |= {"inputs": [document["inputs"][0], lengths]}
        document["task"]["bounds"] = {}
    axis = document["inputs"][0]["shape"][1]
    longest = {"sequence_classification": 5, "tensors": 4, "text_classification": 8}[kind]
    document["artifacts"][0]["fixed_axes"] = {axis: longest}
    assert parse(document).artifacts[0].fixed_axes == {axis: longest}
    document["artifacts"][0]["fixed_axes"] = {axis: longest - 1}
    with pytest.raises(ValidationError, match=f"hold {longest - 1} along '{axis}', and the task takes {longest}"):
        parse(document)


def test_a_manifest_cannot_be_changed(document: Document) -> None:
    manifest = parse(document)
    with pytest.raises(ValidationError, match="frozen"):
        manifest.version = 2  # type: ignore[misc]


def test_an_artifact_is_found_by_its_format_and_variant(document: Document) -> None:
    document["artifacts"].append(document["artifacts"][0] | {"variant": "int8"})
    document["golden"]["tolerance"]["dummy-int8"] = {"atol": 0.5}
    manifest = parse(document)
    assert [artifact.key for artifact in manifest.artifacts] == ["dummy", "dummy-int8"]
    assert manifest.artifact("dummy") is manifest.artifacts[0]
    assert manifest.artifact("dummy-int8") is manifest.artifacts[1]
    assert manifest.artifact("onnx") is None


def test_an_output_may_have_a_tolerance_of_its_own(document: Document) -> None:
    document["golden"]["output_tolerance"] = {"dummy": {"logits": {"atol": 3.0}}}
    golden = parse(document).golden
    assert golden.tolerance_of("dummy", "logits").atol == 3.0
    assert golden.tolerance_of("dummy", "probabilities") == golden.tolerance["dummy"]


def test_the_json_schema_in_the_repository_is_the_generated_one() -> None:
    written = json.loads((REPOSITORY / "models" / "manifest.schema.json").read_text())
    assert written == Manifest.model_json_schema()


@pytest.mark.parametrize("name", ["1", "10", "999999999"])
def test_a_positive_integer_is_a_version(name: str) -> None:
    assert is_version(name)


@pytest.mark.parametrize("name", ["0", "01", "-1", "+1", "1.0", "v1", "", " 1", "1\n", "²", "١", "1234567890"])  # noqa: RUF001
def test_anything_else_is_no_version(name: str) -> None:
    assert not is_version(name)
