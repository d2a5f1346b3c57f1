import dataclasses
import warnings
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import torch

from app import backends
from app.bundle.loader import open_bundle
from app.serving.proof import prove
from app.tensors import take
from tests.support.bundles import open_folder
from tests.support.committed import LATEST
from tests.support.exported import MAX_STEPS, SCORES, SERIES, Recurrent, recurrent, series
from training import architectures
from training.errors import NotProven
from training.export import onnx, variants, verdicts, verify
from training.export.golden import response
from training.export.variants import Subject, choose, rounded_up, served_of

FIXTURE = np.load(Path(__file__).parents[3] / "fixtures" / "fashion_mnist_test_512.npz")
PICTURES = {"image": FIXTURE["images"].astype(np.float32)}
LABELS = FIXTURE["labels"]


def accuracy(outputs):
    rows = len(outputs["logits"])
    return float((outputs["logits"].argmax(1) == LABELS[:rows]).mean())


@pytest.fixture(scope="module")
def bundle():
    return open_bundle(LATEST["mlp"])


@pytest.fixture(scope="module")
def subject(bundle):
    manifest = bundle.manifest
    return Subject(
        served=served_of(bundle),
        inputs=manifest.inputs,
        outputs=manifest.outputs,
        graph=bundle.read(bundle.artifact("onnx")),
        golden=bundle.golden(),
        calibration=take(PICTURES, 256, 512),
        validation=take(PICTURES, 128, 192),
        test=take(PICTURES, 0, 128),
        score=accuracy,
        respond=lambda outputs: [response(row_C, manifest.task.labels) for row_C in outputs["probabilities"]],
    )


def smaller_network():
    """A network of other answers, far smaller than the trained one."""
    torch.manual_seed(0)
    return architectures.as_served(architectures.build("mlp", {"hidden": [8]})).eval()


PLAIN = ("torchscript", "torch_export", verdicts.MOBILE)


def test_plain_forms_are_shipped_with_the_tolerance_of_plain_forms(subject):
    choice = choose(subject, keys=PLAIN)
    assert [each.artifact.key for each in choice.shipped] == list(PLAIN)
    assert choice.rejected == ()
    for each in choice.shipped:
        assert set(each.tolerance.values()) == {variants.parts.TOLERANCE}
        assert (
            each.artifact.test_accuracy
            == each.figures.score
            == accuracy(verify.onnx_runner(subject.graph)(subject.test))
        )
        assert each.artifact.parity.max_abs_difference < 1e-5
        assert set(each.artifact.latency_ms) == {"1", "32"}
        assert each.artifact.size_bytes == len(each.files[each.artifact.path])


def timer(reference_ms, variant_ms):
    """Return a timer that tells these milliseconds, in the order in which the two are timed."""
    told = cycle([reference_ms, variant_ms])
    return lambda run, rows: {"1": next(told), "32": 10.0}


def test_int8_states_what_it_differs_by_and_is_measured(subject):
    (found,) = choose(subject, keys=[verdicts.INT8], timer=timer(2.0, 1.0)).shipped
    assert found.figures.size_bytes * 3 < len(subject.graph)
    assert (found.figures.latency_ms["1"], found.figures.reference_latency_ms["1"]) == (1.0, 2.0)
    assert found.tolerance["logits"].atol > found.tolerance["probabilities"].atol > variants.parts.TOLERANCE.atol


def test_int8_that_is_not_faster_is_not_shipped(subject):
    (found,) = choose(subject, keys=[verdicts.INT8], timer=timer(1.0, 2.0)).rejected
    assert found.reason == "is not faster: 2 ms against 1 for 1, 10 ms against 10 for 32"
    assert found.figures.latency_ms["1"] == 2.0


def test_a_pruned_network_that_forgot_everything_is_not_shipped(subject):
    choice = choose(dataclasses.replace(subject, pruned=smaller_network), keys=[verdicts.PRUNED])
    (found,) = choice.rejected
    assert (choice.shipped, found.key) == ((), verdicts.PRUNED)
    assert found.reason.startswith("loses ")
    assert found.figures.size_bytes < len(subject.graph) / 10


def test_a_pruned_network_has_golden_rows_of_its_own(subject, bundle, tmp_path):
    # so that it is not refused for what it lost
    forgiving = dataclasses.replace(subject, pruned=smaller_network, score=lambda outputs: 1.0, has_accuracy=False)
    choice = choose(forgiving, keys=[verdicts.PRUNED], timer=timer(2.0, 1.0))
    (found,) = choice.shipped
    assert set(found.tolerance.values()) == {variants.parts.TOLERANCE}
    assert found.artifact.test_accuracy is None
    folder = verdicts.extend(bundle, choice, tmp_path)
    opened = open_folder(folder)
    key, backend = backends.load(verdicts.PRUNED, opened, threads=1)
    own, shared = opened.golden(key), opened.golden()
    assert own.requests == shared.requests
    assert not np.allclose(own.outputs["probabilities"], shared.outputs["probabilities"], atol=0.1)
    assert own.responses[0] == response(own.outputs["probabilities"][0], bundle.manifest.task.labels)
    prove(backend.run, opened.manifest, own, key)


def test_a_pruned_network_needs_to_know_how_to_answer(subject):
    with pytest.raises(ValueError, match=r"needs Subject\.respond"):
        choose(dataclasses.replace(subject, pruned=smaller_network, respond=None), keys=[verdicts.PRUNED])


def test_a_form_that_answers_otherwise_than_the_network_is_not_shipped(subject):
    """The graph is that of another network than the one that was trained."""
    other = onnx.dump(smaller_network(), subject.inputs, subject.outputs)
    choice = choose(dataclasses.replace(subject, graph=other), keys=[verdicts.MOBILE])
    (found,) = choice.rejected
    assert found.reason.startswith("golden rows of onnx-mobile: output 'logits' differs by")
    assert found.figures is None


def test_a_network_that_cannot_be_written_is_told_and_the_others_go_on(subject):
    class Unwritable(torch.nn.Module):
        def forward(self, image):
            return served_module(image) if float(image.sum()) >= 0 else None

    served_module = subject.served
    choice = choose(dataclasses.replace(subject, served=Unwritable()), keys=["torch_export", verdicts.MOBILE])
    assert [each.artifact.key for each in choice.shipped] == [verdicts.MOBILE]
    (found,) = choice.rejected
    assert found.key == "torch_export"
    assert found.reason.startswith("torch.export cannot export the network")


def test_only_what_is_wanted_is_built(subject):
    assert choose(subject, keys=[]) == verdicts.Choice(shipped=(), rejected=())
    with pytest.raises(ValueError, match=r"no variants \['onnx-int4'\]; there are: onnx-int8, torchscript"):
        choose(subject, keys=["onnx-int4"])


def test_what_became_of_each_is_said(subject):
    lines = []
    choose(subject, keys=["torchscript"], say=lines.append)
    (line,) = lines
    assert line.startswith("torchscript: 0.")
    assert line.endswith(": shipped")


def test_a_bundle_is_written_again_with_what_is_shipped(subject, bundle, tmp_path):
    choice = choose(subject, keys=PLAIN)
    for _ in range(2):  # what was built before is replaced
        folder = verdicts.extend(bundle, choice, tmp_path)
    opened = open_folder(folder)
    before = [artifact.key for artifact in bundle.manifest.artifacts]
    assert [artifact.key for artifact in opened.manifest.artifacts] == [*before, *PLAIN]
    assert (folder / "report" / "history.json").exists()
    assert (folder / "model.required_operators.config").exists()
    for key in PLAIN:
        _, backend = backends.load(key, opened, threads=1, allowed=("torchscript",))
        prove(backend.run, opened.manifest, opened.golden(key), key)
    assert list(opened.manifest.artifacts[: len(before)]) == list(bundle.manifest.artifacts)


def test_a_recurrent_network_says_which_axis_is_fixed(tmp_path):
    given = series(12)
    golden_outputs = verify.eager_runner(recurrent(), ("logits", "probabilities"))(given)
    golden = variants.GoldenRows(
        requests=[{}] * 12, inputs=given, outputs=golden_outputs, responses=[{}] * 12
    )  # fmt: skip
    with warnings.catch_warnings():
        # torch says several things of its own way with recurrent layers
        warnings.simplefilter("ignore")
        graph = onnx.dump(recurrent(), SERIES, SCORES)
    subject = Subject(
        served=recurrent(),
        inputs=SERIES,
        outputs=SCORES,
        graph=graph,
        golden=golden,
        calibration=given,
        validation=given,
        test=series(64, seed=1),
        score=lambda outputs: 1.0,
        int8="weight_only",
        longest={"time": MAX_STEPS},
    )
    choice = choose(subject, keys=["torchscript", "torch_export"])
    assert [(each.artifact.key, each.artifact.fixed_axes) for each in choice.shipped] == [
        ("torchscript", {}),
        ("torch_export", {"time": MAX_STEPS}),
    ]
    assert isinstance(recurrent().network, Recurrent)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, 1e-4), (1e-5, 1e-4), (0.021, 0.03), (0.03, 0.03), (1.0, 1.0), (11.2, 20.0), (95, 100.0)],
)
def test_tolerances_are_rounded_up_to_one_digit(value, expected):
    assert rounded_up(value) == pytest.approx(expected)
    assert rounded_up(value) >= value


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_difference_that_is_not_finite_is_no_tolerance(value):
    with pytest.raises(NotProven, match="the outputs differ by"):
        rounded_up(value)
