import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from app.bundle.loader import open_bundle
from app.bundle.manifest import (
    ImageClassification,
    SequenceClassification,
    SequenceInput,
    TextClassification,
    TextInput,
)
from app.preprocess.image import ImageInput
from tests.support.committed import LATEST
from training.baselines import Baseline
from training.metrics import label_scores
from training.report import MODEL_CARD, Notes, evaluate_classifier, model_card
from training.report.examples import example_body


@pytest.fixture
def evaluation(course):
    """An evaluation of ten classes, with a baseline that is always right."""
    rng = np.random.default_rng(0)
    labels = np.arange(500) % 10
    logits = 5 * (rng.normal(size=(500, 10)) + 1.5 * np.eye(10)[labels])
    baseline = Baseline(
        name="oracle",
        description="One who knows",
        metrics=label_scores(labels, labels, 10).named(),
        predictions=labels,
    )

    def build(names, **changes):
        given = {
            "labels": names,
            "validation_logits_NC": logits,
            "validation_labels_N": labels,
            "test_logits_MC": logits,
            "test_labels_M": labels,
            "course": course,
            "temperature": 3.0,
            "baseline": baseline,
        }
        return evaluate_classifier(**{**given, **changes})

    return build


@pytest.fixture
def manifest():
    return open_bundle(LATEST["cnn"]).manifest


def test_the_card_tells_what_was_measured_and_who_wins(evaluation, manifest):
    told = evaluation(manifest.task.labels)
    card = model_card(manifest, told)
    metrics = told.metrics
    assert (
        f"| accuracy | {metrics['accuracy']:.4f} | {metrics['accuracy_low']:.4f} to {metrics['accuracy_high']:.4f} | "
        "1.0000 |" in card
    )
    assert "The simple model wins, with accuracy 1.0000" in card
    assert f"## Fit: {told.verdict.kind}" in card
    assert told.verdict.reason in card
    assert "The logits are divided by 3" in card
    assert "421,642 parameters" in card
    for artifact in manifest.artifacts:
        assert f"`{artifact.path}`" in card
    for label in manifest.task.labels:
        assert f"| {label} | 50 |" in card


def test_the_plots_of_the_card_lie_beside_it(evaluation, manifest):
    told = evaluation(manifest.task.labels)
    embedded = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", model_card(manifest, told))
    assert [f"report/{name}" for name in embedded] == [plot.path for plot in told.plots]
    assert MODEL_CARD.startswith("report/")


def test_every_table_has_as_many_cells_in_each_row(evaluation, manifest):
    names = ("a|b", *manifest.task.labels[1:])
    task = manifest.task.model_copy(update={"labels": names})
    card = model_card(manifest.model_copy(update={"task": task}), evaluation(names))
    assert "a\\|b" in card
    for table in re.findall(r"(?:^\|.*\|\n)+", card, re.MULTILINE):
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(counts) == 1, table


def test_temperature_one_is_said_and_a_model_without_baseline_has_no_such_part(evaluation, manifest):
    card = model_card(manifest, evaluation(manifest.task.labels, temperature=1.0, baseline=None))
    assert "the logits are left as they are" in card
    assert "Beside a simple model" not in card


def test_the_folds_say_who_is_ahead(evaluation, manifest):
    folds = {"accuracy_mean": 0.975, "accuracy_std": 0.014, "logistic_regression/accuracy_mean": 0.982}
    metrics = manifest.metrics | {f"cross_validation/{name}": value for name, value in folds.items()}
    card = model_card(manifest.model_copy(update={"metrics": metrics}), evaluation(manifest.task.labels))
    assert "The simple model (logistic_regression) is ahead by 0.0070" in card
    assert "standard deviation of 0.0140" in card


def test_notes_are_in_the_card(evaluation, manifest):
    notes = Notes(intended_use="Sorting laundry.", limits=("Not for hats.",), privacy="Nobody is in it.")
    card = model_card(manifest, evaluation(manifest.task.labels), notes)
    for note in ("Sorting laundry.", "- Not for hats.", "Nobody is in it."):
        assert note in card


def test_the_length_of_a_mistaken_text_is_told_and_nothing_of_the_text(evaluation, manifest):
    told = evaluation(manifest.task.labels, lengths_M=np.full(500, 4321))
    card = model_card(manifest, told)
    assert "| is | is called | probability | length |" in card
    assert card.count("| 4321 |") == len(told.mistakes) > 0


def test_the_example_of_a_picture_is_a_picture_of_its_size():
    image = ImageInput(height=20, width=28, mode="L", low=0.0, high=255.0)
    body = json.loads(example_body(ImageClassification(image=image, labels=("a", "b"))))
    picture = Image.open(io.BytesIO(base64.b64decode(body["instances"][0]["image"])))
    assert (picture.size, picture.mode) == ((28, 20), "L")


def test_the_example_of_a_series_is_within_its_bounds():
    sequence = SequenceInput(num_channels=3, min_length=7, max_length=29, low=0.5, high=2.0)
    body = json.loads(example_body(SequenceClassification(sequence=sequence, labels=("a", "b"))))
    (instance,) = body["instances"]
    assert np.array(instance["sequence"]).shape == (7, 3)
    assert set(np.array(instance["sequence"]).ravel()) == {0.5}


def test_the_example_of_a_text_is_of_nobody():
    tokenizer = {"path": "tokenizer.json", "sha256": "0" * 64, "size_bytes": 1}
    text = TextInput(tokenizer=tokenizer, max_chars=10, max_tokens=10)
    body = json.loads(example_body(TextClassification(text=text, labels=("a", "b"))))
    assert set(body["instances"][0]) == {"text"}


def test_the_example_of_a_table_names_every_feature():
    task = open_bundle(LATEST["numpy_mlp"]).manifest.task
    (instance,) = json.loads(example_body(task))["instances"]
    assert list(instance["features"]) == [feature.name for feature in task.features]
