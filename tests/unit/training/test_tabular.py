"""The way of a table from data to bundle, with recipes made small."""

import dataclasses
import json
import re

import numpy as np
import pytest

from app.bundle.manifest import TabularClassification, TabularRegression
from tests.support.small_training import export
from training import architectures, cli, data, pipeline, tabular
from training.config import recipe
from training.errors import NonFiniteLoss, NotProven, VersionExists
from training.evaluate import score_values
from training.export import state_dict, verify

SMALL = {"epochs": 12, "folds": 3, "patience": 5}
NAMES = ["numpy_mlp", "numpy_regression"]


@pytest.fixture(scope="module", params=NAMES)
def config(request):
    return recipe(request.param, **SMALL)


@pytest.fixture(scope="module")
def table(config):
    return data.load(config.data_set)


@pytest.fixture(scope="module")
def problem(config, table):
    return pipeline.problem_of(config, table)


@pytest.fixture(scope="module")
def trained(config, table):
    return tabular.train(config, table)


def test_both_formats_are_proven_and_measured_on_the_whole_test_split(exported, table):
    manifest = exported[0].manifest
    assert [artifact.format for artifact in manifest.artifacts] == ["onnx", "state_dict"]
    for artifact in manifest.artifacts:
        assert artifact.parity.rows == len(table.test)
        assert artifact.parity.max_abs_difference < (1e-5 if table.classes else 1e-3)
        assert artifact.parity.label_agreement == (1.0 if table.classes else None)
        assert artifact.test_accuracy == manifest.metrics.get("accuracy")
        assert set(artifact.latency_ms) == {"1", "32"}


def test_the_golden_rows_hold_edges_and_no_row_of_the_test_split(exported, table):
    golden = exported[0].golden()
    assert len(golden) >= 16
    inputs = golden.inputs["features"]
    low = np.array([feature.low for feature in table.features]).clip(0)
    np.testing.assert_array_equal(inputs[0], low.astype(np.float32))
    np.testing.assert_array_equal(inputs[1], table.train.features.min(axis=0).astype(np.float32))
    np.testing.assert_array_equal(inputs[2], table.train.features.max(axis=0).astype(np.float32))
    test = {row.tobytes() for row in table.test.features.astype(np.float32)}
    assert not test & {row.tobytes() for row in inputs}
    for request, row in zip(golden.requests, inputs, strict=True):
        assert list(request["features"]) == [feature.name for feature in table.features]
        np.testing.assert_array_equal(np.array(list(request["features"].values()), np.float32), row)


def test_the_manifest_rebuilds_the_network(exported, config):
    bundle = exported[0]
    architecture = bundle.manifest.architecture
    assert architecture.name == "numpy_mlp"
    network = architectures.build(architecture.name, architecture.config)
    state_dict.load(network, bundle.read(bundle.artifact("state_dict")))
    outputs = tuple(spec.name for spec in bundle.manifest.outputs)
    golden = bundle.golden()
    actual = verify.eager_runner(architectures.as_served(network).eval(), outputs)(golden.inputs)
    for name, expected in golden.outputs.items():
        np.testing.assert_allclose(actual[name], expected, rtol=1e-5, atol=1e-4)


def test_the_task_names_columns_and_answer(exported, table):
    manifest = exported[0].manifest
    assert isinstance(manifest.task, TabularClassification if table.classes else TabularRegression)
    assert manifest.task.features == table.features
    assert set(manifest.input_statistics) == {f"features/{feature.name}" for feature in table.features}
    first = manifest.input_statistics[f"features/{table.features[0].name}"]
    assert first.mean == pytest.approx(table.train.features[:, 0].mean(), rel=1e-5)
    assert sum(first.histogram) == pytest.approx(1, abs=1e-4)


def test_the_simple_model_is_reported_beside_the_network(exported, table, config):
    metrics = exported[0].manifest.metrics
    score, baseline = ("accuracy", "logistic_regression") if table.classes else ("r2", "ridge")
    for name in (score, f"validation_{score}", f"baseline/{baseline}/{score}", f"cross_validation/{score}_mean",
                 f"cross_validation/{score}_std", f"cross_validation/{baseline}/{score}_mean"):  # fmt: skip
        assert np.isfinite(metrics[name])
    report = json.loads((exported[0].folder / "report" / "cross_validation.json").read_text())
    assert {len(scores) for scores in report.values()} == {config.folds}
    assert np.mean(report["network"]) == metrics[f"cross_validation/{score}_mean"]
    assert any(line.startswith(f"baseline/{baseline}/{score} 0.") for line in exported[1])


def test_the_record_says_how_the_network_came_to_be(exported, config, trained, table):
    record = exported[0].manifest.training
    assert record.data.files == table.files
    assert record.data.license in ("CC-BY-4.0", "BSD-3-Clause")
    assert (record.seed, record.epochs) == (config.seed, len(trained.history))
    assert record.optimizer["weight_decay"] == config.weight_decay
    assert {"numpy", "scikit-learn"} <= set(record.libraries)


def test_the_same_seed_gives_the_same_weights_to_the_bit(config, table, trained):
    again = tabular.train(config, table)
    other = tabular.train(dataclasses.replace(config, seed=21), table)
    assert again.weights == trained.weights != other.weights


def test_a_taken_version_is_refused(trained, problem, tmp_path):
    assert export(trained, problem, tmp_path).name == "1"
    with pytest.raises(VersionExists):
        export(trained, problem, tmp_path, version=1)


def test_an_artifact_that_answers_otherwise_is_not_exported(trained, problem, tmp_path, monkeypatch):
    honest = verify.onnx_runner

    def lying(graph):
        run = honest(graph)
        return lambda inputs: {name: array * np.float32(1.01) for name, array in run(inputs).items()}

    monkeypatch.setattr(verify, "onnx_runner", lying)
    with pytest.raises(NotProven, match="golden rows of onnx"):
        export(trained, problem, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("network", [{"width": 2}, {"hidden": (0,)}, {"activation": "step"}])
def test_an_impossible_network_is_refused_before_any_training(network):
    with pytest.raises(ValueError, match=next(iter(network))):
        tabular.train(recipe("numpy_mlp", network=network), data.load("breast_cancer"))


@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")
def test_a_learning_rate_that_leads_nowhere_ends_training():
    config = recipe("numpy_regression", learning_rate=1e200, weight_decay=0.0, network={"hidden": ()})
    with pytest.raises(NonFiniteLoss, match="a lower one may help"):
        tabular.train(config, data.load("diabetes"))


def test_r2_is_one_where_all_is_told_and_zero_for_the_mean():
    targets = np.array([1.0, 2.0, 6.0])
    assert dataclasses.astuple(score_values(targets, targets)) == (1.0, 0.0, 0.0)
    assert score_values(np.full(3, 3.0), targets).r2 == 0
    assert score_values(np.array([2.0, 2.0, 4.0]), targets).mae == 1.0


@pytest.mark.parametrize("name", NAMES)
def test_the_command_line_trains_and_lists_it(name, capsys, tmp_path):
    assert cli.main(["train", name, "--epochs", "3", "--no-explanations", "--models-dir", str(tmp_path)]) == 0
    assert f"wrote {tmp_path / name / '1'}" in capsys.readouterr().out
    assert cli.main(["list", "--models-dir", str(tmp_path)]) == 0
    assert re.search(rf"{name}/1 +test (accuracy|r2) -?\d\.\d{{4}}; onnx", capsys.readouterr().out)


def test_a_torch_loader_is_not_for_numpy(capsys):
    assert cli.main(["train", "numpy_mlp", "--loader"]) == 2
    assert "--loader is for torch networks" in capsys.readouterr().err
