"""The NumPy model, its torch twin and its ONNX graph are one."""

import numpy as np
import onnx
import pytest
import safetensors.numpy

from app.bundle.manifest import TensorSpec
from training import architectures
from training.export import numpy_onnx, state_dict, verify
from training.numpy_network.model import Model, Scale
from training.numpy_network.network import Network

NUM_FEATURES, NUM_CLASSES = 6, 3


def make(activation="tanh", hidden=(7, 5), *, output="classes"):
    """Return a model of random weights, in float32, and the config of its twin."""
    rng = np.random.default_rng(7)
    rows = rng.normal(50, [1, 10, 100, 0.1, 0.01, 5], (100, NUM_FEATURES))
    num_outputs = NUM_CLASSES if output == "classes" else 1
    network = Network.fresh((NUM_FEATURES, *hidden, num_outputs), activation=activation, rng=rng)
    targets = Scale.of(rng.normal(150, 77, (100, 1))) if output == "value" else None
    model = Model(inputs=Scale.of(rows), network=network, targets=targets)
    config = {
        "num_features": NUM_FEATURES, "hidden": list(hidden), "activation": activation, "output": output,
        "num_classes": NUM_CLASSES,
    }  # fmt: skip
    return Model.from_state(model.state(), activation=activation), config, rows.astype(np.float32)


def specs(output):
    inputs = (TensorSpec(name="features", dtype="float32", shape=("batch", NUM_FEATURES)),)
    if output == "value":
        return inputs, (TensorSpec(name="value", dtype="float32", shape=("batch",)),)
    shape = ("batch", NUM_CLASSES)
    return inputs, tuple(TensorSpec(name=n, dtype="float32", shape=shape) for n in ("logits", "probabilities"))


@pytest.mark.parametrize("output", ["classes", "value"])
@pytest.mark.parametrize("hidden", [(), (7,), (7, 5)])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "leaky_relu"])
def test_numpy_its_twin_and_its_graph_answer_alike(activation, hidden, output):
    model, config, rows = make(activation, hidden, output=output)
    inputs, outputs = specs(output)
    network = architectures.build("numpy_mlp", config)
    assert network.state_dict().keys() == model.state().keys()
    served = architectures.as_served(state_dict.load(network, safetensors.numpy.save(model.state()))).eval()
    twin = verify.eager_runner(served, tuple(spec.name for spec in outputs))
    graph = verify.onnx_runner(numpy_onnx.dump(model, inputs, outputs))
    for num_rows in (1, 2, 100):
        batch = {"features": rows[:num_rows]}
        expected = model.run(batch["features"])
        for run in (twin, graph):
            actual = run(batch)
            assert actual.keys() == expected.keys() == {spec.name for spec in outputs}
            for spec in outputs:
                assert spec.describes(actual[spec.name])
                assert spec.describes(expected[spec.name])
                np.testing.assert_allclose(actual[spec.name], expected[spec.name], rtol=1e-5, atol=1e-5)


def test_probabilities_are_those_of_the_logits():
    model, _, rows = make()
    outputs = model.run(rows)
    np.testing.assert_allclose(outputs["probabilities"].sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(outputs["probabilities"].argmax(axis=1), outputs["logits"].argmax(axis=1))


def test_a_value_is_in_the_unit_of_its_target():
    model, _, rows = make(output="value")
    assert model.targets is not None
    standard = model.network.forward(model.inputs.standardize(rows))[:, 0]
    np.testing.assert_allclose(
        model.run(rows)["value"], standard * model.targets.std[0] + model.targets.mean[0], rtol=1e-6
    )


def test_a_scale_is_undone_and_a_constant_column_keeps_its_unit():
    rows = np.random.default_rng(0).normal(3, 2, (50, 2))
    rows[:, 1] = 7
    scale = Scale.of(rows)
    standard = scale.standardize(rows)
    np.testing.assert_allclose(standard[:, 0].std(), 1)
    assert not standard[:, 1].any()
    np.testing.assert_allclose(scale.restore(standard), rows)


def test_the_state_survives_and_is_float32():
    model, _, rows = make()
    again = Model.from_state(safetensors.numpy.load(safetensors.numpy.save(model.state())), activation="tanh")
    assert {array.dtype for array in again.state().values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(again.run(rows)["logits"], model.run(rows)["logits"])


def test_the_graph_is_the_same_each_time_and_names_nothing_of_the_machine():
    model, _, _ = make("leaky_relu")
    data = numpy_onnx.dump(model, *specs("classes"))
    assert data == numpy_onnx.dump(model, *specs("classes"))
    graph = onnx.load_model_from_string(data).graph
    assert [node.op_type for node in graph.node] == [
        "Sub", "Div", "Gemm", "LeakyRelu", "Gemm", "LeakyRelu", "Gemm", "Softmax",
    ]  # fmt: skip
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_tensors_that_are_not_those_of_the_model_are_refused():
    model, _, _ = make()
    _, outputs = specs("classes")
    wrong = TensorSpec(name="features", dtype="float32", shape=("batch", NUM_FEATURES + 1))
    with pytest.raises(Exception, match=r"(?i)shape|dimension"):
        numpy_onnx.dump(model, (wrong,), outputs)
