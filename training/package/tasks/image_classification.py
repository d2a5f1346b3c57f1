"""One grey picture in, one label out."""

from app.bundle.manifest import ImageClassification, TensorSpec
from app.preprocess.image import ImageInput
from training.errors import PackageRefused
from training.package.asked import Asked, Found
from training.package.config import Config
from training.package.kinds import Pictures
from training.package.source import Source, Steps
from training.package.tasks._shared import expect_numbers, feed_of, labels_of, one_input, score_heads


def find(source: Source, config: Config, asked: Asked) -> Found | None:
    """Find out; see :func:`training.package.tasks.find`."""
    private = one_input(source, config, asked, "image_classification")
    labels, heads = labels_of(source, config, asked), score_heads(source, config, asked)
    if private is None:
        return None
    expect_numbers(private, "image_classification")
    axes = private.shape[1:]
    # one channel before (NCHW) or behind (NHWC) rows and columns, or none
    channel = {2: None, 3: 0 if axes[0] == 1 else 2 if axes[-1] == 1 else -1}.get(len(axes), -1)
    if channel == -1:
        raise PackageRefused(
            f"image_classification feeds grey pictures: (batch, height, width), with an axis of 1 before or behind; "
            f"the input {private.name!r} has the shape {list(private.shape)}; --task tensors feeds any"
        )
    sides = [axis for index, axis in enumerate(axes) if index != channel]
    sizes = [
        _side(axis, said, key, asked)
        for axis, said, key in zip(sides, (config.height, config.width), ("height", "width"), strict=True)
    ]
    height, width = sizes
    if labels is None or height is None or width is None:
        return None
    tail = None if channel is None else (1, height, width) if channel == 0 else (height, width, 1)
    public = TensorSpec(name="image", dtype="float32", shape=("batch", height, width))
    low = 0.0 if config.low is None else config.low
    high = 255.0 if config.high is None else config.high
    try:
        image = ImageInput(height=height, width=width, low=low, high=high, conversion=config.conversion)
    except ValueError as exc:
        raise PackageRefused(f"the pictures are impossible: {exc}") from exc
    kind = Pictures(ImageClassification(image=image, labels=labels), public)
    return Found(kind=kind, steps=Steps(feeds=(feed_of(public, private, config, tail),), heads=heads))


def _side(axis: int | str, said: int | None, key: str, asked: Asked) -> int | None:
    if isinstance(axis, int):
        if said not in (None, axis):
            raise PackageRefused(f"{key} is said to be {said}, and the model takes {axis}")
        return axis
    if said is None:
        asked.need(key, f"{key} = 28", "of pictures, in pixels; the file leaves it open")
    return said
