import json

import numpy as np
import pytest

from app.bundle.golden import dump_golden, parse_golden
from training.config import TrainConfig
from training.data.fashion_mnist import CLASSES
from training.export.golden import edge_images, response
from training.problems.image_classification import ImageClassificationProblem


def flat(inputs):
    """A network that is sure of one class, whatever it sees."""
    rows = len(inputs["image"])
    probabilities = np.tile(np.linspace(0.01, 0.19, 10, dtype=np.float32), (rows, 1))
    return {"logits": np.log(probabilities), "probabilities": probabilities}


@pytest.fixture
def golden(small_data):
    problem = ImageClassificationProblem(TrainConfig(architecture="mlp"), small_data)
    return problem.golden(flat, problem.settings(flat))


def test_edges_hold_all_black_all_white_a_checkerboard_and_single_pixels():
    edges = edge_images(28, 28)
    assert edges.dtype == np.uint8
    assert not edges[0].any()
    assert (edges[1] == 255).all()
    assert set(np.unique(edges[2])) == {0, 255}
    assert (edges[2][:, 1:] != edges[2][:, :-1]).all()
    assert [int((edge > 0).sum()) for edge in edges[5:7]] == [1, 1]
    assert len(np.unique(edges.reshape(len(edges), -1), axis=0)) == len(edges)


def test_golden_rows_are_the_edges_and_real_pictures(golden, small_data):
    assert len(golden) == 28
    np.testing.assert_array_equal(golden.inputs["image"][8:], small_data.validation.images[:20])
    assert golden.inputs["image"].dtype == np.float32


def test_requests_are_whole_numbers_and_become_the_inputs(golden):
    for request, image in zip(golden.requests, golden.inputs["image"], strict=True):
        assert list(request) == ["image"]
        assert all(type(pixel) is int for row in request["image"] for pixel in row)
        np.testing.assert_array_equal(np.array(request["image"], np.float32), image)


def test_a_response_holds_the_best_class_and_all_probabilities(golden):
    answer = response(golden.outputs["probabilities"][0], CLASSES)
    assert list(answer) == ["label", "index", "probability", "probabilities"]
    assert (answer["label"], answer["index"]) == ("Ankle boot", 9)
    assert np.float32(answer["probability"]) == golden.outputs["probabilities"][0, 9]
    assert list(answer["probabilities"]) == list(CLASSES)
    assert answer["probabilities"]["Ankle boot"] == answer["probability"]
    assert golden.responses[0] == json.loads(json.dumps(answer))


def test_golden_rows_survive_their_file(golden):
    again = parse_golden(dump_golden(golden))
    assert again.requests == golden.requests
    assert again.responses == golden.responses
    np.testing.assert_array_equal(again.outputs["logits"], golden.outputs["logits"])
