"""The fast decoder only accepts: whatever it returns, the strict one returns too, to the bit."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from app.errors import RequestError
from app.tasks.decoding.fast_json import FastDecoder, guess_model
from app.tasks.decoding.strict_json import parse_json
from app.tasks.image_classification import ImageClassificationTask
from app.tensors import Array
from tests.support.json_bodies import STRANGE, array, body_of, damages_of
from tests.support.tasks import LIMITS, task_of

HEIGHT, WIDTH = 2, 3
PLAIN = b'{"instances":[{"image":[[1,2,3],[4,5,6]]}]}'

TASK = task_of(height=HEIGHT, width=WIDTH)
WIDE = task_of(height=1, width=2, low=-1e9, high=1e9)

NUMBERS = st.one_of(
    st.integers(0, 255).map(str),
    st.floats(0, 255).map(repr),
    st.floats(0, 255, width=32).map(repr),
    st.decimals(0, 255, places=25).map(str),
    st.sampled_from(["0", "-0", "-0.0", "255", "255.0", "2.55e2", "1E2", "1e-400", "5e-324", "1e+00", "0.1"]),
)


def _right(cells: list[str]) -> str:
    return array([array(cells[:WIDTH]), array(cells[WIDTH:])])


_SHAPES: dict[str, Callable[[list[str]], str]] = {
    "flat": array,
    "singletons": lambda cells: array([array([cell]) for cell in cells]),
    "transposed": lambda cells: array([array(cells[:2]), array(cells[2:4]), array(cells[4:])]),
    "ragged": lambda cells: array([array(cells[:2]), array(cells[2:])]),
    "ragged with nesting": lambda cells: array([array([array(cells[:2]), cells[2]]), array(cells[3:])]),
    "one row nested, one flat": lambda cells: array([array([array([cells[0]]), *cells[1:3]]), *cells[3:]]),
    "rows of arrays": lambda cells: array([array([array([cell]) for cell in cells[i : i + 3]]) for i in (0, 3)]),
    "one bracket more": lambda cells: array([_right(cells)]),
    "row missing": lambda cells: array([array(cells[:WIDTH])]),
    "row missing, the other long": lambda cells: array([array(cells)]),
    "empty row": lambda cells: array([array(cells), array([])]),
    "rows swapped with brackets": lambda cells: array([array([array(cells[:3]), *cells[3:5]]), cells[5]]),
    "row more": lambda cells: array([array(cells[:3]), array(cells[3:]), array([])]),
    "row of one array": lambda cells: array([array([array(cells[:3])]), array(cells[3:])]),
    "nested in pairs": lambda cells: array([array([array(cells[:2]), array(cells[2:4]), array(cells[4:])]), array([])]),
}


@st.composite
def bodies(draw: DrawFn) -> bytes:
    damages = draw(damages_of("number", "shape"))
    count = draw(st.sampled_from([1, 1, 1, 2, 3]))
    pictures = [draw(st.lists(NUMBERS, min_size=HEIGHT * WIDTH, max_size=HEIGHT * WIDTH)) for _ in range(count)]
    if "number" in damages:
        pictures[-1][draw(st.integers(0, HEIGHT * WIDTH - 1))] = draw(STRANGE)
    shapes = [_right] * count
    if "shape" in damages:
        shapes[-1] = draw(st.sampled_from(list(_SHAPES.values())))
    values = [shape(cells) for shape, cells in zip(shapes, pictures, strict=True)]
    return draw(body_of("dummy", "image", values, damages))


def strictly(task: ImageClassificationTask, body: bytes) -> Array | None:
    try:
        return task.decode_json(parse_json(body, task.json_limits))["image"]
    except RequestError:
        return None


def expect_fast_within_strict(task: ImageClassificationTask, body: bytes) -> bool:
    """Hold the two against each other; return whether the fast one accepted."""
    fast = task.decode_fast(body)
    if fast is None:
        return False
    strict = strictly(task, body)
    assert strict is not None, "the strict decoder refuses what the fast one took"
    assert (fast["image"].dtype, fast["image"].shape) == (strict.dtype, strict.shape)
    assert fast["image"].tobytes() == strict.tobytes()
    return True


@settings(max_examples=500)
@given(bodies())
@example(b'{"instances":[{"image":[[1,2,3],[4,5,6]]}],"instances":[{"image":[[1,2,3],[4,5,6]]}]}')
@example(b'{"instances":[{"image":[[1,2,3],[4,5,6]],"image":[[1,2,3],[4,5,7]]}]}')
@example(b'{"instances":[]}')
@example(b'{"instances":[{"image":[[1,2],[3,4,5,6]]}]}')
@example(b'{"instances":[{"image":[[1],[2],[3],[4],[5],[6]]}]}')
@example(b'\xef\xbb\xbf{"instances":[{"image":[[1,2,3],[4,5,6]]}]}')
@example(b'{"instances":[{"image":[[-0,-0.0,1e-400],[255,2.55e2,254.99999999999999999]]}]}')
def test_what_the_fast_decoder_takes_the_strict_one_takes_bit_for_bit(body: bytes) -> None:
    expect_fast_within_strict(TASK, body)


@given(st.lists(st.integers(-(2**70), 2**70).map(str) | st.floats(-2e9, 2e9).map(repr), min_size=2, max_size=2))
def test_numbers_of_any_length_are_rounded_alike(cells: list[str]) -> None:
    body = b'{"instances":[{"image":[%s]}]}' % array(cells).encode()
    expect_fast_within_strict(WIDE, body)


@given(st.lists(st.lists(NUMBERS, min_size=6, max_size=6), min_size=1, max_size=4), st.booleans())
def test_every_plain_body_is_taken(pictures: list[list[str]], names_model: bool) -> None:
    instances = array([f'{{ "image" : {_right(cells)} }}' for cells in pictures])
    body = f'{{"model": "dummy", "instances": {instances}}}' if names_model else f'{{"instances":{instances}}}'
    assert expect_fast_within_strict(TASK, body.encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"1",
        b'"text"',
        b"{}",
        b'{"instances":[]}',
        b'{"instances":{}}',
        b'{"instances":null}',
        b'{"instances":[1]}',
        b'{"instances":[[[1,2,3],[4,5,6]]]}',
        b'{"instances":[{"picture":[[1,2,3],[4,5,6]]}]}',
        b'{"instances":[{"image":"iVBORw0KGgo="}]}',
        b'{"instances":[{"image":[[1,2,3],[4,5,6]],"more":1}]}',
        b'{"model":"other","instances":[{"image":[[1,2,3],[4,5,6]]}]}',
        b'{"model":1,"instances":[{"image":[[1,2,3],[4,5,6]]}]}',
        b'{"extra":"dummy","instances":[{"image":[[1,2,3],[4,5,6]]}]}',
        b'{"instances":[{"image":[[1,2,3],[4,5,6]]}],"instances":[{"image":[[1,2,3],[4,5,6]]}]}',
        b'{"model":"dummy","model":"dummy"}',
        b'{"instances":[{"image":[[1,2,3],[4,5,6]],"image":[[1,2,3],[4,5,6]]}]}',
        b'\xef\xbb\xbf{"instances":[{"image":[[1,2,3],[4,5,6]]}]}',
        b'{"instances":[{"image":[[1,2,3],[4,5,6]]}]} x',
        b'{"instances":[{"image":[[1,2],[3,4,5,6]]}]}',
        b'{"instances":[{"image":[[1],[2],[3],[4],[5],[6]]}]}',
        b'{"instances":[{"image":[1,2,3,4,5,6]}]}',
        b'{"instances":[{"image":[[[1,2,3],[4,5,6]]]}]}',
        b'{"instances":[{"image":[[1,2,3]]}]}',
        b'{"instances":[{"image":[[1,2,3],[4,5,6],[7,8,9]]},{"image":[[1,2,3]]}]}',
        b'{"instances":[{"image":"[[["}]}',
        b'{"instances":[{"image":[[[1],[2],[3]],[[4],[5],[6]]]}]}',
        b'{"instances":[{"image":[[1,2,"3"],[4,5,6]]}]}',
        b'{"instances":[{"image":[[1,2,true],[4,5,6]]}]}',
        b'{"instances":[{"image":[[1,2,null],[4,5,6]]}]}',
        b'{"instances":[{"image":[[1,2,{}],[4,5,6]]}]}',
        b'{"instances":[{"image":[[1,2,NaN],[4,5,6]]}]}',
        b'{"instances":[{"image":[[1,2,Infinity],[4,5,6]]}]}',
        b'{"instances":[{"image":[[1,2,1e39],[4,5,6]]}]}',
        b'{"instances":[{"image":[[1,2,1e400],[4,5,6]]}]}',
        b'{"instances":[{"image":[[1,2,-1],[4,5,6]]}]}',
        b'{"instances":[{"image":[[1,2,256],[4,5,6]]}]}',
        b"[" * 100_000,
        b'{"instances":' * 5_000,
        PLAIN[:-1],
        PLAIN[1:],
    ],
)
def test_any_other_body_is_left_to_the_strict_decoder(body: bytes) -> None:
    assert TASK.decode_fast(body) is None
    assert TASK.decode_fast(PLAIN) is not None, "a refused body must not hold the parser"


def test_more_instances_than_the_limit_are_left_to_the_strict_decoder() -> None:
    def body(count: int) -> bytes:
        return json.dumps({"instances": [{"image": [[1, 2, 3], [4, 5, 6]]}] * count}).encode()

    assert TASK.decode_fast(body(LIMITS.max_instances)) is not None
    assert TASK.decode_fast(body(LIMITS.max_instances + 1)) is None


def test_a_second_call_leaves_the_first_result_alone() -> None:
    first = TASK.decode_fast(PLAIN)
    TASK.decode_fast(PLAIN.replace(b"1", b"9"))
    assert first is not None
    assert first["image"].tolist() == [[[1, 2, 3], [4, 5, 6]]]


def test_the_bounds_themselves_are_taken() -> None:
    decoder = FastDecoder("any", max_instances=1)
    for low, high, taken in ((1, 6, True), (1.5, 6, False), (1, 5.5, False)):
        result = decoder.matrices(PLAIN, "image", (2, 3), low, high)
        assert (result is not None) == taken


def test_rows_and_columns_are_not_confused() -> None:
    decoder = FastDecoder("any", max_instances=1)
    assert decoder.matrices(PLAIN, "image", (3, 2), 0, 255) is None
    taken = decoder.matrices(PLAIN, "image", (2, 3), 0, 255)
    assert taken is not None
    assert np.array_equal(taken, [[[1, 2, 3], [4, 5, 6]]])


@given(bodies())
def test_a_guessed_model_that_reads_the_body_is_the_one_that_it_names(body: bytes) -> None:
    name = guess_model(body)
    if name is None or task_of(name=name, height=HEIGHT, width=WIDTH).decode_fast(body) is None:
        return  # the strict reading decides
    assert parse_json(body, TASK.json_limits)["model"] == name


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"model": "cnn", "instances": []}', "cnn"),
        (b' { "model" :"cnn" , "instances": []}', "cnn"),
        (b'{"instances": [], "model": "cnn"} ', "cnn"),
        (b'{"instances": [' + b"0," * 1000 + b'0], "model": "cnn"}', "cnn"),
        (b'{"instances": []}', None),
        (b'{"model": 1, "instances": []}', None),
        (b'{"model": null, "instances": []}', None),
        (b'{"instances": [], "extra": {"a": 1, "model": "cnn"}}', None),
        (b'["model", "cnn"]', None),
        (b"{", None),
        (b"", None),
        (b"[" * 100_000, None),
    ],
)
def test_the_model_is_guessed_from_the_ends_of_plain_bodies(body: bytes, name: str | None) -> None:
    assert guess_model(body) == name
