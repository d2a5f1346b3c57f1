"""A folder as exporters of Hugging Face models write it: graph, tokenizer, and a config with the labels."""

import json
from pathlib import Path
from typing import Any

from training.errors import PackageRefused
from training.package import onnx_file
from training.package.source import Told

_GRAPHS = ("model.onnx", "onnx/model.onnx")
# what a tokenizer without a bound writes as one
_UNBOUNDED = 100_000


def read(folder: Path) -> onnx_file.OnnxSource:
    """Read a folder.

    Raises:
        PackageRefused: A file is missing or damaged, or the model is for something that no task does.
    """
    graph = next((folder / name for name in _GRAPHS if (folder / name).is_file()), None)
    tokenizer = folder / "tokenizer.json"
    missing = [
        what
        for what, is_there in (
            (" or ".join(_GRAPHS), graph is not None),
            ("tokenizer.json (a fast tokenizer; tokenizer.save_pretrained() writes it)", tokenizer.is_file()),
            ("config.json", (folder / "config.json").is_file()),
        )
        if not is_there
    ]
    if missing or graph is None:
        raise PackageRefused(f"{folder} is not what exporters write, it has no {'; no '.join(missing)}")
    config = _document(folder / "config.json")
    further = folder / "tokenizer_config.json"
    tokenizer_config = _document(further) if further.is_file() else {}
    if config.get("problem_type") not in (None, "single_label_classification"):
        raise PackageRefused(
            f"{folder} is for {config['problem_type']}, where a softmax over the labels would say something else; "
            "package its graph as --task tensors"
        )
    data = tokenizer.read_bytes()
    told = Told(
        labels=_labels(config, folder),
        tokenizer=data,
        max_tokens=_max_tokens(config, tokenizer_config),
        pad_id=_pad_id(config, tokenizer_config, data, folder),
        is_text=True,
    )
    return onnx_file.read(graph, told)


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8"))
    except ValueError as exc:
        raise PackageRefused(f"{path} is no JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise PackageRefused(f"{path} is no JSON object")
    return document


def _labels(config: dict[str, Any], folder: Path) -> tuple[str, ...] | None:
    named = config.get("id2label")
    if named is None:
        return None
    try:
        by_number = {int(key): str(label) for key, label in named.items()}
    except (AttributeError, ValueError) as exc:
        raise PackageRefused(f"id2label of {folder / 'config.json'} does not number the labels: {exc}") from exc
    if sorted(by_number) != list(range(len(by_number))):
        raise PackageRefused(f"id2label of {folder / 'config.json'} does not number the labels from 0 without gaps")
    return tuple(by_number[index] for index in range(len(by_number)))


def _max_tokens(config: dict[str, Any], tokenizer_config: dict[str, Any]) -> int | None:
    bounds = [tokenizer_config.get("model_max_length"), config.get("max_position_embeddings")]
    known = [int(bound) for bound in bounds if isinstance(bound, int | float) and 0 < bound < _UNBOUNDED]
    return min(known, default=None)


def _pad_id(config: dict[str, Any], tokenizer_config: dict[str, Any], tokenizer: bytes, folder: Path) -> int:
    """Return the id that pads: as the config says, or as the tokenizer calls its token; 0 where none is told."""
    if isinstance(config.get("pad_token_id"), int):
        return int(config["pad_token_id"])
    token = tokenizer_config.get("pad_token")
    name = token.get("content") if isinstance(token, dict) else token
    try:
        document = json.loads(tokenizer)
        added = {each["content"]: int(each["id"]) for each in document.get("added_tokens", ())}
        padding = document.get("padding") or {}
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise PackageRefused(f"{folder / 'tokenizer.json'} is no tokenizer that can be read: {exc!r}") from exc
    return int(padding.get("pad_id", added.get(name, 0)))
