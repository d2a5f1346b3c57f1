"""The fast decoder of texts only accepts: whatever it returns, the strict one returns too, to the bit."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from app.errors import RequestError
from app.tasks.decoding.strict_json import parse_json
from app.tasks.text_classification import MAX_BYTES_ON_LOOP
from app.tensors import Tensors
from tests.support.json_bodies import body_of, damages_of
from tests.support.tasks import LIMITS, text_task_of

PLAIN = b'{"instances":[{"text":"The cat"},{"text":" "}]}'
TASK = text_task_of()

TEXTS = st.text(st.sampled_from('the cat sat\0\n[]{}:,"\\/\x7f'), min_size=1, max_size=60)
STRINGS = TEXTS.map(json.dumps) | st.sampled_from(
    ['"\\u0074he"', '"\\/"', '"[PAD] [UNK]"', '"\\b\\f\\n\\r\\t"', '" "', '"\\u0000"', f'"{"the " * 200}"']
)
STRANGE = st.sampled_from(
    ['""', '"\\ud800"', '"\\udc00"', '"\\ud83d\\ude00"', '"\\ud83d\\u0041"', '"\\udc00\\ud800"', '"é"', '"日本"',
     '"\ufeff"', '"\\ufeff"', '"\\x41"', '"\\u12"', '"\\', '"\n"', '"\t"', '"\x00"', '"a', "a", "'a'", "null", "1",
     "true", '["a"]', '{"a":1}', "[]", "{}", "NaN", '"a" "b"', '"a",', "", f'"{"a" * 3000}"',
     '"\\uD83D\\uDE00 \\uD83D"']
)  # fmt: skip


@st.composite
def bodies(draw: DrawFn) -> bytes:
    damages = draw(damages_of("text", "text"))
    values = [*draw(st.lists(STRINGS, max_size=2)), draw(STRANGE if "text" in damages else STRINGS)]
    return draw(body_of("texts", "text", values, damages))


def strictly(body: bytes) -> Tensors | None:
    try:
        return TASK.decode_json(parse_json(body, TASK.json_limits))
    except RequestError:
        return None


def expect_fast_within_strict(body: bytes) -> bool:
    """Hold the two against each other; return whether the fast one accepted."""
    fast = TASK.decode_fast(body)
    if fast is None:
        return False
    strict = strictly(body)
    assert strict is not None, "the strict decoder refuses what the fast one took"
    assert fast.keys() == strict.keys()
    for name, array in fast.items():
        assert (array.dtype, array.shape) == (strict[name].dtype, strict[name].shape)
        assert array.tobytes() == strict[name].tobytes()
    return True


@settings(max_examples=500)
@given(bodies())
@example(b'{"instances":[{"text":"a"},{"text":""}]}')
@example(b'{"instances":[{"text":"\\ud800"}]}')
@example(b'{"instances":[{"text":"\\udfff"}]}')
@example(b'{"instances":[{"text":"a","text":"b"}]}')
@example(b'{"instances":[{"text\\u0000":"a"}]}')
@example(b'{"instances":[{"\\u0074ext":"a"}]}')
@example(b'\xef\xbb\xbf{"instances":[{"text":"a"}]}')
@example(b'{"instances":[{"text":"\xed\xa0\x80"}]}')
def test_what_the_fast_decoder_takes_the_strict_one_takes_bit_for_bit(body: bytes) -> None:
    expect_fast_within_strict(body)


@given(st.lists(STRINGS, min_size=1, max_size=4), st.booleans())
def test_every_short_plain_body_is_taken(values: list[str], names_model: bool) -> None:
    instances = "[" + ",".join(f'{{ "text" : {value} }}' for value in values) + "]"
    body = f'{{"model": "texts", "instances": {instances}}}' if names_model else f'{{"instances":{instances}}}'
    assert expect_fast_within_strict(body.encode()) == (len(body) <= MAX_BYTES_ON_LOOP)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"instances":[]}',
        b'{"instances":["a"]}',
        b'{"instances":[{"text":""}]}',
        b'{"instances":[{"text":"a"},{"text":""}]}',
        b'{"instances":[{"text":null}]}',
        b'{"instances":[{"text":1}]}',
        b'{"instances":[{"text":["a"]}]}',
        b'{"instances":[{"text":"\\ud800"}]}',
        b'{"instances":[{"text":"\\udc00"}]}',
        b'{"instances":[{"text":"\xff"}]}',
        b'{"instances":[{"text":"a","more":1}]}',
        b'{"instances":[{"words":"a"}]}',
        b'{"model":"other","instances":[{"text":"a"}]}',
        b"\xef\xbb\xbf" + PLAIN,
        PLAIN[:-1],
    ],
)
def test_any_other_body_is_left_to_the_strict_decoder(body: bytes) -> None:
    assert TASK.decode_fast(body) is None
    assert TASK.decode_fast(PLAIN) is not None, "a refused body must not hold the parser"


@pytest.mark.parametrize("text", ["日", "\ufdfa", "é", "a" * MAX_BYTES_ON_LOOP])
def test_what_may_take_long_is_kept_from_the_event_loop(text: str) -> None:
    for escaped in (True, False):
        body = json.dumps({"instances": [{"text": text}]}, ensure_ascii=escaped).encode()
        assert TASK.decode_fast(body) is None
        assert strictly(body) is not None


def test_more_instances_than_the_limit_are_left_to_the_strict_decoder() -> None:
    def body(count: int) -> bytes:
        return json.dumps({"instances": [{"text": "a"}] * count}).encode()

    assert TASK.decode_fast(body(LIMITS.max_instances)) is not None
    assert TASK.decode_fast(body(LIMITS.max_instances + 1)) is None
