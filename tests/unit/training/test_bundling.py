import dataclasses
import json
import resource
from contextlib import contextmanager

import numpy as np
import pytest

from app.bundle.loader import find_bundles, open_bundle
from tests.support import slices
from training import architectures, bundling, pipeline, tabular
from training.config import NumpyConfig
from training.errors import NonFiniteLoss
from training.evaluate import cross_entropy
from training.export import state_dict, verify
from training.export.verdicts import INT8
from training.inference import outputs_of
from training.report import MODEL_CARD


@contextmanager
def disk_of(num_bytes):
    """Let no file grow beyond so many bytes; a write beyond them fails as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def only_bundle(models_dir):
    (ref,) = find_bundles(models_dir)
    return open_bundle(ref)


@pytest.fixture(scope="module")
def sure(problem, small_config):
    """A network that has learned its pictures by heart, and is surer than it is right."""
    return pipeline.train(small_config(epochs=40, learning_rate=5e-3, patience=40), problem)


@pytest.fixture(scope="module")
def calibrated(sure, problem, tmp_path_factory):
    models_dir = tmp_path_factory.mktemp("models")
    bundling.export(sure, problem, models_dir, explained=False)
    return only_bundle(models_dir)


def test_logits_in_the_graph_are_divided_by_the_temperature(calibrated, sure, problem):
    temperature = calibrated.manifest.temperature
    assert temperature == problem.temperature(sure.network)
    assert temperature > 1.05
    inputs = problem.tensors(problem.data.test)
    names = ("logits", "probabilities")
    plain = verify.eager_runner(architectures.as_served(sure.network).eval(), names)(inputs)["logits"]
    found = verify.onnx_runner(calibrated.read(calibrated.artifact("onnx")))(inputs)
    np.testing.assert_allclose(found["logits"], plain / temperature, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["probabilities"].sum(axis=1), 1, rtol=1e-5)


def test_weights_are_shipped_without_the_temperature_and_the_manifest_puts_it_back(calibrated, sure, problem):
    manifest = calibrated.manifest
    network = architectures.build(manifest.architecture.name, manifest.architecture.config)
    state_dict.load(network, calibrated.read(calibrated.artifact("state_dict")))
    inputs = problem.tensors(problem.data.test)
    names = ("logits", "probabilities")
    plain = verify.eager_runner(architectures.as_served(network).eval(), names)(inputs)
    trained = verify.eager_runner(architectures.as_served(sure.network).eval(), names)(inputs)
    np.testing.assert_allclose(plain["logits"], trained["logits"], rtol=1e-5, atol=1e-5)
    served = architectures.as_served(network, temperature=manifest.temperature).eval()
    golden = calibrated.golden()
    np.testing.assert_array_equal(verify.eager_runner(served, names)(golden.inputs)["logits"], golden.outputs["logits"])


def test_the_report_tells_what_the_temperature_does_to_the_plain_network(calibrated, sure, problem):
    metrics, temperature = calibrated.manifest.metrics, calibrated.manifest.temperature
    (plain_NC,) = outputs_of(sure.network, problem.examples(problem.data.test))
    labels_N = problem.data.test.labels
    assert metrics["loss_uncalibrated"] == pytest.approx(cross_entropy(plain_NC, labels_N), rel=1e-5)
    assert metrics["loss"] == pytest.approx(cross_entropy(plain_NC / temperature, labels_N), rel=1e-5)
    assert metrics["validation_loss"] == sure.validation["validation_loss"]
    assert f"{temperature:.4g}, fitted on the validation rows" in (calibrated.folder / MODEL_CARD).read_text()


def test_the_files_of_the_report_are_there_and_can_be_read(calibrated):
    folder = calibrated.folder / "report"
    assert len(json.loads((folder / "history.json").read_text())) == 40
    rows = {row["key"]: row for row in json.loads((folder / "variants.json").read_text())}
    assert set(rows) == {"onnx", "state_dict", INT8}
    assert rows["onnx"]["score"] == calibrated.manifest.metrics["accuracy"]
    assert list(folder.glob("*.svg"))


def test_a_disk_that_is_full_while_a_bundle_is_written_keeps_nothing_of_it(sure, problem, tmp_path):
    # before the first whole file, and in the middle of the weights
    for num_bytes in (4_096, 65_536):
        assert len(sure.weights) > num_bytes
        with disk_of(num_bytes), pytest.raises(OSError, match="File too large; nothing of the bundle is left"):
            bundling.export(sure, problem, tmp_path, variants=(), explained=False)
        assert list(tmp_path.iterdir()) == []


def test_an_unknown_variant_is_named_and_nothing_is_written(trained, problem, tmp_path):
    with pytest.raises(ValueError, match="onnx-int4"):
        bundling.export(trained, problem, tmp_path, variants=("onnx-int4",), explained=False)
    assert list(tmp_path.iterdir()) == []


def test_what_goes_wrong_after_the_proof_leaves_nothing(trained, problem, tmp_path):
    class Failing:
        def __getattr__(self, name):
            return getattr(problem, name)

        def evaluate(self, found):
            raise NonFiniteLoss("no report")

    with pytest.raises(NonFiniteLoss):
        bundling.export(trained, Failing(), tmp_path, variants=(), explained=False)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_was_trained_elsewhere_has_no_temperature(tmp_path):
    config = NumpyConfig(name="table", data_set="breast_cancer", epochs=5, folds=2)
    table = slices.load("breast_cancer")
    bundling.export(
        tabular.train(config, table), pipeline.problem_of(config, table), tmp_path, variants=(), explained=False
    )
    manifest = only_bundle(tmp_path).manifest
    assert manifest.calibration is None
    assert manifest.temperature == 1


def test_what_the_trainer_measured_besides_is_told_too(trained, problem, tmp_path):
    more = dataclasses.replace(trained, further_metrics={"seeds/accuracy_mean": 0.5}, further_reports={"seeds": [1]})
    bundling.export(more, problem, tmp_path, variants=(), explained=False)
    bundle = only_bundle(tmp_path)
    assert bundle.manifest.metrics["seeds/accuracy_mean"] == 0.5
    assert json.loads((bundle.folder / "report" / "seeds.json").read_text()) == [1]


@pytest.mark.slow
def test_a_network_that_is_explained_has_pictures_of_it_in_its_report(trained, problem, tmp_path):
    said = []
    bundling.export(trained, problem, tmp_path, variants=(), say=said.append)
    folder = only_bundle(tmp_path).folder
    bundling.export(trained, problem, tmp_path, variants=(), explained=False)
    other = tmp_path / "mlp" / "2"
    more = {path.relative_to(folder) for path in folder.rglob("*")} - {
        path.relative_to(other) for path in other.rglob("*")
    }
    assert any(path.suffix in {".png", ".svg"} for path in more)
    assert any(line.startswith("explanations: ") for line in said)
