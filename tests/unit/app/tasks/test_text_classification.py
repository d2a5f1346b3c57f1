import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import BundleError, InvalidInput
from app.preprocess.text import TextPreparation
from app.tasks import Limits, create
from app.tasks.text_classification import MAX_CHARS_TOGETHER
from tests.support.bundles import open_folder, write_file_with_digest
from tests.support.kinds import MAX_CHARS, MAX_TOKENS, TOKENIZER_FILE, kind_bundle, kind_document, tokenizer_json
from tests.support.tasks import LIMITS, bundle_of, text_task_of

TASK = text_task_of()
PREPARATION = TextPreparation(tokenizer_json(), MAX_CHARS, MAX_TOKENS)


def body(*texts: object) -> dict[str, Any]:
    return {"instances": [{"text": text} for text in texts]}


def faults(document: object, task: Any = TASK) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as caught:
        task.decode_json(document)
    assert all(fault.message for fault in caught.value.faults)
    return [(fault.pointer, fault.code) for fault in caught.value.faults]


def test_texts_of_one_request_are_padded_to_their_longest() -> None:
    texts = ["the cat", "the cat sat on the mat", " ", "日"]
    tensors = TASK.decode_json(body(*texts))
    assert (tensors["tokens"].dtype, tensors["lengths"].dtype) == (np.int64, np.int64)
    assert tensors["tokens"].shape == (4, max(tensors["lengths"]))
    for row, text in enumerate(texts):
        length = int(tensors["lengths"][row])
        assert np.array_equal(tensors["tokens"][row, :length], PREPARATION.ids(text))
        assert not tensors["tokens"][row, length:].any()


def test_a_raw_file_becomes_one_row() -> None:
    for data in ("the cat é".encode(), b"\xef\xbb\xbf" + "the cat é".encode()):
        tensors = TASK.decode_file(data)
        assert np.array_equal(tensors["tokens"], PREPARATION.ids("the cat é")[None])
        assert tensors["lengths"].tolist() == [tensors["tokens"].shape[1]]


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"", "string_too_short"), (b"\xef\xbb\xbf", "string_too_short"), (b"caf\xe9", "not_utf8"),
     (b"\xff\xfea\0", "not_utf8"), (b"\xed\xa0\x80", "not_utf8")],
)  # fmt: skip
def test_a_raw_file_that_is_no_text_is_a_fault_of_the_body(data: bytes, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        TASK.decode_file(data)
    assert [(fault.pointer, fault.code) for fault in caught.value.faults] == [("#", code)]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "string_too_short"),
        ("\ud800", "string_unicode"),
        ("a\udfff", "string_unicode"),
        ("a" * MAX_CHARS + "\ud800", "string_unicode"),
        (None, "string_type"),
        (1, "string_type"),
        (True, "string_type"),
        (["a"], "string_type"),
        ({"a": 1}, "string_type"),
    ],
)
def test_what_is_no_text_is_refused_at_its_place(text: object, code: str) -> None:
    assert faults(body("a", text)) == [("#/instances/1/text", code)]


@pytest.mark.parametrize("text", ["\0", "a\0b", "[" * 2**20, '"' * 2**20, "\\" * 2**20, "a" * 2**20, "日" * 2**20])
def test_long_texts_and_strange_characters_are_taken_and_cut(text: str) -> None:
    tensors = TASK.decode_json(body(text))
    assert np.array_equal(tensors["tokens"], PREPARATION.ids(text[:MAX_CHARS])[None])
    assert tensors["tokens"].size <= MAX_TOKENS


def test_characters_of_all_texts_together_are_bounded() -> None:
    task = text_task_of(limits=Limits(max_instances=1024, max_image_pixels=1), max_chars=MAX_CHARS_TOGETHER // 4)
    longest = "a" * (MAX_CHARS_TOGETHER // 4)
    assert len(task.decode_json(body(*[longest + "b"] * 4))["tokens"]) == 4
    assert len(task.decode_json(body(*[longest[:200]] * 1024))["tokens"]) == 1024
    assert faults(body(*[longest] * 4, "a"), task) == [("#/instances", "too_many_characters")]


def test_one_text_of_the_most_characters_is_always_taken() -> None:
    task = text_task_of(max_chars=2 * MAX_CHARS_TOGETHER)
    assert len(task.decode_json(body("a" * 3 * MAX_CHARS_TOGETHER))["tokens"]) == 1


def test_a_text_that_the_tokenizer_fails_on_is_named() -> None:
    """A vocabulary without an unknown token, whose special tokens leave no text empty."""
    post_processor = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "a", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [],
        "special_tokens": {"a": {"id": "a", "ids": [0], "tokens": ["a"]}},
    }
    model = {"type": "Unigram", "unk_id": None, "vocab": [["a", -1.0]]}
    tokenizer = {"version": "1.0", "added_tokens": [], "model": model, "post_processor": post_processor}
    task = text_task_of(tokenizer=json.dumps(tokenizer).encode())
    assert task.decode_json(body("a"))["tokens"].tolist() == [[0, 0]]
    assert faults(body("a", "b"), task) == [("#/instances/1/text", "untokenizable")]
    assert task.decode_fast(json.dumps(body("a", "b")).encode()) is None
    with pytest.raises(InvalidInput) as caught:
        task.decode_file(b"b")
    assert [fault.pointer for fault in caught.value.faults] == ["#"]


def test_the_card_says_where_a_text_is_cut() -> None:
    assert TASK.conversion() == "what follows 40 characters or 8 tokens is cut off"


@pytest.mark.parametrize(
    ("index", "change"),
    [
        (0, {"name": "ids"}),
        (0, {"dtype": "int32"}),
        (0, {"shape": ["batch", "tokens", 2]}),
        (1, {"name": "mask", "shape": ["batch", "tokens"]}),
    ],
)
def test_a_manifest_whose_inputs_do_not_fit_is_refused(tmp_path: Path, index: int, change: dict[str, Any]) -> None:
    document = kind_document("text_classification")
    document["inputs"][index] |= change
    (tmp_path / TOKENIZER_FILE).write_bytes(tokenizer_json())
    bundle = bundle_of(document, folder=tmp_path)
    with pytest.raises(BundleError, match=r"takes the inputs 'tokens', int64 \(batch, tokens\), and 'lengths'"):
        create(bundle, LIMITS)


def test_a_tokenizer_of_another_digest_is_refused(tmp_path: Path) -> None:
    folder = kind_bundle(tmp_path, "text_classification")
    (folder / TOKENIZER_FILE).write_bytes(tokenizer_json() + b" ")
    with pytest.raises(BundleError, match=r"tokenizer.json is not the file that the manifest describes"):
        create(open_folder(folder), LIMITS)
    (folder / TOKENIZER_FILE).unlink()
    with pytest.raises(BundleError, match=r"tokenizer.json cannot be read"):
        create(open_folder(folder), LIMITS)


def test_a_damaged_tokenizer_is_refused_with_its_name(tmp_path: Path) -> None:
    folder = kind_bundle(tmp_path, "text_classification")
    write_file_with_digest(folder, TOKENIZER_FILE, tokenizer_json()[:-9])
    with pytest.raises(BundleError, match=r"tokenizer.json: this is no tokenizer.json that can be read: EOF"):
        create(open_folder(folder), LIMITS)
