"""A request that works when pasted, for a manifest's task; made up, not taken from any data."""

import base64
import io
import json
from typing import Any

from PIL import Image

from app.bundle.manifest import (
    ImageClassification,
    ImageReconstruction,
    SequenceClassification,
    TabularClassification,
    TabularRegression,
    TaskSettings,
)


def example_body(task: TaskSettings) -> str:
    """Return the JSON of a request with one instance."""
    return json.dumps({"instances": [_instance(task)]})


def _instance(task: TaskSettings) -> dict[str, Any]:
    if isinstance(task, ImageClassification | ImageReconstruction):
        return {"image": _picture(task.image.mode, task.image.width, task.image.height)}
    if isinstance(task, TabularClassification | TabularRegression):
        return {"features": {feature.name: feature.typical for feature in task.features}}
    if isinstance(task, SequenceClassification):
        series = task.sequence
        step = [min(max(0.0, series.low), series.high)] * series.num_channels
        return {"sequence": [step] * series.min_length}
    return {"text": "A text of your own."}


def _picture(mode: str, width: int, height: int) -> str:
    """Return a PNG with a white square on black, in base64."""
    image = Image.new(mode, (width, height))
    square = (width // 4, height // 4, 3 * width // 4, 3 * height // 4)
    image.paste((255,) * len(image.getbands()) if len(image.getbands()) > 1 else 255, square)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
