"""The bundles of the repository, held to what they promise."""

import re

import numpy as np
import pytest

from app.bundle.golden import expect_close
from app.bundle.loader import open_bundle
from app.tensors import take
from tests.support.committed import LATEST, MODELS, NAMES, names_of
from training import architectures
from training.config import recipe_names
from training.evaluate import score
from training.export import state_dict, verify
from training.export.golden import response

FORMATS = pytest.mark.parametrize("fmt", ["onnx", "state_dict"])
PICTURES = names_of("image_classification")
# the least that each reaches on its test split
BARS = {
    "autoencoder": {"r2": 0.87},
    "cnn": {"accuracy": 0.930},
    "lstm": {"accuracy": 0.975, "macro_f1": 0.955},
    "mlp": {"accuracy": 0.895},
    "numpy_mlp": {"cross_validation/accuracy_mean": 0.970},
    "numpy_regression": {"r2": 0.578},
    "rnn": {"accuracy": 0.965, "seeds/accuracy_mean": 0.970},
    "transformer": {"accuracy": 0.975, "macro_f1": 0.955},
}
MAX_MB = 25


@pytest.fixture(params=NAMES, scope="module")
def bundle(request):
    return open_bundle(LATEST[request.param])


@pytest.fixture(scope="module")
def runners(bundle):
    manifest = bundle.manifest
    network = architectures.build(manifest.architecture.name, manifest.architecture.config)
    loaded = state_dict.load(network, bundle.read(bundle.artifact("state_dict")))
    served = architectures.as_served(loaded, temperature=manifest.temperature).eval()
    return {
        "onnx": verify.onnx_runner(bundle.read(bundle.artifact("onnx"))),
        "state_dict": verify.eager_runner(served, tuple(spec.name for spec in manifest.outputs)),
    }


def test_every_recipe_has_its_bundle():
    assert sorted(NAMES) == recipe_names() == sorted(BARS)


@FORMATS
def test_golden_rows_come_out_as_the_trainer_measured(bundle, runners, fmt):
    golden, manifest = bundle.golden(), bundle.manifest
    outputs = verify.run_in_batches(runners[fmt], golden.inputs, manifest.batching.max_rows)
    tolerances = {spec.name: manifest.golden.tolerance_of(fmt, spec.name) for spec in manifest.outputs}
    expect_close(outputs, golden.outputs, tolerances, what=fmt)


@FORMATS
def test_a_golden_row_alone_comes_out_as_in_its_batch(bundle, runners, fmt):
    inputs = bundle.golden().inputs
    together = verify.run_in_batches(runners[fmt], inputs, bundle.manifest.batching.max_rows)
    expect_close(verify.alone(runners[fmt], inputs), together, bundle.manifest.golden.batch_tolerance, what=fmt)


@FORMATS
@pytest.mark.parametrize("bundle", PICTURES, indirect=True)
def test_real_pictures_get_the_labels_that_the_metrics_promise(bundle, runners, fmt, pictures):
    inputs = {"image": pictures.images.astype(np.float32)}
    outputs = verify.run_in_batches(runners[fmt], inputs, bundle.manifest.batching.max_rows)
    # 512 rows scatter by about 0.012 around the accuracy of all 10,000
    assert score(outputs["logits"], pictures.labels).accuracy == pytest.approx(
        bundle.manifest.metrics["accuracy"], abs=0.04
    )
    singles = verify.alone(runners[fmt], take(inputs, 0, 64))
    np.testing.assert_allclose(singles["probabilities"], outputs["probabilities"][:64], rtol=0, atol=1e-5)


@pytest.mark.parametrize("bundle", PICTURES, indirect=True)
def test_golden_rows_hold_the_edges_and_their_responses(bundle):
    golden = bundle.golden()
    assert len(golden) >= 16
    assert not golden.inputs["image"][0].any()
    assert (golden.inputs["image"][1] == 255).all()
    for request, image, probabilities, answer in zip(
        golden.requests, golden.inputs["image"], golden.outputs["probabilities"], golden.responses, strict=True
    ):
        np.testing.assert_array_equal(np.array(request["image"], np.float32), image)
        assert answer == response(probabilities, bundle.manifest.task.labels)


def test_it_is_above_its_bar(bundle):
    metrics = bundle.manifest.metrics
    for name, least in BARS[bundle.manifest.name].items():
        assert metrics[name] >= least, name


def test_a_simple_model_stands_beside_it(bundle):
    assert any(name.startswith("baseline/") for name in bundle.manifest.metrics)


def test_every_artifact_answers_as_the_network_does(bundle):
    manifest = bundle.manifest
    num_rows = manifest.training.data.split_rows["test"]
    for artifact in manifest.artifacts:
        assert artifact.parity.rows == num_rows
        if artifact.variant is None:
            assert artifact.test_accuracy == manifest.metrics.get("accuracy")
            has_labels = "accuracy" in manifest.metrics
            # values and pixels are in units of their own, probabilities from 0 to 1
            assert artifact.parity.max_abs_difference < (1e-4 if has_labels else 1e-3)
            assert artifact.parity.label_agreement == (1.0 if has_labels else None)
        elif "accuracy" in manifest.metrics:
            assert artifact.test_accuracy >= manifest.metrics["accuracy"] - 0.005
        else:
            assert artifact.test_accuracy is None


def test_the_autoencoder_beats_what_a_linear_code_of_its_size_can_do():
    metrics = open_bundle(LATEST["autoencoder"]).manifest.metrics
    assert metrics["mse"] <= 0.0115 < 0.015 < metrics["baseline/pca_32/mse"]
    assert metrics["anomaly_roc_auc"] > 0.8


def test_it_was_made_by_committed_code(bundle):
    assert re.fullmatch(r"[0-9a-f]{40}", bundle.manifest.training.code_revision)


def test_no_file_is_large_or_tells_of_the_machine_that_wrote_it(bundle):
    for path in bundle.folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert len(data) < 4_000_000
            assert not re.search(rb"/home/|/root/|/tmp/|/usr/|site-packages|stack_trace", data), path.name


def test_all_of_them_are_small():
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) < MAX_MB * 1e6


def test_the_report_has_a_card_and_its_plots(bundle):
    card = (bundle.folder / "report" / "model_card.md").read_text()
    plots = re.findall(r"!\[[^]]+\]\(([^)]+)\)", card)
    assert "learning_curves.svg" in plots
    for plot in plots:
        assert (bundle.folder / "report" / plot).is_file()
    assert (bundle.folder / "report" / "explain" / "figures.json").is_file()


@pytest.mark.parametrize("bundle", names_of("text_classification"), indirect=True)
def test_no_text_of_a_mail_and_no_address_is_in_a_bundle(bundle):
    for path in bundle.folder.rglob("*"):
        if path.suffix in (".json", ".md", ".svg"):
            text = path.read_text()
            assert not re.search(r"[\w.]+@[\w-]+\.\w+", text), path.name
            assert path.suffix == ".svg" or not re.search(r"https?://(?!arxiv)", text), (
                path.name
            )  # of the format itself
