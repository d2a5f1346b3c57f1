import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from training import pipeline
from training.augment import Augmentation
from training.errors import ConfigError
from training.metrics import reconstruction_scores
from training.problems.image_reconstruction import spread


class Dimmed(nn.Module):
    """Draws every picture again, but darker."""

    def forward(self, pixels_BHW):
        return pixels_BHW * 0.5


@pytest.fixture
def case(cases):
    return cases["image_reconstruction"]


def problem_with(case, **options):
    return pipeline.problem_of(dataclasses.replace(case.config, data_options=options), case.problem.data)


def test_loss_and_score_are_those_of_the_report(case):
    images = case.problem.data.validation.images
    scores = reconstruction_scores(images / 510, images / 255)
    found = case.problem.validate(Dimmed())
    assert found.loss == pytest.approx(scores.mse, rel=1e-5)
    assert found.score == pytest.approx(scores.r2, rel=1e-5)
    assert case.problem.score_name == "r2"
    pixels = torch.tensor(images).float()
    assert float(case.problem.loss(pixels * 0.5, pixels)) == pytest.approx(scores.mse, rel=1e-5)


def test_the_served_error_gives_the_same_score_and_no_accuracy(case):
    images = case.problem.data.validation.images
    errors_N = ((images / 510.0) ** 2).mean(axis=(1, 2)).astype(np.float32)
    expected = case.problem.validate(Dimmed()).score
    assert case.problem.score({"error": errors_N}, case.problem.data.validation) == pytest.approx(expected, rel=1e-5)
    assert case.problem.accuracy({"error": errors_N}, case.problem.data.validation) is None
    assert case.problem.temperature(Dimmed()) is None


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
def test_the_threshold_lets_its_share_of_the_validation_pictures_pass(case, quantile):
    problem = problem_with(case, threshold_quantile=quantile)
    settings = problem.settings(case.run)
    errors_N = case.run(problem.tensors(problem.data.validation))["error"]
    assert (errors_N <= settings.threshold).mean() == pytest.approx(quantile, abs=1 / len(errors_N))
    assert settings.threshold_quantile == quantile
    golden = problem.golden(case.run, settings)
    # the edges are none of the pictures that it was taken from
    told = [row["anomaly"] for row in golden.responses]
    assert told == [row["error"] > settings.threshold for row in golden.responses]
    assert any(told)
    assert not all(told)


def test_golden_responses_hold_what_the_network_drew(case):
    for row, told in enumerate(case.golden.responses):
        assert told["code"] == case.golden.outputs["code"][row].tolist()
        assert told["reconstruction"] == case.golden.outputs["reconstruction"][row].tolist()
        assert len(told["code"]) == 32


def test_the_size_of_the_code_is_an_option(case):
    problem = problem_with(case, code_size=5)
    assert problem.measured()["code_size"] == 5
    assert next(spec.shape for spec in problem.outputs if spec.name == "code") == ("batch", 5)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"code_size": 0}, "'code_size' must be above 0"),
        ({"code_size": 8.0}, "'code_size' must be of type int"),
        ({"threshold_quantile": 1.0}, "'threshold_quantile' must be below 1"),
        ({"threshold_quantile": 0.0}, "'threshold_quantile' must be above 0"),
        ({"threshold_quantile": float("nan")}, "'threshold_quantile' must be above 0"),
    ],
)
def test_an_impossible_option_is_named(case, options, named):
    with pytest.raises(ConfigError, match=named):
        problem_with(case, **options)


def test_what_is_trained_on_is_its_own_target_mirrored_or_not(case):
    config = dataclasses.replace(case.config, augmentation=Augmentation(flip=True))
    problem = pipeline.problem_of(config, case.problem.data)
    examples = problem.examples(problem.data.train, augmented=True)
    plain = examples.batch(torch.arange(40))
    changed = examples.augment(plain, torch.Generator().manual_seed(0))
    assert not torch.equal(plain.inputs[0], changed.inputs[0])
    assert torch.equal(changed.inputs[0], changed.targets)


def test_pictures_that_are_all_the_same_have_no_r2():
    images = np.random.default_rng(0).integers(0, 256, (9, 4, 4)).astype(np.uint8)
    expected = ((images / 255 - (images / 255).mean(axis=0)) ** 2).mean()
    assert spread(images) == pytest.approx(expected)
    with pytest.raises(ValueError, match="no R2 of 3 pictures that are all the same"):
        spread(images[[0, 0, 0]])
