"""The bundles of the repository, held to what they promise."""

import re

import numpy as np
import pytest

from app.bundle.golden import expect_close
from app.bundle.loader import find_bundles, open_bundle
from app.tensors import take
from training import architectures
from training.data import load
from training.evaluate import score
from training.export import state_dict, verify
from training.export.golden import response

FORMATS = pytest.mark.parametrize("fmt", ["onnx", "state_dict"])
BARS = {"mlp": 0.895, "cnn": 0.930}


@pytest.fixture(params=sorted(BARS), scope="module")
def bundle(request, repository):
    (ref,) = [ref for ref in find_bundles(repository / "models") if (ref.name, ref.version) == (request.param, 1)]
    return open_bundle(ref)


@pytest.fixture(scope="module")
def runners(bundle):
    architecture = bundle.manifest.architecture
    network = architectures.build(architecture.name, architecture.config)
    served = architectures.as_served(state_dict.load(network, bundle.read(bundle.artifact("state_dict")))).eval()
    return {
        "onnx": verify.onnx_runner(bundle.read(bundle.artifact("onnx"))),
        "state_dict": verify.eager_runner(served, tuple(spec.name for spec in bundle.manifest.outputs)),
    }


@FORMATS
def test_golden_rows_come_out_as_the_trainer_measured(bundle, runners, fmt):
    golden = bundle.golden()
    expect_close(runners[fmt](golden.inputs), golden.outputs, bundle.manifest.golden.tolerance[fmt], what=fmt)


@FORMATS
def test_a_golden_row_alone_comes_out_as_in_its_batch(bundle, runners, fmt):
    inputs = bundle.golden().inputs
    together = runners[fmt](inputs)
    expect_close(verify.alone(runners[fmt], inputs), together, bundle.manifest.golden.batch_tolerance, what=fmt)


@FORMATS
def test_real_pictures_get_the_labels_that_the_metrics_promise(bundle, runners, fmt, pictures):
    inputs = {"image": pictures.images.astype(np.float32)}
    outputs = verify.run_in_batches(runners[fmt], inputs, bundle.manifest.batching.max_rows)
    # 512 rows scatter by about 0.012 around the accuracy of all 10,000
    assert score(outputs["logits"], pictures.labels).accuracy == pytest.approx(
        bundle.manifest.metrics["accuracy"], abs=0.04
    )
    singles = verify.alone(runners[fmt], take(inputs, 0, 64))
    np.testing.assert_allclose(singles["probabilities"], outputs["probabilities"][:64], rtol=0, atol=1e-5)


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


def test_the_accuracy_is_above_its_bar_and_that_of_every_artifact(bundle):
    accuracy = bundle.manifest.metrics["accuracy"]
    assert accuracy >= BARS[bundle.manifest.name]
    for artifact in bundle.manifest.artifacts:
        assert artifact.test_accuracy == accuracy
        assert artifact.parity.rows == 10_000
        assert artifact.parity.max_abs_difference < 1e-4
        assert artifact.parity.label_agreement == 1.0


def test_a_committed_bundle_was_made_by_committed_code(bundle):
    assert re.fullmatch(r"[0-9a-f]{40}", bundle.manifest.training.code_revision)


def test_no_file_is_large_or_tells_of_the_machine_that_wrote_it(bundle):
    for path in bundle.folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert len(data) < 4_000_000
            assert not re.search(rb"/home/|/root/|/tmp/|/usr/|site-packages|stack_trace", data), path.name


@pytest.mark.needs_data
@FORMATS
def test_the_whole_test_set_gives_the_accuracy_of_the_manifest(bundle, runners, fmt):
    test = load("fashion_mnist").test
    inputs = {"image": test.images.astype(np.float32)}
    outputs = verify.run_in_batches(runners[fmt], inputs, bundle.manifest.batching.max_rows)
    assert score(outputs["logits"], test.labels).accuracy == bundle.manifest.artifact(fmt).test_accuracy
