"""The tabular bundles of the repository, held to what they promise: their data come with scikit-learn."""

import json
import re

import numpy as np
import pytest

from app.bundle.loader import open_bundle
from tests.support.committed import LATEST
from training import architectures, data, tabular
from training.config import recipe
from training.evaluate import score, score_values
from training.export import state_dict, verify
from training.export.tables import as_inputs

FORMATS = pytest.mark.parametrize("fmt", ["onnx", "state_dict"])
NAMES = ["numpy_mlp", "numpy_regression"]


@pytest.fixture(params=NAMES, scope="module")
def bundle(request):
    return open_bundle(LATEST[request.param])


@pytest.fixture(scope="module")
def table(bundle):
    return data.load(recipe(bundle.manifest.name).data_set)


def run(bundle, fmt, inputs):
    """Return what one artifact makes of inputs, in batches as the service would."""
    content, manifest = bundle.read(bundle.artifact(fmt)), bundle.manifest
    if fmt == "onnx":
        runner = verify.onnx_runner(content)
    else:
        network = architectures.build(manifest.architecture.name, manifest.architecture.config)
        served = architectures.as_served(state_dict.load(network, content)).eval()
        runner = verify.eager_runner(served, tuple(spec.name for spec in manifest.outputs))
    return verify.run_in_batches(runner, inputs, manifest.batching.max_rows)


@FORMATS
def test_the_whole_test_set_gives_the_metrics_of_the_manifest(bundle, table, fmt):
    outputs, metrics = run(bundle, fmt, as_inputs(table.test.features)), bundle.manifest.metrics
    if table.target is None:
        scores = score(outputs["logits"], table.test.targets)
        assert scores.accuracy == metrics["accuracy"] == bundle.manifest.artifact(fmt).test_accuracy
        assert scores.loss == pytest.approx(metrics["loss"], abs=1e-6)
    else:
        assert score_values(outputs["value"], table.test.targets).r2 == pytest.approx(metrics["r2"], abs=1e-6)


@FORMATS
def test_a_row_alone_comes_out_as_in_its_batch(bundle, table, fmt):
    inputs = as_inputs(table.test.features[:40])
    together = run(bundle, fmt, inputs)
    for name, array in together.items():
        alone = np.concatenate([run(bundle, fmt, as_inputs(row[None]))[name] for row in table.test.features[:40]])
        np.testing.assert_allclose(alone, array, rtol=1e-5, atol=1e-5)


def test_the_recipe_still_gives_the_committed_weights(bundle, table):
    """To rounding: other processors add in another order."""
    trained = tabular.train(recipe(bundle.manifest.name), table)
    outputs = trained.reference(as_inputs(table.test.features))
    for name, expected in run(bundle, "onnx", as_inputs(table.test.features)).items():
        np.testing.assert_allclose(outputs[name], expected, rtol=1e-3, atol=1e-3)


def test_breast_cancer_is_above_its_bar_on_ten_folds():
    metrics = open_bundle(LATEST["numpy_mlp"]).manifest.metrics
    assert metrics["cross_validation/accuracy_mean"] >= 0.970
    assert 0 < metrics["cross_validation/accuracy_std"] < 0.03
    assert metrics["cross_validation/logistic_regression/accuracy_mean"] > 0.95


def test_diabetes_is_no_more_than_a_little_behind_ridge_regression():
    metrics = open_bundle(LATEST["numpy_regression"]).manifest.metrics
    assert metrics["r2"] >= metrics["baseline/ridge/r2"] - 0.02
    assert metrics["cross_validation/r2_mean"] >= metrics["cross_validation/ridge/r2_mean"] - 0.02


def test_ten_folds_were_measured(bundle):
    report = json.loads((bundle.folder / "report" / "cross_validation.json").read_text())
    assert {len(scores) for scores in report.values()} == {10}


def test_it_was_made_by_committed_code_and_tells_of_no_machine(bundle):
    assert re.fullmatch(r"[0-9a-f]{40}", bundle.manifest.training.code_revision)
    for path in bundle.folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert len(content) < 200_000
            assert not re.search(rb"/home/|/root/|/tmp/|/usr/|site-packages|stack_trace", content), path.name
