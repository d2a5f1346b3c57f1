import dataclasses
import json

import numpy as np
import pytest
import torch

from tests.support.small_training import export
from training import architectures, pipeline
from training.errors import ConfigError, Interrupted, NotProven, VersionExists
from training.export import onnx, state_dict, verify
from training.provenance import code_revision


def test_both_formats_are_proven_and_measured_on_the_whole_test_split(exported, small_data):
    manifest = exported[0].manifest
    assert [artifact.format for artifact in manifest.artifacts] == ["onnx", "state_dict"]
    for artifact in manifest.artifacts:
        assert artifact.parity.rows == len(small_data.test)
        assert artifact.parity.max_abs_difference < 1e-5
        assert artifact.parity.label_agreement == 1.0
        assert artifact.test_accuracy == manifest.metrics["accuracy"]
        assert set(artifact.latency_ms) == {"1", "32"}
    assert manifest.artifact("state_dict").parity.max_abs_difference == 0


def test_every_file_is_the_one_that_the_manifest_describes(exported):
    bundle = exported[0]
    for artifact in bundle.manifest.artifacts:
        assert bundle.read(artifact)
    assert len(bundle.golden()) == bundle.manifest.golden.rows >= 16


def test_the_manifest_rebuilds_the_network(exported, small_data):
    bundle = exported[0]
    manifest = bundle.manifest
    assert manifest.architecture.config["hidden"] == [32]
    assert manifest.architecture.config["input_mean"] == pytest.approx(small_data.train.images.mean(), abs=1e-3)
    network = architectures.build(manifest.architecture.name, manifest.architecture.config)
    state_dict.load(network, bundle.read(bundle.artifact("state_dict")))
    served = architectures.as_served(network, temperature=manifest.temperature).eval()
    golden = bundle.golden()
    outputs = verify.eager_runner(served, ("logits", "probabilities"))(golden.inputs)
    for name, expected in golden.outputs.items():
        np.testing.assert_array_equal(outputs[name], expected)


def test_the_record_says_how_the_network_came_to_be(exported, trained, small_data):
    record = exported[0].manifest.training
    assert (record.seed, record.epochs, record.best_epoch) == (20, 3, trained.best_epoch)
    assert record.data.split_rows == {"train": 320, "validation": 64, "test": 128}
    assert record.data.files == small_data.files
    assert record.optimizer["stopped"] == "finished"
    assert record.duration_s > 0
    assert record.code_revision == trained.code_revision
    assert {"torch", "onnx", "onnxruntime"} <= set(record.libraries)


def test_metrics_are_of_the_test_split_and_name_every_class(exported, small_data, trained):
    metrics = exported[0].manifest.metrics
    assert 0.3 < metrics["accuracy"] <= 1
    assert metrics["validation_accuracy"] == trained.validation["validation_accuracy"]
    recalls = [metrics[f"recall/{label}"] for label in small_data.classes]
    counts = np.bincount(small_data.test.labels, minlength=10)
    assert np.dot(recalls, counts) / counts.sum() == pytest.approx(metrics["accuracy"])


def test_the_report_holds_the_learning_curve_and_the_confusions(exported, small_data):
    folder = exported[0].folder / "report"
    history = json.loads((folder / "history.json").read_text())
    assert [epoch["number"] for epoch in history] == [1, 2, 3]
    confusion = np.array(
        json.loads((folder / "confusion_matrix.json").read_text())["rows_are_true_columns_are_predicted"]
    )
    np.testing.assert_array_equal(confusion.sum(axis=1), np.bincount(small_data.test.labels, minlength=10))


def test_the_export_says_what_it_measured(exported):
    text = "\n".join(exported[1])
    assert "onnx against eager" in text
    assert "state_dict in full batches against alone" in text
    assert "accuracy 0." in text


@pytest.mark.no_cover  # others cover the same lines, and tracing doubles its time
def test_a_second_export_takes_the_next_version_and_a_taken_one_is_refused(trained, problem, tmp_path):
    arguments = (trained, problem, tmp_path)
    assert export(*arguments).name == "1"
    assert export(*arguments).name == "2"
    assert export(*arguments, version=7).name == "7"
    with pytest.raises(VersionExists):
        export(*arguments, version=2)
    twin = (tmp_path / "mlp" / "1" / "weights.safetensors").read_bytes()
    assert twin == (tmp_path / "mlp" / "2" / "weights.safetensors").read_bytes()


def test_an_artifact_that_answers_otherwise_is_not_exported(trained, problem, tmp_path, monkeypatch):
    honest = verify.onnx_runner

    def lying(data):
        run = honest(data)

        def off_by_a_little(inputs):
            return {name: array + np.float32(0.01) for name, array in run(inputs).items()}

        return off_by_a_little

    monkeypatch.setattr(verify, "onnx_runner", lying)
    with pytest.raises(NotProven, match="golden rows of onnx: output 'logits'"):
        export(trained, problem, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_answer_that_depends_on_its_batch_mates_is_not_exported(trained, problem, tmp_path, monkeypatch):
    class Mingling(torch.nn.Module):
        def __init__(self, network, *, temperature=1.0):
            super().__init__()
            self.network = network

        def forward(self, pixels_BHW):
            # as a network with batch statistics would
            logits_BC = self.network(pixels_BHW) + pixels_BHW.mean() * 1e-2
            return logits_BC, torch.softmax(logits_BC, 1)

    monkeypatch.setattr(architectures, "as_served", Mingling)
    monkeypatch.setattr(onnx, "dump", lambda *arguments: b"graph")
    monkeypatch.setattr(
        verify, "onnx_runner", lambda data: verify.eager_runner(Mingling(trained.network), ("logits", "probabilities"))
    )
    with pytest.raises(NotProven, match="in full batches against alone"):
        export(trained, problem, tmp_path)


def test_the_same_seed_gives_the_same_weights_along_both_paths(trained, problem, small_config):
    assert pipeline.train(small_config(), problem, loader=True).weights == trained.weights
    assert pipeline.train(small_config(seed=21), problem).weights != trained.weights


@pytest.mark.parametrize(
    ("changes", "named"), [({"architecture": "gnn"}, "'gnn'"), ({"network": {"width_factor": 2}}, "'width_factor'")]
)
def test_an_impossible_architecture_is_refused_before_any_training(problem, small_config, changes, named):
    with pytest.raises(ValueError, match=named):
        pipeline.train(small_config(**changes), problem)


def test_the_revision_is_that_of_the_code_that_began_the_run(problem, small_config, tmp_path):
    first = pipeline.train(small_config(), problem, run_dir=tmp_path)
    note = tmp_path / pipeline.REVISION_FILE
    assert note.read_text() == first.code_revision == code_revision()
    # the repository moves on, and the run is taken up again
    note.write_text("an older one")
    assert pipeline.train(small_config(), problem, run_dir=tmp_path).code_revision == "an older one"


def test_without_its_checkpoint_a_run_begins_anew_and_so_does_its_revision(problem, small_config, tmp_path):
    (tmp_path / pipeline.REVISION_FILE).write_text("an older one")
    assert pipeline.train(small_config(), problem, run_dir=tmp_path).code_revision == code_revision()


def test_a_checkpoint_that_came_without_its_revision_is_of_an_unknown_one(problem, small_config, tmp_path):
    pipeline.train(small_config(), problem, run_dir=tmp_path)
    (tmp_path / pipeline.REVISION_FILE).unlink()
    assert pipeline.train(small_config(), problem, run_dir=tmp_path).code_revision == "unknown"


@pytest.mark.parametrize("network", [{"num_classes": 11}, {"height": 14}, {"input_mean": 3.0}])
def test_a_recipe_that_contradicts_the_data_is_refused(problem, small_config, network):
    (name,) = network
    with pytest.raises(ConfigError, match=rf"^{name} of the network follows from the data"):
        pipeline.train(small_config(network=network), problem)


def test_a_recipe_may_repeat_what_the_data_say(problem, small_config):
    network = {"num_classes": 10, "hidden": (8,)}
    assert pipeline.train(small_config(network=network, epochs=1), problem).network_config["num_classes"] == 10


def test_only_what_an_architecture_has_a_field_for_is_told_to_it():
    measured = {"height": 28, "num_classes": 10, "vocab_size": 4000}
    assert architectures.known("mlp", measured) == {"height": 28, "num_classes": 10}
    with pytest.raises(ValueError, match="'gnn'"):
        architectures.known("gnn", measured)


def test_other_seeds_tell_how_far_the_score_depends_on_them(trained, problem, small_config):
    said = []
    config = small_config(num_seeds=3)
    found = pipeline.with_other_seeds(trained, config, problem, say=said.append)
    scores = found.further_reports["seeds"]["accuracy"]
    assert len(scores) == len(said) == 3
    assert len(set(scores)) > 1
    assert found.further_metrics["seeds/accuracy_mean"] == pytest.approx(np.mean(scores))
    assert found.further_metrics["seeds/accuracy_std"] == pytest.approx(np.std(scores))
    assert found.weights == trained.weights
    served = trained.run(trained.served(), problem.outputs)
    assert scores[0] == problem.score(served(problem.tensors(problem.data.test)), problem.data.test)


def test_a_seed_that_is_interrupted_is_not_counted_as_trained(trained, problem, small_config, monkeypatch):
    def half(*args, **options):
        return dataclasses.replace(trained, stopped="interrupted")

    monkeypatch.setattr(pipeline, "train", half)
    config = small_config(num_seeds=2)
    with pytest.raises(Interrupted, match=f"interrupted in seed {config.seed + 1}"):
        pipeline.with_other_seeds(trained, config, problem)
