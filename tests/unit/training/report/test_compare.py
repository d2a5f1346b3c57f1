import json

import pytest

from app.bundle.loader import open_bundle
from tests.support.committed import LATEST
from training.report import as_json, as_table, compare
from training.report.compare import baseline_of, told_size


@pytest.fixture(scope="module")
def manifests():
    return {name: open_bundle(ref).manifest for name, ref in LATEST.items()}


def test_every_artifact_of_every_bundle_gets_a_row(manifests):
    rows = compare(manifests.values())
    assert len(rows) == sum(len(manifest.artifacts) for manifest in manifests.values())
    (onnx,) = [row for row in rows if row.model.startswith("cnn/") and row.format == "onnx"]
    cnn = manifests["cnn"]
    assert (onnx.task, onnx.data, onnx.metric) == ("image_classification", "Fashion-MNIST", "accuracy")
    assert onnx.score == cnn.metrics["accuracy"]
    assert onnx.num_parameters == 421_642
    assert onnx.size_bytes == cnn.artifact("onnx").size_bytes
    assert onnx.latency_32_ms == cnn.artifact("onnx").latency_ms["32"]


def test_a_regression_is_known_by_its_r2_and_stands_beside_ridge(manifests):
    row = compare([manifests["numpy_regression"]])[0]
    assert row.metric == "r2"
    assert row.baseline == "ridge"
    assert 0.5 < row.baseline_score < 0.7
    assert row.test_accuracy is None


def test_a_variant_is_told_apart_from_the_plain_format(manifests):
    cnn = manifests["cnn"]
    plain = cnn.artifact("onnx")
    variant = plain.model_copy(update={"variant": "int8"})
    rows = compare([cnn.model_copy(update={"artifacts": (plain, variant)})])
    assert [row.format for row in rows] == ["onnx", "onnx-int8"]


def test_intervals_are_taken_from_the_metrics(manifests):
    manifest = manifests["cnn"].model_copy(
        update={"metrics": {"accuracy": 0.9, "accuracy_low": 0.89, "accuracy_high": 0.91}}
    )
    row = compare([manifest])[0]
    assert (row.low, row.high) == (0.89, 0.91)
    assert "0.8900 to 0.9100" in as_table([row])


def test_a_manifest_without_metrics_or_with_an_unknown_architecture_has_gaps(manifests):
    manifest = manifests["cnn"]
    unknown = manifest.architecture.model_copy(update={"name": "of-somebody"})
    bare = manifest.model_copy(update={"metrics": {}, "training": None, "architecture": unknown})
    row = compare([bare])[0]
    assert (row.metric, row.score, row.low, row.baseline, row.num_parameters, row.data) == (None,) * 6
    assert "of-somebody" not in as_table([row])


def test_the_table_says_once_what_all_formats_share(manifests):
    lines = as_table(compare(manifests.values())).splitlines()
    assert lines[0].startswith("model")
    for name in manifests:
        assert sum(line.startswith(f"{name}/") for line in lines) == 1
    cnn = next(line for line in lines if line.startswith("cnn/"))
    assert f"accuracy {manifests['cnn'].metrics['accuracy']:.4f}" in cnn
    assert len({line.rstrip() for line in lines}) == len(lines)


def test_rows_are_ready_for_json(manifests):
    rows = compare(manifests.values())
    assert json.loads(json.dumps(as_json(rows)))[0]["model"] == rows[0].model


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"accuracy": 0.9}, None),
        ({"baseline/pca_32/accuracy": 0.8}, ("pca_32", 0.8)),
        ({"ridge/accuracy": 0.8}, ("ridge", 0.8)),
        ({"recall/accuracy": 0.8, "cross_validation/ridge/accuracy": 0.7}, None),
        ({"baseline/ridge/mse": 0.1}, None),
    ],
)
def test_the_baseline_is_found_by_either_name(metrics, expected):
    assert baseline_of(metrics, "accuracy") == expected


def test_sizes_are_told_so_that_small_ones_are_not_nothing():
    assert told_size(1_021) == "1.0 kB"
    assert told_size(1_689_468) == "1.69 MB"
