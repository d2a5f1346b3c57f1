"""The whole way of files that are not ours: packaged, proven as the service proves, and asked."""

import errno
import json
import tomllib

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.support.bundles import open_folder
from tests.support.foreign import SAID, ask, graph, linear, prove_as_served, scorer, softmax
from training.errors import NotProven, PackageRefused, SettingsMissing, VersionExists
from training.export import bundle as writer
from training.package.bundle import package
from training.package.config import Config

FLOAT = TensorProto.FLOAT
TABLE = {
    "task": "tabular_classification",
    "labels": ["a", "b"],
    "features": ["f", "g", "h"],
    "low": 0,
    "high": 9,
}
UNBOUNDED = {key: value for key, value in TABLE.items() if key not in ("low", "high")}


def packaged(path, tmp_path, **said):
    return package(path, Config(**(SAID | said)), tmp_path / "models")


def scores(predictions):
    return np.array([list(prediction["probabilities"].values()) for prediction in predictions])


def test_logits_get_a_softmax_and_are_kept(tmp_path):
    folder = packaged(scorer(tmp_path / "a.onnx"), tmp_path, **TABLE)
    bundle, _ = prove_as_served(folder)
    assert [spec.name for spec in bundle.manifest.outputs] == ["logits", "probabilities"]
    rows = [[1, 2, 3], [0, 9, 0.5]]
    predictions = ask(folder, *({"features": dict(zip("fgh", row, strict=True))} for row in rows))
    assert scores(predictions) == pytest.approx(softmax(linear(np.array(rows), 2)), abs=1e-6)
    assert (bundle.manifest.name, bundle.manifest.version) == ("a", 1)
    assert bundle.manifest.architecture.config["format"] == "onnx"


@pytest.mark.parametrize("name_in", ["x", "probabilities", "logits", "input:0", "1"])
@pytest.mark.parametrize("dtype", [FLOAT, TensorProto.DOUBLE])
def test_names_and_dtypes_that_stand_in_the_way_are_changed_in_the_graph(tmp_path, name_in, dtype):
    path = scorer(tmp_path / "a.onnx", name_in=name_in, name_out="output:0", dtype=dtype)
    folder = packaged(path, tmp_path, **TABLE, scores="logits", scale=0.5, mean=1.0, std=2.0)
    (prediction,) = ask(folder, {"features": {"f": 1, "g": 2, "h": 3}})
    expected = softmax(linear((np.array([[1, 2, 3]]) * 0.5 - 1) / 2, 2))
    assert scores([prediction]) == pytest.approx(expected, abs=1e-6)


def test_probabilities_stay_as_they_are_and_other_outputs_are_left_out(tmp_path):
    nodes = [
        helper.make_node("Softmax", ["x"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0),
    ]
    path = graph(
        tmp_path / "a.onnx",
        nodes,
        [("x", FLOAT, [None, 2])],
        [("label", TensorProto.INT64, [None]), ("probabilities", FLOAT, [None, 2])],
    )
    folder = packaged(path, tmp_path, **(TABLE | {"features": ["f", "g"]}))
    (prediction,) = ask(folder, {"features": {"f": 0, "g": 1}})
    assert (prediction["label"], round(prediction["probability"], 4)) == ("b", 0.7311)
    assert [spec.name for spec in open_folder(folder).manifest.outputs] == ["probabilities"]


@pytest.mark.parametrize("shape", [("N", 1), ("N",)])
def test_a_regression_answers_one_number_whatever_its_shape(tmp_path, shape):
    weights = {"w": np.array([[1], [10]] if len(shape) == 2 else [1, 10], np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["variable"])]
    path = graph(tmp_path / "a.onnx", nodes, [("x", FLOAT, ["N", 2])], [("variable", FLOAT, shape)], weights)
    rows = tmp_path / "test.npz"
    np.savez(rows, features=[[1, 1], [2, 0], [0, 3]], targets=[11, 2, 30])
    folder = packaged(
        path, tmp_path, task="tabular_regression", features=["f", "g"], low=0, high=9, target={"name": "t"}, test=rows
    )
    assert ask(folder, {"features": {"f": 3, "g": 4}}) == [{"value": 43.0}]
    assert open_folder(folder).manifest.metrics["r2"] == 1.0


@pytest.mark.parametrize("tail", [(2, 3), (1, 2, 3), (2, 3, 1)])
def test_pictures_get_their_channel_and_scale_inside_the_graph(tmp_path, tail):
    path = scorer(tmp_path / "a.onnx", features=6, tail=tail)
    folder = packaged(path, tmp_path, task="image_classification", labels=["a", "b"], scale=1 / 255, mean=0.5, std=0.25)
    image = [[0, 255, 128], [1, 2, 3]]
    expected = softmax(linear((np.array(image).reshape(1, 6) / 255 - 0.5) / 0.25, 2))
    assert scores(ask(folder, {"image": image})) == pytest.approx(expected, abs=1e-5)


def test_pictures_of_an_open_size_are_asked_for_it(tmp_path):
    path = scorer(tmp_path / "a.onnx", features=6, tail=("h", "w"))
    said = {"task": "image_classification", "labels": ["a", "b"]}
    with pytest.raises(SettingsMissing, match=r"2 things are missing: height, width"):
        packaged(path, tmp_path, **said)
    folder = packaged(path, tmp_path, **said, height=2, width=3)
    assert len(ask(folder, {"image": [[1, 2, 3]] * 2})) == 1
    with pytest.raises(PackageRefused, match="height is said to be 5, and the model takes 2"):
        packaged(scorer(tmp_path / "b.onnx", features=6, tail=(2, 3)), tmp_path, **said, height=5)


def test_series_are_padded_and_the_model_is_told_their_lengths(tmp_path):
    folder = packaged(series(tmp_path), tmp_path, **SERIES)
    long, short = [[1, 2], [3, 4], [5, 6]], [[1, 2]]
    predictions = ask(folder, {"sequence": long}, {"sequence": short})
    expected = softmax(np.array([np.sum(long, axis=0), np.sum(short, axis=0)]) / 10)
    assert scores(predictions) == pytest.approx(expected, abs=1e-6)


SERIES = {"task": "sequence_classification", "labels": ["a", "b"], "low": -9, "high": 9, "max_length": 5}


def series(tmp_path, *, masked=True):
    """Write a model that sums up the steps of a series; without the mask, it takes their number for granted."""
    weights = {"one": np.array([1], np.int64), "ten": np.array(10, np.float32)}
    nodes = [
        helper.make_node("ReduceSum", ["steps", "one"], ["sum"], keepdims=0),
        helper.make_node("Div", ["sum", "ten"], ["plain"]),
        helper.make_node("Unsqueeze", ["lengths", "one"], ["column"]),
        helper.make_node("Cast", ["column"], ["counts"], to=FLOAT),
        helper.make_node("Mul", ["counts", "zero"], ["nothing"]),
        helper.make_node("Add", ["plain", "nothing"], ["logits"]),
    ]
    weights["zero"] = np.array(0, np.float32)
    if not masked:  # the padded steps count
        nodes[0] = helper.make_node("ReduceMean", ["steps"], ["sum"], axes=[1], keepdims=0)
    return graph(
        tmp_path / "series.onnx",
        nodes,
        [("steps", FLOAT, ["N", "T", 2]), ("lengths", TensorProto.INT64, ["N"])],
        [("logits", FLOAT, ["N", 2])],
        weights,
    )


def test_a_model_whose_rows_feel_their_padding_is_refused_with_the_reason(tmp_path):
    with pytest.raises(NotProven, match=r"rows of a batch change each other's answers.*model.eval\(\)"):
        packaged(series(tmp_path, masked=False), tmp_path, **SERIES)
    assert not (tmp_path / "models").exists() or list((tmp_path / "models").rglob("*")) == []


def test_a_model_whose_rows_disturb_each_other_is_refused(tmp_path):
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["logits"]),
    ]
    path = graph(tmp_path / "a.onnx", nodes, [("x", FLOAT, ["N", 3])], [("logits", FLOAT, ["N", 3])])
    with pytest.raises(NotProven, match="rows of a batch change each other's answers"):
        packaged(path, tmp_path, **(TABLE | {"labels": ["a", "b", "c"]}))


def test_a_model_that_answers_at_random_is_refused(tmp_path):
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["noise"]),
        helper.make_node("Add", ["x", "noise"], ["logits"]),
    ]
    path = graph(tmp_path / "a.onnx", nodes, [("x", FLOAT, ["N", 3])], [("logits", FLOAT, ["N", 3])])
    with pytest.raises(NotProven, match=r"golden rows|other answers at every call"):
        packaged(path, tmp_path, **(TABLE | {"labels": ["a", "b", "c"]}))


TENSORS = {"task": "tensors", "bounds": {"x": {"low": -1, "high": 1}}}


def test_tensors_of_open_axes_and_several_dtypes(tmp_path):
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["twice"]),
        helper.make_node("Add", ["n", "n"], ["sum"]),
        helper.make_node("Not", ["flag"], ["not"]),
    ]
    path = graph(
        tmp_path / "a.onnx",
        nodes,
        [("x", FLOAT, ["N", "T", 2]), ("n", TensorProto.INT64, ["N"]), ("flag", TensorProto.BOOL, ["N", 2])],
        [("twice", FLOAT, ["N", "T", 2]), ("sum", TensorProto.INT64, ["N"]), ("not", TensorProto.BOOL, ["N", 2])],
        {"two": np.array(2, np.float32)},
    )
    with pytest.raises(SettingsMissing, match=r"2 things are missing: bounds, max_lengths"):
        packaged(path, tmp_path, task="tensors")
    bounds = TENSORS["bounds"] | {"n": {"low": 0, "high": 10}}
    folder = packaged(path, tmp_path, task="tensors", bounds=bounds, max_lengths={"T": 4})
    bundle, _ = prove_as_served(folder)
    assert [spec.shape for spec in bundle.manifest.outputs] == [("batch", "twice_1", 2), ("batch",), ("batch", 2)]
    asked = {"inputs": {"x": [[0.5, 1], [0, 0.25], [1, 1]], "n": 7, "flag": [True, False]}}
    assert ask(folder, asked) == [
        {"outputs": {"twice": [[1, 2], [0, 0.5], [2, 2]], "sum": 14, "not": [False, True]}}
    ]  # fmt: skip


def test_tensors_with_lengths_are_padded(tmp_path):
    said = {"task": "tensors", "bounds": {"steps": {"low": -9, "high": 9}}, "max_lengths": {"T": 6}}
    folder = packaged(series(tmp_path), tmp_path, **said)
    first, second = ask(folder, {"inputs": {"steps": [[1, 2], [3, 4]]}}, {"inputs": {"steps": [[5, 5]], "lengths": 1}})
    assert first["outputs"]["logits"] == pytest.approx([0.4, 0.6])
    assert second["outputs"]["logits"] == pytest.approx([0.5, 0.5])


def test_labels_that_do_not_match_the_outputs_are_counted(tmp_path):
    with pytest.raises(PackageRefused, match=r"there are 2 labels \(a, b\), and the model answers with .* \[3\] a row"):
        packaged(scorer(tmp_path / "a.onnx", classes=3), tmp_path, **TABLE)
    with pytest.raises(PackageRefused, match="2 features are named, and the model takes 3"):
        packaged(scorer(tmp_path / "a.onnx"), tmp_path, **(TABLE | {"features": ["f", "g"]}))


def test_logits_that_are_called_probabilities_are_told(tmp_path):
    with pytest.raises(PackageRefused, match=r"no probabilities.*say --scores logits"):
        packaged(scorer(tmp_path / "a.onnx", name_out="y"), tmp_path, **TABLE, scores="probabilities")


def test_everything_that_is_missing_is_told_at_once_and_the_example_is_taken(tmp_path):
    path = scorer(tmp_path / "MY MODEL é.onnx", name_out="y")
    with pytest.raises(SettingsMissing) as caught:
        package(path, Config(task="tabular_classification"), tmp_path)
    head, _, example = str(caught.value).partition("\n")
    assert head.startswith("6 things are missing: description, license, name, features, labels, scores;")
    assert set(tomllib.loads(example)) == {"description", "license", "name", "features", "labels", "scores"}
    Config.model_validate(tomllib.loads(example))
    with pytest.raises(SettingsMissing, match="one thing is missing: task"):
        package(scorer(tmp_path / "a.onnx"), Config(**SAID), tmp_path)
    with pytest.raises(SettingsMissing, match="2 things are missing: low, high"):
        packaged(
            path, tmp_path, name="a", scores="logits", **{k: v for k, v in TABLE.items() if k not in ("low", "high")}
        )


@pytest.mark.parametrize("task", ["tensors", "image_classification", "sequence_classification"])
def test_every_example_of_what_is_missing_is_toml_that_is_taken(tmp_path, task):
    nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["x"], ["z"])]
    values = [(name, FLOAT, ["N", "T", "U"]) for name in "xyz"]
    path = graph(tmp_path / "a.onnx", nodes, values[:1], values[1:])
    with pytest.raises(PackageRefused) as caught:
        package(path, Config(task=task), tmp_path)
    assert isinstance(caught.value, SettingsMissing) == (task != "sequence_classification")
    if isinstance(caught.value, SettingsMissing):
        Config.model_validate(tomllib.loads(str(caught.value).partition("\n")[2]))
    else:
        assert "--task tensors" in str(caught.value)


@pytest.mark.parametrize("answers", [["a", "b", "b"], [0, 1, 1]])
def test_accuracy_is_measured_where_test_rows_are_given(tmp_path, answers):
    rows = tmp_path / "test.npz"
    # the second class always has the greater score
    np.savez(rows, anything=[[1, 2, 3], [3, 2, 1], [1, 1, 1]], labels=answers)
    folder = packaged(scorer(tmp_path / "a.onnx"), tmp_path, **TABLE, test=rows)
    bundle, _ = prove_as_served(folder)
    assert bundle.manifest.metrics == {"accuracy": pytest.approx(2 / 3)}
    assert bundle.manifest.artifacts[0].test_accuracy == pytest.approx(2 / 3)
    assert bundle.manifest.artifacts[0].latency_ms.keys() == {"1", "32"}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": [[1, 2, 3]], "labels": ["z"]}, "'z' is no label of the model"),
        ({"x": [[1, 2, 3]], "labels": [2]}, "2 is no label"),
        ({"x": [[1, 2, 3]], "labels": [0, 1]}, "1 rows and 2 answers"),
        ({"x": [[1, 2, 3]]}, "no labels or targets"),
        ({"x": [[1, 2]], "labels": [0]}, r"shape \(1, 2\)"),
        ({"x": [[1, 2, 99]], "labels": [0]}, "'h' has numbers from 99 to 99, and the bounds are 0 to 9"),
        ({"x": np.zeros((0, 3)), "labels": []}, "has no rows"),
        ({"x": [[1, 2, 3]], "y": [[1]], "labels": [0]}, "expected one array of rows"),
        ({"x": [["a", "b", "c"]], "labels": [0]}, "expected numbers"),
    ],
)
def test_test_rows_that_do_not_fit_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "test.npz", **arrays)
    with pytest.raises(PackageRefused, match=message):
        packaged(scorer(tmp_path / "a.onnx"), tmp_path, **TABLE, test=tmp_path / "test.npz")


def test_golden_rows_are_those_that_were_given(tmp_path):
    given = tmp_path / "rows.jsonl"
    rows = [{"features": {"f": 1, "g": 2, "h": 3}}, {"features": {"h": 0, "g": 0, "f": 0}}]
    given.write_text("\n\n".join(json.dumps(row) for row in rows))
    folder = packaged(scorer(tmp_path / "a.onnx"), tmp_path, **UNBOUNDED, golden=given)
    bundle, _ = prove_as_served(folder)
    assert bundle.golden().requests == rows
    assert bundle.manifest.task.features[0].minimum is None


def test_golden_rows_are_drawn_at_the_edges_and_the_same_for_a_seed(tmp_path):
    path = scorer(tmp_path / "a.onnx")
    first, second, other = (packaged(path, tmp_path, **TABLE, seed=seed) for seed in (1, 1, 2))
    rows = [prove_as_served(folder)[0].golden().inputs["features"] for folder in (first, second, other)]
    assert np.array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[0], rows[2])
    assert (rows[0].min(), rows[0].max()) == (0, 9)
    assert [folder.name for folder in (first, second, other)] == ["1", "2", "3"]


def test_a_version_that_exists_is_refused(tmp_path):
    path = scorer(tmp_path / "a.onnx")
    packaged(path, tmp_path, **TABLE, version=4)
    with pytest.raises(VersionExists, match="the next free one is 5"):
        packaged(path, tmp_path, **TABLE, version=4)


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, after):
    calls = []
    write = writer._write

    def fail(path, data):
        calls.append(path)
        if len(calls) > after:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    monkeypatch.setattr(writer, "_write", fail)
    with pytest.raises(OSError, match="No space left"):
        packaged(scorer(tmp_path / "a.onnx"), tmp_path, **TABLE)
    assert len(calls) == after + 1
    assert list((tmp_path / "models").rglob("*")) == []


def test_a_model_that_fails_on_a_row_or_answers_nan_is_told_what_would_help(tmp_path):
    nodes = [helper.make_node("Log", ["x"], ["logits"])]
    path = graph(tmp_path / "a.onnx", nodes, [("x", FLOAT, ["N", 3])], [("logits", FLOAT, ["N", 3])])
    said = TABLE | {"labels": ["a", "b", "c"]}
    with pytest.raises(PackageRefused, match=r"row 0 with NaN or an infinity.*narrow the bounds.*--golden"):
        packaged(path, tmp_path, **said)
    prove_as_served(packaged(path, tmp_path, **(said | {"low": 1})))
    table = {"table": np.ones((4, 3), np.float32)}
    nodes = [helper.make_node("Gather", ["table", "i"], ["logits"])]
    path = graph(tmp_path / "g.onnx", nodes, [("i", TensorProto.INT64, ["N"])], [("logits", FLOAT, ["N", 3])], table)
    with pytest.raises(PackageRefused, match=r"the model fails on row 1.*narrow them"):
        packaged(path, tmp_path, task="tensors", bounds={"i": {"low": 0, "high": 9}})
    prove_as_served(packaged(path, tmp_path, task="tensors", bounds={"i": {"low": 0, "high": 3}}))


def test_an_output_without_a_batch_axis_is_refused(tmp_path):
    nodes = [helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0)]
    path = graph(tmp_path / "a.onnx", nodes, [("x", FLOAT, ["N", 3])], [("sum", FLOAT, [])])
    with pytest.raises(PackageRefused, match="the first axis is the batch"):
        packaged(path, tmp_path, **TENSORS)


def test_a_file_of_nothing_that_is_known_is_refused(tmp_path):
    for name in ("model.h5", "model.pb"):
        (tmp_path / name).write_bytes(b"something")
        with pytest.raises(PackageRefused, match="nothing that is known here"):
            packaged(tmp_path / name, tmp_path)
    with pytest.raises(OSError, match="No such file"):
        packaged(tmp_path / "none.pt", tmp_path)
    with pytest.raises(OSError, match="No such file"):
        packaged(tmp_path / "none.onnx", tmp_path)


def test_open_axes_of_outputs_are_found_with_golden_rows_of_one_length_too(tmp_path):
    node = helper.make_node("Identity", ["x"], ["y"])
    path = graph(tmp_path / "a.onnx", [node], [("x", FLOAT, ["N", "T"])], [("y", FLOAT, ["N", "T"])])
    np.savez(tmp_path / "rows.npz", x=np.zeros((3, 4), np.float32))
    folder = packaged(path, tmp_path, task="tensors", max_lengths={"T": 9}, golden=tmp_path / "rows.npz")
    assert open_folder(folder).manifest.outputs[0].shape == ("batch", "y_1")
    assert ask(folder, {"inputs": {"x": [1, 2, 3, 4, 5, 6]}}) == [{"outputs": {"y": [1, 2, 3, 4, 5, 6]}}]


def test_an_axis_that_is_open_and_takes_one_length_only_is_refused(tmp_path):
    weights = {"w": np.ones((5, 2), np.float32)}
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = graph(tmp_path / "a.onnx", [node], [("x", FLOAT, ["N", "T"])], [("y", FLOAT, ["N", 2])], weights)
    with pytest.raises(PackageRefused, match="fails on rows that are shorter by one"):
        packaged(path, tmp_path, **TENSORS, max_lengths={"T": 9})
