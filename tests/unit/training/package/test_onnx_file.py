"""What of an ONNX file is refused, and how to mend it is told."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.support.foreign import graph, scorer
from training.errors import PackageRefused
from training.package import onnx_file

FLOAT = TensorProto.FLOAT


def copy_of(value="x"):
    return [helper.make_node("Identity", [value], ["y"])]


def test_names_dtypes_and_shapes_are_read(tmp_path):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Identity", ["n"], ["m"])]
    path = graph(
        tmp_path / "a.onnx",
        nodes,
        [("x", FLOAT, ["N", "T", None, 3]), ("n", TensorProto.UINT8, [None])],
        [("y", FLOAT, None), ("m", TensorProto.UINT8, ["N"])],
        {"w": np.ones((3, 2), np.float32)},
    )
    source = onnx_file.read(path)
    assert [(spec.name, spec.dtype, spec.shape) for spec in source.inputs] == [
        ("x", "float32", ("batch", "T", "x_2", 3)),
        ("n", "uint8", ("batch",)),
    ]
    assert [(output.name, output.dtype) for output in source.outputs] == [("y", "float32"), ("m", "uint8")]


def test_weights_that_are_inputs_too_are_not_fed(tmp_path):
    path = graph(
        tmp_path / "a.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [("x", FLOAT, ["N", 3]), ("w", FLOAT, [3, 2])],
        [("y", FLOAT, ["N", 2])],
        {"w": np.ones((3, 2), np.float32)},
    )
    assert [spec.name for spec in onnx_file.read(path).inputs] == ["x"]


@pytest.mark.parametrize("content", [b"", b"no protobuf", b"\x08\x08", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_onnx_is_refused(tmp_path, content):
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(PackageRefused, match="is no ONNX file"):
        onnx_file.read(tmp_path / "a.onnx")


def test_a_truncated_file_is_refused(tmp_path):
    path = scorer(tmp_path / "a.onnx")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(PackageRefused, match="no ONNX file"):
        onnx_file.read(path)


@pytest.mark.parametrize("there", [True, False])
def test_weights_in_other_files_are_refused_whether_they_are_there_or_not(tmp_path, there):
    path = scorer(tmp_path / "a.onnx", features=600)
    outside = tmp_path / "outside"
    outside.mkdir()
    onnx.save_model(
        onnx.load(path), outside / "a.onnx", save_as_external_data=True, location="a.data", size_threshold=0
    )
    if not there:
        (outside / "a.data").unlink()
    with pytest.raises(PackageRefused, match=r"keeps 2 weights in files beside it .*save_as_external_data=False"):
        onnx_file.read(outside / "a.onnx")


def test_weights_in_other_files_of_a_branch_are_found_too(tmp_path):
    inner = helper.make_tensor("inner", FLOAT, [1], [1.0])
    inner.ClearField("float_data")
    inner.data_location = TensorProto.EXTERNAL
    entry = inner.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["z"], value=inner)],
        "branch",
        [],
        [helper.make_tensor_value_info("z", FLOAT, [1])],
    )
    nodes = [
        helper.make_node("If", ["yes"], ["z1"], then_branch=branch, else_branch=branch),
        helper.make_node("Add", ["x", "z1"], ["y"]),
    ]
    weights = {"yes": np.array(True)}
    path = graph(tmp_path / "a.onnx", nodes, [("x", FLOAT, ["N", 1])], [("y", FLOAT, ["N", 1])], weights)
    with pytest.raises(PackageRefused, match="keeps 2 weights in files beside it"):
        onnx_file.read(path)


@pytest.mark.parametrize(("domain", "named"), [("", "ai.onnx::Teleport"), ("com.example", "com.example::Teleport")])
def test_operators_that_are_not_known_are_named(tmp_path, domain, named):
    path = graph(
        tmp_path / "a.onnx",
        [helper.make_node("Teleport", ["x"], ["y"], domain=domain)],
        [("x", FLOAT, ["N", 1])],
        [("y", FLOAT, ["N", 1])],
    )
    with pytest.raises(PackageRefused, match=f"its operators {named} are not known here; export it with"):
        onnx_file.read(path)


@pytest.mark.parametrize("shape", [[1, 3], [32, 3], [], None])
def test_a_model_without_a_batch_axis_is_told_how_to_be_exported(tmp_path, shape):
    path = graph(tmp_path / "a.onnx", copy_of(), [("x", FLOAT, shape)], [("y", FLOAT, shape)])
    with pytest.raises(PackageRefused, match=r"one fixed batch only, the first axis of 'x' .* dynamic first axis"):
        onnx_file.read(path)


def test_inputs_that_no_task_can_feed_are_all_named(tmp_path):
    values = [("s", TensorProto.STRING, ["N"]), ("h", TensorProto.FLOAT16, ["N"]), ("x", FLOAT, ["N"])]
    path = graph(tmp_path / "a.onnx", copy_of(), values, [("y", FLOAT, ["N"])])
    with pytest.raises(PackageRefused, match=r"no task can feed these inputs of .*: s \(string\), h \(float16\); they"):
        onnx_file.read(path)


def test_a_model_without_inputs_or_with_outputs_of_maps_is_refused(tmp_path):
    constant = [helper.make_node("Identity", ["w"], ["y"])]
    path = graph(tmp_path / "a.onnx", constant, [], [("y", FLOAT, [1])], {"w": np.ones(1, np.float32)})
    with pytest.raises(PackageRefused, match="has no input"):
        onnx_file.read(path)
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression().fit([[0.0], [1.0]], ["a", "b"])
    (tmp_path / "z.onnx").write_bytes(skl2onnx.to_onnx(fitted, np.zeros((1, 1), np.float32)).SerializeToString())
    with pytest.raises(
        PackageRefused, match=r"no output of .* can be served: .*\(string\).*\(sequence\).*'zipmap': False"
    ):
        onnx_file.read(tmp_path / "z.onnx")
