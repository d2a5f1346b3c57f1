import logging
from pathlib import Path

import pytest

from app.bundle.loader import open_bundle
from tests.support.committed import LATEST, NAMES
from training.export import mobile, verify


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_as_the_network_alone_and_in_batches(name):
    bundle = open_bundle(LATEST[name])
    golden, tolerance = bundle.golden(), bundle.manifest.golden.tolerance["onnx"]
    run = mobile.runner(mobile.dump(bundle.read(bundle.artifact("onnx"))))
    for actual in (run(golden.inputs), verify.alone(run, golden.inputs)):
        verify.expect_proven(actual, golden.outputs, tolerance, what=name)


def test_it_is_onnx_runtime_s_own_format_without_traces_of_the_machine():
    bundle = open_bundle(LATEST["mlp"])
    data = mobile.dump(bundle.read(bundle.artifact("onnx")))
    assert data[4:8] == b"ORTM"
    assert str(Path.cwd()).encode() not in data


def test_the_layout_is_not_that_of_one_kind_of_processor():
    bundle = open_bundle(LATEST["cnn"])
    operators = mobile.required_operators(mobile.dump(bundle.read(bundle.artifact("onnx"))))
    assert b"nchwc" not in operators.lower()


def test_the_operators_that_a_build_needs_are_listed():
    bundle = open_bundle(LATEST["cnn"])
    text = mobile.required_operators(mobile.dump(bundle.read(bundle.artifact("onnx")))).decode()
    comment, *lines = text.splitlines()
    assert comment.startswith("#")
    listed = {name for line in lines for name in line.split(";")[2].split(",")}
    assert listed >= {"Conv", "MaxPool", "Softmax"}
    assert str(Path.cwd()) not in text


def test_listing_operators_leaves_logging_as_it_was(capfd):
    handlers = logging.getLogger().handlers[:]
    bundle = open_bundle(LATEST["mlp"])
    mobile.required_operators(mobile.dump(bundle.read(bundle.artifact("onnx"))))
    assert logging.getLogger().handlers == handlers
    assert capfd.readouterr() == ("", "")


def test_what_is_no_such_file_is_refused():
    with pytest.raises(RuntimeError, match="valid ORT format model"):
        mobile.required_operators(b"garbage" * 10)
