"""The fast decoder of series only accepts: whatever it returns, the strict one returns too, to the bit."""

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from app.errors import RequestError
from app.tasks.decoding.strict_json import parse_json
from app.tasks.sequence_classification import SequenceClassificationTask
from app.tensors import Tensors
from tests.support.json_bodies import STRANGE, array, body_of, damages_of
from tests.support.tasks import LIMITS, sequence_task_of

PLAIN = b'{"instances":[{"sequence":[[1,2],[3,-3]]},{"sequence":[[0,0.5]]}]}'
TASK = sequence_task_of()
LATER = sequence_task_of(min_length=2)
WIDE = sequence_task_of(num_channels=1, low=-1e9, high=1e9)

NUMBERS = st.one_of(
    st.integers(-3, 3).map(str),
    st.floats(-3, 3).map(repr),
    st.decimals(-3, 3, places=25).map(str),
    st.sampled_from(["0", "-0", "-0.0", "3", "3.0", "0.3e1", "-3E0", "1e-400", "5e-324", "0.1"]),
)


@st.composite
def series(draw: DrawFn, damages: tuple[str, ...]) -> str:
    lengths = [0, 6, 7] if "length" in damages else [1, 2, 3, 5]
    steps = [[draw(NUMBERS), draw(NUMBERS)] for _ in range(draw(st.sampled_from(lengths)))]
    if "number" in damages and steps:
        steps[draw(st.integers(0, len(steps) - 1))][draw(st.integers(0, 1))] = draw(STRANGE)
    texts = [array(step) for step in steps]
    if "shape" in damages and steps:
        cells = [cell for step in steps for cell in step]
        index = draw(st.integers(0, len(steps) - 1))
        first, second = steps[index]
        texts[index] = draw(
            st.sampled_from(
                [array([first]), array([first, second, second]), array([]), array([array([first]), second]), first,
                 array([array([first, second])]), array([array([first, second]), array([])]), array([array([]), first]),
                 array([array([first]), array([second])]), *([array(cells[:4])] if len(cells) >= 4 else [])]
            )
        )  # fmt: skip
    return array(texts)


@st.composite
def bodies(draw: DrawFn) -> bytes:
    damages = draw(damages_of("number", "shape", "length"))
    values = [draw(series(())) for _ in range(draw(st.sampled_from([0, 0, 1, 2])))] + [draw(series(tuple(damages)))]
    return draw(body_of("series", "sequence", values, damages))


def strictly(task: SequenceClassificationTask, body: bytes) -> Tensors | None:
    try:
        return task.decode_json(parse_json(body, task.json_limits))
    except RequestError:
        return None


def expect_fast_within_strict(task: SequenceClassificationTask, body: bytes) -> bool:
    """Hold the two against each other; return whether the fast one accepted."""
    fast = task.decode_fast(body)
    if fast is None:
        return False
    strict = strictly(task, body)
    assert strict is not None, "the strict decoder refuses what the fast one took"
    assert fast.keys() == strict.keys()
    for name, array_of in fast.items():
        assert (array_of.dtype, array_of.shape) == (strict[name].dtype, strict[name].shape)
        assert array_of.tobytes() == strict[name].tobytes()
    return True


@settings(max_examples=500)
@given(bodies())
@example(b'{"instances":[{"sequence":[[1,2],[3]]}]}')
@example(b'{"instances":[{"sequence":[[1],[2]]}]}')
@example(b'{"instances":[{"sequence":[[[1],2]]}]}')
@example(b'{"instances":[{"sequence":[[[],[1,2]]]}]}')
@example(b'{"instances":[{"sequence":[[[1,2],[]],[[],[3,3]]]}]}')
@example(b'{"instances":[{"sequence":[[1,2]]},{"sequence":[]}]}')
@example(b'{"instances":[{"sequence":[[1,2]],"sequence":[[1,3]]}]}')
@example(b'\xef\xbb\xbf{"instances":[{"sequence":[[1,2]]}]}')
@example(b'{"instances":[{"sequence":[[-0,1e-400],[3,2.99999999999999999999]]}]}')
def test_what_the_fast_decoder_takes_the_strict_one_takes_bit_for_bit(body: bytes) -> None:
    expect_fast_within_strict(TASK, body)
    expect_fast_within_strict(LATER, body)


@given(st.lists(st.integers(-(2**70), 2**70).map(str) | st.floats(-2e9, 2e9).map(repr), min_size=1, max_size=3))
def test_numbers_of_any_length_are_rounded_alike(cells: list[str]) -> None:
    body = b'{"instances":[{"sequence":%s}]}' % array([array([cell]) for cell in cells]).encode()
    expect_fast_within_strict(WIDE, body)


@given(st.lists(series(()), min_size=1, max_size=4), st.booleans())
def test_every_plain_body_is_taken(values: list[str], names_model: bool) -> None:
    instances = array([f'{{ "sequence" : {value} }}' for value in values])
    body = f'{{"model": "series", "instances": {instances}}}' if names_model else f'{{"instances":{instances}}}'
    assert expect_fast_within_strict(TASK, body.encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"instances":[]}',
        b'{"instances":[{"sequence":[]}]}',
        b'{"instances":[{"sequence":[[]]}]}',
        b'{"instances":[{"sequence":"[[1,2]]"}]}',
        b'{"instances":[{"sequence":[1,2]}]}',
        b'{"instances":[{"sequence":[[1,2],3,4]}]}',
        b'{"instances":[{"sequence":[[1,2],[3]]}]}',
        b'{"instances":[{"sequence":[[1],[2]]}]}',
        b'{"instances":[{"sequence":[[[1],2]]}]}',
        b'{"instances":[{"sequence":[[[],[1,2]]]}]}',
        b'{"instances":[{"sequence":[[1,2],[1,2],[1,2],[1,2],[1,2],[1,2]]}]}',
        b'{"instances":[{"sequence":[[1,3.0000001]]}]}',
        b'{"instances":[{"sequence":[[1,-3.0000001]]}]}',
        b'{"instances":[{"sequence":[[1,NaN]]}]}',
        b'{"instances":[{"sequence":[[1,1e400]]}]}',
        b'{"instances":[{"sequence":[[1,null]]}]}',
        b'{"instances":[{"sequence":[[1,true]]}]}',
        b'{"instances":[{"sequence":[[1,"2"]]}]}',
        b'{"instances":[{"sequence":[[1,{}]]}]}',
        b'{"instances":[{"sequence":[[1,2]],"more":1}]}',
        b'{"instances":[{"steps":[[1,2]]}]}',
        b'{"model":"other","instances":[{"sequence":[[1,2]]}]}',
        b"\xef\xbb\xbf" + PLAIN,
        b"[" * 100_000,
        PLAIN[:-1],
    ],
)
def test_any_other_body_is_left_to_the_strict_decoder(body: bytes) -> None:
    assert TASK.decode_fast(body) is None
    assert TASK.decode_fast(PLAIN) is not None, "a refused body must not hold the parser"


def test_more_instances_than_the_limit_are_left_to_the_strict_decoder() -> None:
    def body(count: int) -> bytes:
        return json.dumps({"instances": [{"sequence": [[1, 2]]}] * count}).encode()

    assert TASK.decode_fast(body(LIMITS.max_instances)) is not None
    assert TASK.decode_fast(body(LIMITS.max_instances + 1)) is None


def test_a_second_call_leaves_the_first_result_alone() -> None:
    first = TASK.decode_fast(PLAIN)
    TASK.decode_fast(PLAIN.replace(b"1", b"3"))
    assert first is not None
    assert first["sequence"].tolist() == [[[1, 2], [3, -3]], [[0, 0.5], [0, 0]]]
    assert np.array_equal(first["lengths"], [2, 1])
