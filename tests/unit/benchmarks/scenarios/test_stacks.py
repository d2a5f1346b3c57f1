"""Samples of stacks, by stage."""

from benchmarks.scenarios._stacks import OTHER, attribute

LOOP = "main (/srv/app/__main__.py);run (/srv/uvicorn/server.py)"


def test_the_innermost_frame_that_is_known_decides() -> None:
    door = LOOP + ";answer (/srv/app/protocols/predict.py)"
    stacks = {
        door + ";admit (/srv/app/admission.py)": 1,
        door + ";decode_fast (/srv/app/tasks/shared/pictures.py);min (/srv/numpy/_methods.py)": 2,
        door: 1,
    }
    assert dict(attribute(stacks)) == {
        "admission": 0.25,
        "JSON to a checked float32 array": 0.5,
        "the door: route, answer, receipts": 0.25,
    }


def test_the_runtime_counts_for_its_backend() -> None:
    stack = LOOP + ";_turn (/srv/app/serving/batcher.py);run (/srv/app/backends/onnx.py);run (/srv/onnxruntime/c.py)"
    assert attribute({stack: 3}) == [("the model", 1.0)]


def test_greatest_first_and_the_unknown_is_told() -> None:
    assert [stage for stage, _ in attribute({"x (/srv/x.py)": 1, LOOP: 2})] == ["event loop and system calls", OTHER]


def test_no_samples_make_no_table() -> None:
    assert attribute({}) == []
