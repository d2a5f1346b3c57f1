"""What every network of series and texts keeps: a row's answer is its own, whatever stands beside or behind it."""

import hashlib
import re
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from torch.nn import functional

from app.tensors import concat, concat_padded, take, trim
from training.export.verify import alone

KINDS = ["eager", "onnx"]
MIXED = [7, 1, 24, 3, 24, 12]


def one_by_one(run, rows):
    """Answers of rows that were cut to their own length, each by itself."""
    return concat([run(trim(take(rows, index, index + 1))) for index in range(len(rows["lengths"]))])


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_has_the_same_answer_alone_and_beside_rows_of_other_lengths(case, kind):
    rows, run = case.rows(MIXED), case.runner(kind)
    together = run(rows)
    assert together["logits"].shape == together["probabilities"].shape == (len(MIXED), case.num_classes)
    assert together["logits"].dtype == together["probabilities"].dtype == np.float32
    np.testing.assert_allclose(together["probabilities"], one_by_one(run, rows)["probabilities"], atol=1e-5)
    # with its padding kept, too
    np.testing.assert_allclose(together["probabilities"], alone(run, rows)["probabilities"], atol=1e-5)
    # a test of answers that are all the same would tell nothing
    assert together["probabilities"].std(axis=0).max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_has_the_same_answer_beside_rows_of_its_own_length(case, kind):
    equal, run = case.rows([7, 7, 7, 7]), case.runner(kind)
    together = run(equal)["probabilities"]
    np.testing.assert_allclose(together, one_by_one(run, equal)["probabilities"], atol=1e-5)
    longer = run(concat_padded([equal, case.rows([24], seed=1)]))["probabilities"]
    np.testing.assert_allclose(longer[:4], together, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_stands_beyond_a_length_changes_nothing(case, kind):
    rows, run = case.rows(MIXED), case.runner(kind)
    expected = run(rows)["probabilities"]
    filled = rows[case.input_name].copy()
    filled[np.arange(24) >= rows["lengths"][:, None]] = 9
    actual = run({case.input_name: filled, "lengths": rows["lengths"]})["probabilities"]
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_first_and_last_real_step_and_their_order_matter(case, kind):
    rows, run = case.rows([7, 24]), case.runner(kind)
    expected = run(rows)["probabilities"]
    for step in (0, 6):
        changed = rows[case.input_name].copy()
        changed[0, step] = 9
        actual = run({case.input_name: changed, "lengths": rows["lengths"]})["probabilities"]
        assert np.abs(actual[0] - expected[0]).max() > 1e-6
        np.testing.assert_allclose(actual[1], expected[1], atol=1e-6)
    turned = rows[case.input_name].copy()
    turned[0, :7] = turned[0, :7][::-1]
    actual = run({case.input_name: turned, "lengths": rows["lengths"]})["probabilities"]
    assert np.abs(actual[0] - expected[0]).max() > 1e-7


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_without_steps_disturbs_nobody(case, kind):
    rows, run = case.rows([5, 7]), case.runner(kind)
    expected = run(rows)["probabilities"]
    rows["lengths"][0] = 0
    rows[case.input_name][0] = 0
    actual = run(rows)["probabilities"]
    assert np.isfinite(actual).all()
    np.testing.assert_allclose(actual[1], expected[1], atol=1e-6)


@pytest.mark.parametrize("lengths", [[1], [24], [1, 1], [5, 2, 5], MIXED, [2] * 33])
def test_the_graph_answers_as_the_network_does_at_any_size(case, lengths):
    rows = case.rows(lengths, seed=2)
    actual, expected = case.runner("onnx")(rows), case.runner("eager")(rows)
    assert list(actual) == ["logits", "probabilities"]
    for name in actual:
        np.testing.assert_allclose(actual[name], expected[name], atol=1e-5)


def test_the_graph_names_its_axes_and_leaves_them_open(case):
    graph = onnx.load_from_string(case.exported).graph

    def described(values):
        return {
            value.name: tuple(axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim)
            for value in values
        }

    assert described(graph.input) == {spec.name: spec.shape for spec in case.inputs}
    assert described(graph.output) == {spec.name: spec.shape for spec in case.outputs}


def test_the_graph_is_no_larger_than_it_must_be(case):
    model = onnx.load_from_string(case.exported)
    kinds = [node.op_type for node in model.graph.node]
    layers = case.config.get("layers", {"transformer": 2}.get(case.name, 1))
    assert not model.functions
    assert kinds.count("RNN" if case.takes_series else "LSTM") == (0 if case.name == "transformer" else layers)
    assert not {"Loop", "Scan", "If"} & set(kinds)
    # weights are written as the nodes take them
    computed = {name for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type in ("RNN", "LSTM"):
            assert not computed & set(node.input[1:4])
    assert (
        sum(np.prod(tensor.dims) for tensor in model.graph.initializer)
        < 1.02 * sum(parameter.numel() for parameter in case.build().parameters()) + 64
    )


def test_the_file_bears_no_trace_of_this_machine_and_comes_out_the_same_again(case):
    data = case.exported
    assert case.export() == data
    assert not re.search(rb"\.py\b|site-packages|stack_trace|/home/|/root/|/tmp/|/usr/", data)


def test_another_process_writes_the_same_files(make_case):
    cases = [make_case(name) for name in ("rnn", "lstm", "transformer")]
    described = [
        (case.name, case.config, [spec.model_dump() for spec in (*case.inputs, *case.outputs)]) for case in cases
    ]
    code = (
        "import hashlib, torch\n"
        "from app.bundle.manifest import TensorSpec\n"
        "from training import architectures\n"
        "from training.export import onnx\n"
        "torch.set_num_threads(1)\n"
        f"for name, config, specs in {described!r}:\n"
        "    torch.manual_seed(0)\n"
        "    served = architectures.as_served(architectures.build(name, config)).eval()\n"
        "    specs = [TensorSpec(**spec) for spec in specs]\n"
        "    print(hashlib.sha256(onnx.dump(served, specs[:2], specs[2:])).hexdigest())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [hashlib.sha256(case.export()).hexdigest() for case in cases]


def test_gradients_reach_every_parameter(case):
    network = case.build()
    rows = [torch.tensor(array) for array in case.rows(MIXED).values()]
    functional.cross_entropy(network(*rows), torch.arange(len(MIXED)) % case.num_classes).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_sixteen_rows_are_learned_by_heart(case):
    network = case.build(dropout=0.0).train()
    rows = [torch.tensor(array) for array in case.rows([3 + index for index in range(16)]).values()]
    labels_B = torch.arange(16) % case.num_classes
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    first = functional.cross_entropy(network(*rows), labels_B).item()
    for _ in range(120):
        loss = functional.cross_entropy(network(*rows), labels_B)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    with torch.inference_mode():
        logits_BK = network(*rows)
    assert functional.cross_entropy(logits_BK, labels_B) < 0.1 * first
    assert (logits_BK.argmax(1) == labels_B).all()


def test_dropout_is_for_training_only(case):
    network = case.build(dropout=0.5)
    rows = [torch.tensor(array) for array in case.rows(MIXED).values()]
    network.train()
    assert not torch.equal(network(*rows), network(*rows))
    network.eval()
    assert torch.equal(network(*rows), network(*rows))
