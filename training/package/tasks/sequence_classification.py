"""One series in, one label out."""

from app.bundle.manifest import SequenceClassification, SequenceInput, TensorSpec
from app.preprocess.image import FLOAT32_MAX
from app.tensors import LENGTHS
from training.errors import PackageRefused
from training.package.asked import Asked, Found
from training.package.config import Config
from training.package.kinds import Series
from training.package.source import Feed, Source, Steps
from training.package.tasks._shared import feed_of, inputs_of, labels_of, need_bounds, score_heads


def find(source: Source, config: Config, asked: Asked) -> Found | None:
    """Find out; see :func:`training.package.tasks.find`."""
    inputs = inputs_of(source, config, asked)
    labels, heads = labels_of(source, config, asked), score_heads(source, config, asked)
    if config.max_length is None:
        asked.need("max_length", "max_length = 100", "most steps of a series")
    if config.golden is None and None in (config.low, config.high):
        need_bounds(asked, "as series to prove the bundle by are drawn between them")
    if inputs is None:
        return None
    own = [spec for spec in inputs if spec.name != LENGTHS]
    if len(own) != 1 or len(inputs) != 2 or len(own[0].shape) != 3 or not isinstance(own[0].shape[2], int):
        told = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in inputs)
        raise PackageRefused(
            f"sequence_classification feeds one input of shape (batch, steps, channels) and {LENGTHS!r}, int64 of "
            f"shape (batch): without it padding could not be told from steps; the model takes {told}. "
            "--task tensors feeds any"
        )
    if labels is None or config.max_length is None:
        return None
    public = TensorSpec(name="sequence", dtype="float32", shape=("batch", "time", own[0].shape[2]))
    lengths = next(spec for spec in inputs if spec.name == LENGTHS)
    told_lengths = TensorSpec(name=LENGTHS, dtype="int64", shape=("batch",))
    try:
        spec = SequenceInput(
            num_channels=own[0].shape[2],
            min_length=config.min_length,
            max_length=config.max_length,
            low=-FLOAT32_MAX if config.low is None else config.low,
            high=FLOAT32_MAX if config.high is None else config.high,
        )
    except ValueError as exc:
        raise PackageRefused(f"the series are impossible: {exc}") from exc
    kind = Series(SequenceClassification(sequence=spec, labels=labels), (public, told_lengths))
    feeds = (feed_of(public, own[0], config), Feed(public=told_lengths, private=LENGTHS, dtype=lengths.dtype))
    elements = config.max_rows * config.max_length
    return Found(kind=kind, steps=Steps(feeds=feeds, heads=heads), max_elements=elements)
