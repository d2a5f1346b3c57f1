import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from app.bundle.loader import open_bundle
from tests.support.committed import LATEST
from training import baselines, data
from training.export import verify
from training.export.tables import as_inputs
from training.metrics import value_scores
from training.report import evaluate_reconstruction, evaluate_regression


def test_the_committed_regression_is_told_as_its_manifest_has_it(committed_course):
    bundle = open_bundle(LATEST["numpy_regression"])
    run = verify.onnx_runner(bundle.read(bundle.artifact("onnx")))
    table = data.load("diabetes")
    values = {name: run(as_inputs(getattr(table, name).features))["value"] for name in ("train", "validation", "test")}
    told = evaluate_regression(
        name="disease progression",
        unit=None,
        validation_values_N=values["validation"],
        validation_targets_N=table.validation.targets,
        test_values_M=values["test"],
        test_targets_M=table.test.targets,
        course=committed_course("numpy_regression"),
        train_r2=value_scores(values["train"], table.train.targets).r2,
        baseline=baselines.simple_model_of_table(table.train, table.validation, table.test, num_classes=0),
    )
    manifest = bundle.manifest.metrics
    for name in ("r2", "mae", "rmse", "validation_r2"):
        assert told.metrics[name] == pytest.approx(manifest[name], rel=1e-5)
    for name in ("r2", "mae", "mse"):
        assert told.metrics[f"{name}_low"] < told.metrics[name] < told.metrics[f"{name}_high"]
    # 89 rows cannot tell the two apart
    assert told.comparison.winner is None
    assert told.verdict.kind == "good fit"
    assert [plot.name for plot in told.plots] == ["learning_curves", "residuals"]


@pytest.fixture
def rebuild(course, pictures):
    """Return a way to evaluate an autoencoder that adds noise of some strength."""
    images = pictures.images.astype(np.float64)
    test, validation, train = images[:128], images[128:192], pictures.images[192:]
    rng = np.random.default_rng(0)

    def build(strength, **more):
        def noisy(array):
            return array + rng.normal(0, 255 * strength, array.shape)

        return evaluate_reconstruction(
            originals_MHW=test,
            reconstructions_MHW=noisy(test),
            validation_originals_NHW=validation,
            validation_reconstructions_NHW=noisy(validation),
            low=0.0,
            high=255.0,
            threshold=1.05 * strength**2,
            course=dataclasses.replace(course, validation_scores=None),
            baseline=baselines.principal_components(train, pictures.images[:128], 16),
            **more,
        )

    return build


def test_errors_are_told_on_a_scale_from_0_to_1(rebuild):
    told = rebuild(0.1)
    assert told.metrics["mse"] == pytest.approx(0.01, rel=0.02)
    assert told.metrics["mse_low"] < told.metrics["mse"] < told.metrics["mse_high"]
    assert told.metrics["validation_mse"] == pytest.approx(0.01, rel=0.02)
    assert 0 < told.metrics["anomaly_share"] < 0.5
    assert told.main_metric == "mse"
    assert [plot.name for plot in told.plots] == ["learning_curves", "reconstructions", "errors"]


@pytest.mark.parametrize(("strength", "winner"), [(0.05, "network"), (0.5, "simple model")])
def test_a_linear_code_may_win(rebuild, strength, winner):
    told = rebuild(strength)
    assert told.comparison.winner == winner
    assert told.comparison.name == "pca_16"
    assert told.metrics["baseline/pca_16/mse"] == told.comparison.metrics["mse"]


def test_pictures_of_another_kind_are_told_apart(rebuild):
    others = np.linspace(0.009, 0.02, 50)
    told = rebuild(0.1, other_errors_K=others, other_name="noise")
    assert told.metrics["anomaly_recall"] == (others > 1.05 * 0.1**2).mean()
    assert 0.8 < told.metrics["anomaly_roc_auc"] < 1.0
    far = rebuild(0.1, other_errors_K=others + 1)
    assert far.metrics["anomaly_roc_auc"] == 1.0 == roc_auc_score([0, 1], [0, 1])


def test_the_verdict_knows_a_wide_gap(rebuild):
    assert rebuild(0.1, train_r2=0.999).verdict.kind == "overfitting"
    assert rebuild(0.05, train_r2=0.97).verdict.kind == "good fit"


@pytest.mark.slow
def test_the_files_are_the_same_every_time_and_small(course, pictures):
    def once():
        rebuilt = pictures.images[:20] // 2
        return evaluate_reconstruction(
            originals_MHW=pictures.images[:20],
            reconstructions_MHW=rebuilt,
            validation_originals_NHW=pictures.images[:20],
            validation_reconstructions_NHW=rebuilt,
            low=0.0,
            high=255.0,
            threshold=0.1,
            course=course,
        ).files()

    files = once()
    assert files == once()
    assert max(len(content) for content in files.values()) < 100_000


def test_pictures_that_do_not_match_are_refused(course):
    with pytest.raises(ValueError, match="cannot score pictures"):
        evaluate_reconstruction(
            originals_MHW=np.zeros((3, 4, 4)),
            reconstructions_MHW=np.zeros((2, 4, 4)),
            validation_originals_NHW=np.zeros((3, 4, 4)),
            validation_reconstructions_NHW=np.zeros((3, 4, 4)),
            low=0,
            high=1,
            threshold=0.1,
            course=course,
        )
