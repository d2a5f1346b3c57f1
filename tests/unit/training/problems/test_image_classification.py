import dataclasses

import numpy as np
import torch

from training import pipeline
from training.augment import Augmentation


def test_the_network_is_told_the_scale_of_the_training_pixels(cases):
    problem = cases["image_classification"].problem
    images = problem.data.train.images
    assert problem.measured() == {
        "height": 28,
        "width": 28,
        "num_classes": 10,
        "input_mean": round(float(images.mean()), 4),
        "input_std": round(float(images.std()), 4),
    }


def test_only_what_is_trained_on_is_changed_and_never_its_class(cases):
    case = cases["image_classification"]
    config = dataclasses.replace(case.config, augmentation=Augmentation(flip=True, max_shift=2))
    problem = pipeline.problem_of(config, case.problem.data)
    rows, all_rows = problem.data.train, torch.arange(len(problem.data.train))
    for augmented in (False, True):
        examples = problem.examples(rows, augmented=augmented)
        plain = examples.batch(all_rows)
        changed = examples.augment(plain, torch.Generator().manual_seed(0))
        assert torch.equal(plain.inputs[0], changed.inputs[0]) is not augmented
        np.testing.assert_array_equal(changed.targets, rows.labels)


def test_golden_pictures_go_to_the_edges_and_then_to_validation(cases):
    golden, data = cases["image_classification"].golden, cases["image_classification"].problem.data
    pixels_BHW = golden.inputs["image"]
    assert (pixels_BHW[0] == 0).all()
    assert (pixels_BHW[1] == 255).all()
    np.testing.assert_array_equal(pixels_BHW[8:], data.validation.images[:20])
    assert all(row["label"] == data.classes[row["index"]] for row in golden.responses)
