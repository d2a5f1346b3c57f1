"""Steps become part of the graph, in whatever operator set it is written."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from app.bundle.manifest import TensorSpec
from tests.support.foreign import graph, linear, scorer, softmax
from training.errors import PackageRefused
from training.package import onnx_edit, onnx_file
from training.package.source import Feed, Head, Steps, TextFeed

FLOAT = TensorProto.FLOAT
IMAGE = TensorSpec(name="image", dtype="float32", shape=("batch", 2, 3))
HEADS = (Head(public="logits", private="logits"), Head(public="probabilities", private="logits", step="softmax"))


def run(path, steps, **inputs):
    content = onnx_edit.edit(onnx.load(path), steps)
    return onnx_file.runner(content, [head.public for head in steps.heads], "the edited graph")(inputs)


@pytest.mark.parametrize("opset", [11, 12, 13, 17, 21])
def test_layout_scale_and_softmax_mean_the_same_in_every_operator_set(tmp_path, opset):
    path = scorer(tmp_path / "a.onnx", features=6, name_in="image", tail=(1, 2, 3), opset=opset)
    feed = Feed(public=IMAGE, private="image", dtype="float32", tail=(1, 2, 3), scale=0.5, mean=1.0, std=4.0)
    image_BHW = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    outputs = run(path, Steps(feeds=(feed,), heads=HEADS), image=image_BHW)
    expected = linear((image_BHW.reshape(2, 6) * 0.5 - 1) / 4, 2)
    assert outputs["logits"] == pytest.approx(expected, abs=1e-6)
    assert outputs["probabilities"] == pytest.approx(softmax(expected), abs=1e-6)


def test_an_operator_set_that_is_too_old_is_refused(tmp_path):
    path = scorer(tmp_path / "a.onnx", features=6, opset=9)
    steps = Steps(feeds=(Feed(public=IMAGE, private="x", dtype="float32", tail=(6,)),), heads=HEADS)
    with pytest.raises(PackageRefused, match=r"operator set 9, and what has to be added needs 11.*opset_version=17"):
        onnx_edit.edit(onnx.load(path), steps)


def test_a_graph_to_which_nothing_is_done_keeps_its_nodes(tmp_path):
    path = scorer(tmp_path / "a.onnx", opset=9)
    spec = TensorSpec(name="x", dtype="float32", shape=("batch", 3))
    steps = Steps(feeds=(Feed(public=spec, private="x", dtype="float32"),), heads=HEADS[:1])
    content = onnx_edit.edit(onnx.load(path), steps)
    assert [node.op_type for node in onnx.load_from_string(content).graph.node] == ["Reshape", "MatMul"]
    assert content == onnx_edit.edit(onnx.load(path), steps)


def test_names_inside_branches_follow_what_is_renamed(tmp_path):
    def branch(name, operator):
        node = helper.make_node(operator, ["image", "image"], [name])
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, FLOAT, None)])

    node = helper.make_node("If", ["yes"], ["y"], then_branch=branch("then", "Add"), else_branch=branch("else", "Mul"))
    weights = {"yes": np.array(True)}
    path = graph(tmp_path / "a.onnx", [node], [("image", FLOAT, ["N", 6])], [("y", FLOAT, ["N", 6])], weights)
    feed = Feed(public=IMAGE, private="image", dtype="float32", tail=(6,), scale=3.0)
    steps = Steps(feeds=(feed,), heads=(Head(public="image_fed", private="y"),))
    outputs = run(path, steps, image=np.ones((2, 2, 3), np.float32))
    assert outputs["image_fed"].tolist() == [[6.0] * 6] * 2


def test_values_that_bear_the_names_of_the_service_make_room(tmp_path):
    nodes = [
        helper.make_node("Add", ["input_ids", "lengths"], ["probabilities"]),
        helper.make_node("Cast", ["probabilities"], ["y"], to=FLOAT),
        helper.make_node("Cast", ["attention_mask"], ["tokens"], to=FLOAT),
        helper.make_node("Mul", ["y", "tokens"], ["logits"]),
    ]
    values = [("input_ids", TensorProto.INT64, ["N", "T"]), ("attention_mask", TensorProto.INT64, ["N", "T"])]
    weights = {"lengths": np.array(100, np.int64)}
    path = graph(tmp_path / "a.onnx", nodes, values, [("logits", FLOAT, ["N", "T"])], weights)
    text = TextFeed(dtypes={"input_ids": "int64", "attention_mask": "int64"}, pad_id=9)
    outputs = run(
        path, Steps(text=text, heads=HEADS[:1]), tokens=np.array([[1, 2], [3, 0]]), lengths=np.array([2, 1])
    )  # fmt: skip
    assert outputs["logits"].tolist() == [[101, 102], [103, 0]]


def test_ids_mask_and_types_follow_from_tokens_and_lengths(tmp_path):
    names = ("input_ids", "attention_mask", "token_type_ids")
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in names]
    dtypes = {"input_ids": "int32", "attention_mask": "float32", "token_type_ids": "int64"}
    elements = dict(zip(names, (TensorProto.INT32, FLOAT, TensorProto.INT64), strict=True))
    path = graph(
        tmp_path / "a.onnx",
        nodes,
        [(name, elements[name], ["N", "T"]) for name in names],
        [(f"{name}_out", elements[name], ["N", "T"]) for name in names],
    )
    heads = tuple(Head(public=f"{name}_out", private=f"{name}_out") for name in names)
    steps = Steps(text=TextFeed(dtypes=dtypes, pad_id=7), heads=heads)
    tokens = np.array([[5, 6, 4], [5, 0, 0], [1, 2, 0]])
    ids, mask, types = run(path, steps, tokens=tokens, lengths=np.array([3, 1, 2])).values()
    assert (ids.dtype, mask.dtype, types.dtype) == (np.int32, np.float32, np.int64)
    assert ids.tolist() == [[5, 6, 4], [5, 7, 7], [1, 2, 7]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
    assert types.tolist() == [[0] * 3] * 3


def test_names_of_other_characters_are_changed_to_ones_that_a_manifest_holds(tmp_path):
    nodes = [helper.make_node("Add", ["input:0", "1"], ["Identity:0"])]
    values = [("input:0", FLOAT, ["N"]), ("1", FLOAT, ["N"])]
    path = graph(tmp_path / "a.onnx", nodes, values, [("Identity:0", FLOAT, ["N"])])
    source = onnx_file.read(path)
    assert [spec.name for spec in source.inputs] == ["input_0", "_1"]
    assert [output.name for output in source.outputs] == ["Identity_0"]
