"""A folder as exporters write it is packaged without a word but what it is and under which license."""

import json

import numpy as np
import pytest

from tests.support.foreign import SAID, ask, encoder_scores, hugging_face, prove_as_served
from training.errors import PackageRefused, SettingsMissing
from training.package import hugging_face as module
from training.package.bundle import package
from training.package.config import Config

TEXTS = ["a good film", "I liked it", "bad", "what a bore it was", "漢字"]


def packaged(folder, tmp_path, **said):
    return package(folder, Config(**(SAID | said)), tmp_path / "models")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return hugging_face(tmp_path_factory.mktemp("exported") / "tiny-film")


def test_texts_are_answered_as_the_model_answers_each_alone(exported, tmp_path):
    folder = packaged(exported, tmp_path)
    bundle, _ = prove_as_served(folder)
    assert (bundle.manifest.name, bundle.manifest.task.labels) == ("tiny-film", ("bad", "good"))
    assert (bundle.manifest.task.text.max_tokens, bundle.manifest.batching.max_elements) == (12, 12 * 32)
    assert [spec.name for spec in bundle.manifest.inputs] == ["tokens", "lengths"]
    predictions = ask(folder, *({"text": text} for text in TEXTS))
    probabilities = np.array([list(prediction["probabilities"].values()) for prediction in predictions])
    assert probabilities == pytest.approx(encoder_scores(TEXTS), abs=1e-5)
    assert bundle.golden().requests[0].keys() == {"text"}


def test_the_graph_may_lie_in_a_folder_of_its_own_and_what_is_said_wins(tmp_path):
    folder = hugging_face(tmp_path / "Film Model", at="onnx/model.onnx")
    written = packaged(folder, tmp_path, labels=["no", "yes"], max_tokens=8, max_chars=99, task="text_classification")
    bundle, _ = prove_as_served(written)
    text = bundle.manifest.task.text
    assert (bundle.manifest.name, bundle.manifest.task.labels) == ("film-model", ("no", "yes"))
    assert (text.max_tokens, text.max_chars) == (8, 99)


def test_the_padding_token_is_that_of_the_tokenizer_where_the_config_is_silent(tmp_path):
    told = module.read(hugging_face(tmp_path / "a", pad_token_id=None)).told
    assert (told.pad_id, told.max_tokens) == (3, 12)
    unbounded = module.read(hugging_face(tmp_path / "b", max_position_embeddings=None)).told
    assert unbounded.max_tokens is None


@pytest.mark.parametrize("missing", ["tokenizer.json", "config.json", "model.onnx"])
def test_what_is_missing_in_the_folder_is_named(tmp_path, missing):
    folder = hugging_face(tmp_path / "a")
    (folder / missing).unlink()
    with pytest.raises(PackageRefused, match=f"has no .*{missing}"):
        packaged(folder, tmp_path)


def test_an_empty_folder_is_told_all_that_it_lacks(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(
        PackageRefused, match=r"model\.onnx or onnx/model\.onnx; no tokenizer\.json .*; no config\.json"
    ):
        packaged(tmp_path / "a", tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"problem_type": "multi_label_classification"}, "softmax over the labels would say something else"),
        ({"id2label": {"0": "a", "2": "b"}}, "from 0 without gaps"),
        ({"id2label": {"x": "a"}}, "does not number the labels"),
        ({"id2label": ["a"]}, "does not number the labels"),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, r"there are 3 labels \(a, b, c\), and the model .* \[2\] a row"),
        ({"id2label": {"0": "a"}}, "labels are two or more, and distinct; found: a"),
        ({"id2label": {"0": "a", "1": "a"}}, "labels are two or more, and distinct; found: a, a"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path, config, message):
    folder = hugging_face(tmp_path / "a", **config)
    with pytest.raises(PackageRefused, match=message):
        packaged(folder, tmp_path)


def test_labels_are_asked_for_where_the_config_has_none(tmp_path):
    folder = hugging_face(tmp_path / "a", id2label=None)
    with pytest.raises(SettingsMissing, match="one thing is missing: labels"):
        packaged(folder, tmp_path)


@pytest.mark.parametrize(("name", "content"), [("config.json", "{"), ("config.json", "[]"), ("tokenizer.json", "{}")])
def test_damaged_files_are_named(tmp_path, name, content):
    folder = hugging_face(tmp_path / "a")
    (folder / name).write_text(content)
    with pytest.raises(PackageRefused, match=f"{name.partition('.')[0]}"):
        packaged(folder, tmp_path)


def test_a_graph_that_wants_more_than_text_gives_is_refused(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    from tests.support.foreign import graph

    folder = hugging_face(tmp_path / "a")
    values = [(name, TensorProto.INT64, ["N", "T"]) for name in ("input_ids", "attention_mask", "bbox")]
    nodes = [helper.make_node("Sum", ["a", "b", "c"], ["logits"])]
    nodes = [
        helper.make_node("Cast", [value[0]], [short], to=1) for value, short in zip(values, "abc", strict=True)
    ] + nodes
    graph(folder / "model.onnx", nodes, values, [("logits", TensorProto.FLOAT, ["N", "T"])])
    with pytest.raises(PackageRefused, match="it cannot feed: bbox"):
        packaged(folder, tmp_path)
    nodes = [helper.make_node("Cast", ["input_ids"], ["logits"], to=1)]
    graph(folder / "model.onnx", nodes, values[:1], [("logits", TensorProto.FLOAT, ["N", "T"])])
    with pytest.raises(PackageRefused, match="no attention_mask, so padding would change its answers"):
        packaged(folder, tmp_path)
    assert onnx.load(folder / "model.onnx").graph.input[0].name == "input_ids"
    assert json.loads((folder / "config.json").read_text())["pad_token_id"] == 3
