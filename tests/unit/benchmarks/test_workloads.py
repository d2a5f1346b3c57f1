"""What is sent, and what answers say: the same instance at every door, and the same lengths everywhere."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer

from app.preprocess.text import TextPreparation
from benchmarks import texts, workloads
from benchmarks.doors import DOORS, Answer
from benchmarks.peers.common import Model


def test_texts_have_the_lengths_that_are_promised_and_are_the_same_again() -> None:
    bundle = workloads.highest_bundle("transformer")
    found = texts.texts(bundle / "tokenizer.json", 200)
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    lengths = [len(tokenizer.encode(text).ids) for text in found]
    assert texts.MIN_TOKENS <= min(lengths) < 10
    assert 200 < max(lengths) <= texts.MAX_TOKENS
    assert 25 < np.median(lengths) < 60  # half of a log-uniform draw is below sqrt(5 * 300)
    assert found == texts.texts(bundle / "tokenizer.json", 200)


def test_peers_make_the_tokens_that_the_service_makes() -> None:
    workload = workloads.load("transformer")
    task = json.loads((workload.bundle / "manifest.json").read_text())["task"]
    ours = TextPreparation((workload.bundle / "tokenizer.json").read_bytes(), 8192, task["text"]["max_tokens"])
    model = Model(workload.bundle)
    for text in (*workload.values, "[CLS] Hello, \N{GRINNING FACE}", "word " * 600, "x" * 9000):
        assert np.array_equal(model.row(text), ours.ids(text))


@pytest.mark.parametrize("name", workloads.names())
def test_a_batch_of_a_peer_answers_as_its_rows_alone(name: str) -> None:
    workload = workloads.load(name)
    model = Model(workload.bundle)
    instances = [{workload.field: value} for value in workload.values[:3]]
    door = DOORS["instances"]
    together = [door.read(workload, json.dumps([one]).encode()) for one in model.predict(instances)]
    for one, instance in zip(together, instances, strict=True):
        (alone,) = model.predict([instance])
        assert one.says_the_same_as(door.read(workload, json.dumps({"predictions": [alone]}).encode()))


def test_doors_carry_the_same_picture() -> None:
    workload = workloads.load("cnn")
    value = workload.values[0]
    tensor = json.loads(DOORS["v2"].body(workload, value))["inputs"][0]
    assert np.array_equal(np.array(tensor["data"]).reshape(tensor["shape"])[0], np.array(value))
    assert np.array_equal(np.frombuffer(DOORS["raw"].body(workload, value), "<f4").reshape(28, 28), np.array(value))
    assert json.loads(DOORS["instances"].body(workload, value)) == {"instances": [{"image": value}]}


def test_answers_of_the_open_inference_protocol_say_what_ours_say() -> None:
    workload = workloads.load("autoencoder")
    ours = {"predictions": [{"error": 0.5, "anomaly": True, "code": [1.0, 2.0]}]}
    theirs = {
        "outputs": [
            {"name": "code", "data": [1.0, 2.0]},
            {"name": "error", "data": [0.5]},
            {"name": "anomaly", "data": [True]},
        ]
    }
    read = DOORS["instances"].read(workload, json.dumps(ours).encode())
    assert read == Answer("True", (0.5, 1.0, 2.0)) == DOORS["v2"].read(workload, json.dumps(theirs).encode())


def test_answers_are_the_same_within_rounding_only() -> None:
    answer = Answer("Bag", (0.25, 0.75))
    assert answer.says_the_same_as(Answer("Bag", (0.25001, 0.75)))
    assert not answer.says_the_same_as(Answer("Bag", (0.26, 0.75)))
    assert not answer.says_the_same_as(Answer("Coat", (0.25, 0.75)))
    assert not answer.says_the_same_as(Answer("Bag", (0.25,)))


def test_a_model_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="no model 'gpt'"):
        workloads.highest_bundle("gpt")
