"""One text in, one label out."""

from typing import Any

from app.bundle.manifest import TensorSpec, TextClassification, TextInput
from app.preprocess.text import TextPreparation
from app.tensors import LENGTHS
from training.errors import PackageRefused
from training.export.bundle import file_ref
from training.package.asked import Asked, Found
from training.package.config import Config
from training.package.kinds import WrittenTexts
from training.package.source import Feed, Source, Steps, TextFeed
from training.package.tasks._shared import inputs_of, labels_of, score_heads

TOKENIZER_FILE = "tokenizer.json"

_HUGGING_FACE = ("input_ids", "attention_mask", "token_type_ids")
_CHARS_PER_TOKEN = 16


def find(source: Source, config: Config, asked: Asked) -> Found | None:
    """Find out; see :func:`training.package.tasks.find`."""
    tokenizer = source.told.tokenizer if config.tokenizer is None else config.tokenizer.read_bytes()
    max_tokens = config.max_tokens or source.told.max_tokens
    if tokenizer is None:
        asked.need("tokenizer", 'tokenizer = "tokenizer.json"', "of the `tokenizers` library")
    if max_tokens is None:
        asked.need("max_tokens", "max_tokens = 512", "most tokens of a text, special ones included")
    inputs = inputs_of(source, config, asked)
    labels, heads = labels_of(source, config, asked), score_heads(source, config, asked)
    if inputs is None or tokenizer is None or max_tokens is None or labels is None:
        return None
    steps = Steps(heads=heads, **_text_steps(inputs, source.told.pad_id))
    max_chars = config.max_chars or min(1_000_000, _CHARS_PER_TOKEN * max_tokens)
    try:
        preparation = TextPreparation(tokenizer, max_chars, max_tokens)
        text = TextInput(tokenizer=file_ref(TOKENIZER_FILE, tokenizer), max_chars=max_chars, max_tokens=max_tokens)
    except ValueError as exc:
        raise PackageRefused(f"the tokenizer: {exc}") from exc
    public = (
        TensorSpec(name="tokens", dtype="int64", shape=("batch", "tokens")),
        TensorSpec(name=LENGTHS, dtype="int64", shape=("batch",)),
    )
    kind = WrittenTexts(TextClassification(text=text, labels=labels), public, preparation)
    elements = config.max_rows * max_tokens
    return Found(kind=kind, steps=steps, files={TOKENIZER_FILE: tokenizer}, max_elements=elements)


def _text_steps(inputs: tuple[TensorSpec, ...], pad_id: int) -> dict[str, Any]:
    dtypes = {spec.name: spec.dtype for spec in inputs}
    if set(dtypes) == {"tokens", LENGTHS}:
        feeds = tuple(Feed(public=spec, private=spec.name, dtype=spec.dtype) for spec in inputs)
        return {"feeds": feeds}
    if "input_ids" not in dtypes or (unknown := set(dtypes) - set(_HUGGING_FACE)):
        told = ", ".join(sorted(unknown if "input_ids" in dtypes else dtypes))
        raise PackageRefused(
            f"text_classification feeds {', '.join(_HUGGING_FACE)}, or 'tokens' and {LENGTHS!r}; it cannot feed: {told}"
        )
    if "attention_mask" not in dtypes:
        raise PackageRefused(
            "the model takes no attention_mask, so padding would change its answers; export it with one"
        )
    return {"text": TextFeed(dtypes=dtypes, pad_id=pad_id)}
