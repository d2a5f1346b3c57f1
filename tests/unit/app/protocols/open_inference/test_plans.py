"""The short reading of inference requests accepts only what the long one accepts, and reads the same."""

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import RequestError
from app.protocols.open_inference import http_body
from app.protocols.open_inference.infer_door import json_limits
from app.protocols.open_inference.model import InferModel
from app.protocols.open_inference.plans import MAX_PLANS, Plans, Wanted
from app.tasks import Task
from app.tensors import Tensors
from tests.support.bundles import manifest_document
from tests.support.kinds import kind_document
from tests.support.tasks import bundle_of, sequence_task_of, task_of, text_task_of


def reader_of(task: Task, document: dict[str, Any]) -> tuple[InferModel, Plans]:
    model = InferModel(bundle_of(document).manifest, task)
    return model, Plans(model, json_limits(task))


PICTURES = reader_of(task_of(), manifest_document())
SERIES = reader_of(sequence_task_of(), kind_document("sequence_classification", "series"))
TEXTS = reader_of(text_task_of(), kind_document("text_classification", "texts"))
LIMITS = json_limits(task_of())


def long_way(model: InferModel, body: bytes, header_length: bytes | None) -> tuple[Tensors, Wanted] | None:
    """Read a request as the door does that names faults; None where it is refused."""
    try:
        request = http_body.parse(body, header_length, LIMITS)
        outputs = model.requested(request.outputs)
        if not model.takes_natural(request):
            model.expect_good(request)
        tensors = model.read(request)
    except RequestError:
        return None
    return tensors, Wanted(outputs, request.parameters.get("binary_data_output") is True, request.id)


def same(a: Tensors, b: Tensors) -> bool:
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and np.array_equal(a[k], b[k]) for k in a)


def picture(model: InferModel, rows: int = 1) -> tuple[str, tuple[int, ...]]:
    (name,) = model.datatypes
    return name, (rows, *(axis for axis in model.rows.rules[name].spec.shape[1:] if isinstance(axis, int)))


def binary(tensors: dict[str, tuple[str, np.ndarray]], **more: Any) -> tuple[bytes, bytes]:
    inputs = [
        {"name": n, "shape": list(a.shape), "datatype": d, "parameters": {"binary_data_size": a.nbytes}}
        for n, (d, a) in tensors.items()
    ]
    head = json.dumps(more | {"inputs": inputs}).encode()
    return head + b"".join(a.tobytes() for _, a in tensors.values()), b"%d" % len(head)


def as_json(tensors: dict[str, tuple[str, np.ndarray]], **more: Any) -> bytes:
    inputs = [
        {"name": n, "shape": list(a.shape), "datatype": d, "data": a.reshape(-1).tolist()}
        for n, (d, a) in tensors.items()
    ]
    return json.dumps(more | {"inputs": inputs}).encode()


@pytest.mark.parametrize("request_id", ["", "a b/1", "x" * 200])
@pytest.mark.parametrize("rows", [1, 3])
def test_plain_pictures_are_read_the_short_way(request_id: str, rows: int) -> None:
    model, plans = PICTURES
    name, shape = picture(model, rows)
    pixels = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) % 255
    more = {"id": request_id} if request_id else {}
    for body, length in (
        (as_json({name: ("FP32", pixels)}, **more), None),
        binary({name: ("FP32", pixels)}, **more),
        binary({name: ("FP32", pixels)}, **more, parameters={"binary_data_output": True}),
    ):
        for _ in range(2):  # learned, then known
            read = plans.read(body, length)
            expected = long_way(model, body, length)
            assert read is not None
            assert expected is not None
            assert same(read[0], expected[0])
            assert read[1] == expected[1]
            assert read[1].id == request_id


def test_series_and_texts_are_read_the_short_way() -> None:
    series = {"sequence": ("FP32", np.full((2, 3, 2), 0.5, np.float32)), "lengths": ("INT64", np.array([3, 2]))}
    texts = {"tokens": ("INT64", np.array([[1, 2, 3]])), "lengths": ("INT64", np.array([2]))}
    for (model, plans), tensors in ((SERIES, series), (TEXTS, texts)):
        for body, length in ((as_json(tensors), None), binary(tensors)):
            read, expected = plans.read(body, length), long_way(model, body, length)
            assert read is not None
            assert expected is not None
            assert same(read[0], expected[0])


def test_emptied_json_is_no_request_of_bytes_though_its_plan_is_known() -> None:
    model, plans = PICTURES
    name, shape = picture(model)
    body = as_json({name: ("FP32", np.zeros(shape, np.float32))})
    assert plans.read(body, None) is not None
    emptied = re.sub(rb"\[[0-9., ]{9,}\]", b"[]", body)
    assert b'"data": []' in emptied
    assert plans.read(emptied, b"%d" % len(emptied)) is None


def test_classes_are_left_to_the_long_way() -> None:
    model, plans = PICTURES
    name, shape = picture(model)
    tensors = {name: ("FP32", np.zeros(shape, np.float32))}
    asked = [{"name": "logits", "parameters": {"classification": 1}}]
    assert plans.read(as_json(tensors, outputs=[{"name": "logits"}]), None) is not None
    assert plans.read(as_json(tensors, outputs=asked), None) is None


def test_plans_are_bounded_in_number_and_size() -> None:
    model, plans = reader_of(task_of(), manifest_document())
    name, shape = picture(model)
    pixels = np.zeros(shape, np.float32)
    for index in range(MAX_PLANS + 5):
        body = as_json({name: ("FP32", pixels)}).replace(b'"inputs"', b" " * index + b'"inputs"')
        assert plans.read(body, None) is not None
    assert len(plans._plans) <= MAX_PLANS
    assert plans.read(as_json({name: ("FP32", pixels)}) + b" " * 5000, None) is None


_VALUES = st.one_of(
    st.integers(-3, 300), st.sampled_from([0.5, 1e39, -0.0, True, None, "1", [1], {}, 2**63, float("nan")])
)


# each makes a request odd, or wrong
DOCUMENTS: list[Callable[[dict[str, Any]], object]] = [
    lambda document: document.update(id="data"),
    lambda document: document.update(id="\u00e9"),
    lambda document: document.update(outputs=[{"name": "probabilities"}]),
    lambda document: document.update(outputs=[{"name": "data"}]),
    lambda document: document["inputs"].append(document["inputs"][0]),
    lambda document: document["inputs"].pop(),
    lambda document: document["inputs"][0].update(datatype="FP64"),
    lambda document: document["inputs"][0].update(datatype="data"),
    lambda document: document["inputs"][0].update(parameters={"binary_data_size": 8}),
    lambda document: document.update(parameters={"binary_data_output": True}),
    lambda document: document.update(parameters={"timeout": 5}),
    lambda document: document.update(parameters={"data": "[1]"}),
]
TEXTS_OF: list[Callable[[str], str]] = [
    lambda text: text.replace('"data"', '"data" '),
    lambda text: text.replace('"data"', '"d\\u0061ta"', 1),
    lambda text: text.replace("]", "", 1),
    lambda text: text.replace('"name"', '"data": [1, 2], "name"', 1),
    lambda text: text.replace('{"inputs"', '{"id":"7", "inputs"'),
    lambda text: text.replace('{"inputs"', '{"id":"7", "id":"", "inputs"'),
    *(
        lambda text, odd=odd: text.replace("0.25", odd, 1)  # type: ignore[misc]
        for odd in ("0.250", "25e-2", ".25", "0x1", "[0.25", '"]"', "0.25]", "0.25], [0.25")
    ),
]


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Requests for the model of series, good ones and such with something wrong, some of them in odd writing."""
    rows, steps = draw(st.integers(0, 3)), draw(st.integers(0, 6))
    count = draw(st.sampled_from([rows * steps * 2] * 6 + [rows * steps]))
    data = draw(st.sampled_from([[0.25] * count] * 3 + [draw(st.lists(_VALUES, min_size=count, max_size=count))]))
    lengths = draw(st.lists(st.integers(-1, 6), min_size=rows, max_size=rows))
    inputs: list[dict[str, Any]] = [
        {"name": "sequence", "shape": [rows, steps, 2], "datatype": "FP32", "data": data},
        {"name": "lengths", "shape": [rows], "datatype": "INT64", "data": lengths},
    ]
    document: dict[str, Any] = {"inputs": draw(st.permutations(inputs))}
    for change in draw(st.lists(st.sampled_from(DOCUMENTS), max_size=2)):
        change(document)
    text = json.dumps(document, indent=draw(st.sampled_from([None, None, 1])))
    for rewrite in draw(st.lists(st.sampled_from(TEXTS_OF), max_size=2)):
        text = rewrite(text)
    return text.encode()


@given(bodies())
def test_the_short_reading_never_takes_what_the_long_one_refuses(body: bytes) -> None:
    model, plans = SERIES
    read = plans.read(body, None)
    if read is None:
        return
    expected = long_way(model, body, None)
    assert expected is not None
    assert same(read[0], expected[0])
    assert read[1] == expected[1]


@given(st.data())
def test_bytes_are_taken_only_where_header_shape_and_size_agree(data: st.DataObject) -> None:
    model, plans = SERIES
    rows, steps = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 5))
    tensors = {
        "sequence": ("FP32", np.full((rows, steps, 2), data.draw(st.sampled_from([0.5, np.nan, 1e30])), np.float32)),
        "lengths": ("INT64", np.array([data.draw(st.integers(0, 6)) for _ in range(rows)])),
    }
    body, length = binary(tensors)
    body = data.draw(st.sampled_from([body, body, body[:-1], body + b"\0", body[: int(length)]]))
    length = data.draw(st.sampled_from([length, length, b"0", b"-1", b"+5", b"9" * 30, b"", b"%d" % (int(length) - 1)]))
    read = plans.read(body, length)
    if read is not None:
        expected = long_way(model, body, length)
        assert expected is not None
        assert same(read[0], expected[0])
