import json

import numpy as np
import pytest

from app.bundle.loader import find_bundles, open_bundle
from tests.support.committed import MODELS, copy_as_first
from training.commands._variants import as_table
from training.export import variants, verify
from training.export.verdicts import KEYS


@pytest.fixture
def all_earned(monkeypatch):
    """Whether a format is shipped depends on timings; let each that is proven be."""
    monkeypatch.setattr(variants, "fault_of", lambda *arguments, **settings: None)


@pytest.mark.usefixtures("small", "all_earned")
def test_every_format_of_a_bundle_is_built_into_a_complete_one(command, models_dir, tmp_path, digests):
    before = digests(models_dir)
    output = tmp_path / "built"
    code, out, err = command("models", "--models-dir", models_dir, "--output", output, "--fine-tune-epochs", 1)
    assert code == 0, err
    assert digests(models_dir) == before

    (ref,) = find_bundles(output)
    bundle = open_bundle(ref)
    keys = [artifact.key for artifact in bundle.manifest.artifacts]
    assert keys == ["onnx", "state_dict", *KEYS]
    for artifact in bundle.manifest.artifacts:
        assert bundle.read(artifact)
        assert len(bundle.golden(artifact.key)) == bundle.manifest.golden.rows
    former = {path: digest for path, digest in before.items() if not path.endswith("manifest.json")}
    assert former.items() <= digests(output).items()

    told = json.loads((output / "variants.json").read_text())
    assert [row["key"] for row in told["variants"]] == keys
    assert told["failed"] == []
    for row, artifact in zip(told["variants"], bundle.manifest.artifacts, strict=True):
        assert (row["model"], row["score_name"], row["shipped"]) == ("mlp/1", "accuracy", True)
        assert (row["score"], row["size_bytes"]) == (artifact.test_accuracy, artifact.size_bytes)
        assert set(row["latency_ms"]) == {"1", "32"}
    assert all(any(line.split()[:2] == ["mlp/1", key] for line in out.splitlines()) for key in keys)


@pytest.mark.usefixtures("small", "all_earned")
def test_a_pruned_network_has_half_the_units_and_answers_its_own_golden_rows(command, models_dir, tmp_path):
    options = (
        "--formats",
        "onnx-pruned",
        "--prune-share",
        0.5,
        "--fine-tune-epochs",
        4,
        "--output",
        tmp_path / "built",
    )
    assert command("models", "mlp/1", *options, "--models-dir", models_dir)[0] == 0
    bundle = open_bundle(find_bundles(tmp_path / "built")[0])
    pruned, whole = bundle.artifact("onnx-pruned"), bundle.artifact("onnx")
    assert pruned.size_bytes < 0.7 * whole.size_bytes
    assert pruned.test_accuracy > whole.test_accuracy - 0.2
    golden = bundle.golden("onnx-pruned")
    outputs = verify.onnx_runner(bundle.read(pruned))(golden.inputs)
    np.testing.assert_allclose(outputs["probabilities"], golden.outputs["probabilities"], atol=1e-4)
    told = [prediction["index"] for prediction in golden.responses]
    assert told == golden.outputs["probabilities"].argmax(axis=1).tolist()


def test_what_is_not_shipped_says_why(command, tmp_path):
    code, out, err = command("models", "numpy_regression", "--models-dir", MODELS, "--output", tmp_path / "built")
    assert code == 0, err
    rows = {row["key"]: row for row in json.loads((tmp_path / "built" / "variants.json").read_text())["variants"]}
    assert set(rows) == {"onnx", "state_dict", "onnx-int8", "torchscript", "torch_export", "onnx-mobile"}
    assert rows["onnx"]["score"] == pytest.approx(0.6158, abs=1e-4)
    assert rows["onnx-int8"]["reason"].startswith("is not smaller")
    assert "not shipped: is not smaller" in out
    manifest = open_bundle(find_bundles(tmp_path / "built")[0]).manifest
    assert manifest.artifact("onnx-int8") is None
    assert manifest.artifact("torchscript") is not None


@pytest.mark.usefixtures("no_data")
def test_a_damaged_bundle_and_missing_data_hide_no_other(command, tmp_path):
    models = tmp_path / "models"
    for name in ("cnn", "mlp", "numpy_mlp"):
        copy_as_first(name, models)
    (models / "mlp" / "1" / "manifest.json").write_text("{")
    code, out, err = command(
        "models", "--models-dir", models, "--output", tmp_path / "built", "--formats", "torchscript"
    )
    assert code == 2
    assert "cnn/1 (Fashion-MNIST is not in" in err
    assert "mlp/1 (mlp/1: manifest.json is not valid" in err
    assert err.count("\n") == 1
    assert "numpy_mlp/1  torchscript" in out
    assert [ref.name for ref in find_bundles(tmp_path / "built")] == ["numpy_mlp"]
    told = json.loads((tmp_path / "built" / "variants.json").read_text())
    assert [each["model"] for each in told["failed"]] == ["cnn/1", "mlp/1"]


def test_built_again_the_former_bundle_is_replaced(told, tmp_path):
    options = ("numpy_mlp", "--models-dir", MODELS, "--output", tmp_path / "built", "--formats", "torchscript")
    for _ in range(2):
        found = told("models", *options)
        assert [row["key"] for row in found["variants"]] == ["onnx", "state_dict", "torchscript"]
    assert len(find_bundles(tmp_path / "built")) == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["gnn"], "there is no bundle 'gnn'"),
        (["numpy_mlp", "--formats", "tflite"], "tflite"),
        (["numpy_mlp", "--prune-share", "1"], "--prune-share must be above 0 and below 1"),
        (["numpy_mlp", "--fine-tune-epochs", "0"], "--fine-tune-epochs"),
        (["numpy_mlp", "--output", str(MODELS)], "choose another --output"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[:2]),
)
def test_what_cannot_be_is_named(refused, arguments, named):
    assert named in refused("models", *arguments, "--models-dir", MODELS)


def test_a_score_is_told_by_its_name():
    row = {
        "model": "autoencoder/1",
        "key": "onnx",
        "score_name": "r2",
        "shipped": True,
        "score": 0.9247,
        "size_bytes": 1_200_000,
        "latency_ms": {"1": 0.25, "32": 4.5},
    }
    assert as_table([row]).splitlines()[1].split() == [
        *("autoencoder/1", "onnx", "r2", "0.9247", "1.20", "MB", "0.250", "4.500", "shipped")
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("small", "all_earned")
def test_a_network_that_reads_series_is_built_from_its_bundle_and_evaluated(command, told, tmp_path):
    assert command("train", "rnn", "--epochs", 2, "--no-explanations")[0] == 0
    assert command("models", "rnn", "--formats", "torch_export", "onnx-mobile")[0] == 0
    built = tmp_path / "build" / "models"
    artifact = open_bundle(find_bundles(built)[0]).artifact("torch_export")
    assert artifact.fixed_axes == {"time": 7}
    for key in ("torch_export", "onnx-mobile"):
        found = told("evaluate", "rnn", "--artifact", key, "--models-dir", built)
        assert (found["rows"], found["differing"]) == (45, [])


def test_a_format_that_could_not_be_built_leaves_gaps_in_the_table():
    row = {
        "model": "rnn/1",
        "key": "torchscript",
        "score_name": "accuracy",
        "shipped": False,
        "score": None,
        "size_bytes": None,
        "latency_ms": None,
        "reason": "the network cannot be traced",
    }
    assert as_table([row]).splitlines()[1].split(maxsplit=2) == [
        "rnn/1",
        "torchscript",
        "not shipped: the network cannot be traced",
    ]
