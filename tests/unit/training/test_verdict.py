import json
from dataclasses import dataclass

import numpy as np
import pytest

from tests.support.committed import LATEST
from training.intervals import Interval
from training.verdict import FinalScores, judge


@dataclass(frozen=True)
class Point:
    number: int
    train_loss: float
    validation_loss: float


def curves(train, validation):
    return [Point(number, *losses) for number, losses in enumerate(zip(train, validation, strict=True), start=1)]


STEPS = np.arange(30)
FALLING = 0.2 + np.exp(-STEPS / 4)
GOOD = curves(FALLING - 0.05, FALLING)


def finals(train, validation, **more):
    return FinalScores(name="accuracy", train=train, validation=validation, **more)


def test_curves_that_fall_and_stay_are_a_good_fit():
    verdict = judge(GOOD, 30, finals=finals(0.96, 0.94), guess_loss=np.log(10))
    assert verdict.kind == "good fit"
    assert "0.9600" in verdict.reason
    assert "0.9400" in verdict.reason
    assert f"{GOOD[-1].validation_loss:.4g}" in verdict.reason


def test_a_training_loss_above_the_validation_loss_is_no_sign_of_anything():
    """Dropout and augmentation make it so."""
    assert judge(curves(FALLING + 0.3, FALLING), 30).kind == "good fit"


def test_a_kept_validation_loss_far_above_its_lowest_is_overfitting():
    validation = 0.3 + 0.02 * np.abs(STEPS - 6)
    verdict = judge(curves(np.exp(-STEPS / 4), validation), 28)
    assert verdict.kind == "overfitting"
    assert "from 0.3 in epoch 7 to 0.72 in the epoch kept (28)" in verdict.reason


def test_weights_kept_from_before_the_rise_are_a_good_fit_and_the_rise_is_told():
    validation = 0.3 + 0.02 * np.abs(STEPS - 6)
    verdict = judge(curves(np.exp(-STEPS / 4), validation), 7, stopped_early=True)
    assert verdict.kind == "good fit"
    assert "later epochs, up to 0.76, overfitted and were not kept" in verdict.reason


def test_a_wide_gap_between_seen_and_unseen_rows_is_overfitting():
    verdict = judge(GOOD, 30, finals=finals(1.0, 0.8))
    assert verdict.kind == "overfitting"
    assert "a gap of 0.2000" in verdict.reason


def test_a_gap_that_few_rows_held_out_may_give_is_none():
    wide, narrow = Interval(low=0.6, high=1.0), Interval(low=0.78, high=0.82)
    assert judge(GOOD, 30, finals=finals(0.95, 0.8, validation_interval=wide)).kind == "good fit"
    assert judge(GOOD, 30, finals=finals(0.95, 0.8, validation_interval=narrow)).kind == "overfitting"


def test_losses_no_better_than_a_guess_are_underfitting():
    flat = np.full(30, 2.2)
    verdict = judge(curves(flat, flat), 12, guess_loss=np.log(10))
    assert verdict.kind == "underfitting"
    assert "where a guess has 2.303" in verdict.reason


def test_a_network_below_a_simple_model_on_its_own_rows_is_underfitting():
    verdict = judge(GOOD, 30, finals=finals(0.85, 0.84, baseline=0.95))
    assert verdict.kind == "underfitting"
    assert "0.8500" in verdict.reason
    assert judge(GOOD, 30, finals=finals(0.96, 0.94, baseline=0.95)).kind == "good fit"


@pytest.mark.parametrize("num_epochs", [1, 4])
def test_a_handful_of_epochs_tells_nothing(num_epochs):
    verdict = judge(GOOD[:num_epochs], num_epochs, finals=finals(1.0, 0.5))
    assert verdict.kind == "too few epochs to tell"


def test_a_loss_still_falling_when_training_was_cut_off_tells_nothing():
    falling = 2.0 * 0.93**STEPS
    verdict = judge(curves(falling, falling), 30)
    assert verdict.kind == "too few epochs to tell"
    assert "over the last 6 of 30 epochs" in verdict.reason
    # patience ended it, so it was not falling any more for what counts
    assert judge(curves(falling, falling), 30, stopped_early=True).kind == "good fit"


def test_an_epoch_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="no epoch 31 among 30"):
        judge(GOOD, 31)


@pytest.mark.parametrize("name", ["cnn", "mlp", "numpy_mlp", "numpy_regression"])
def test_the_committed_networks_are_a_good_fit(name):
    """By their losses alone; their reason names the epoch that the manifest says was kept."""
    folder = LATEST[name].folder
    record = json.loads((folder / "manifest.json").read_text())["training"]
    rows = json.loads((folder / "report" / "history.json").read_text())
    history = [Point(row["number"], row["train_loss"], row["validation_loss"]) for row in rows]
    early = record["optimizer"]["stopped"] == "early"
    verdict = judge(history, record["best_epoch"], stopped_early=early)
    assert verdict.kind == "good fit"
    assert f"({record['best_epoch']} of {len(history)})" in verdict.reason
    # cut short, the same curves tell nothing yet
    assert judge(history[:7], 7).kind == "too few epochs to tell"
