"""The answer of a classifier: the most probable label of every row, and the probability of each."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from app.bundle.manifest import Manifest
from app.errors import BundleError
from app.tasks.shared.bodies import read_options, response_model
from app.tensors import Array, Tensors


class Options(BaseModel):
    """Query parameters of a classification."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    top_k: Annotated[
        int | None, Field(ge=1, description="Shorten `probabilities` to the k most probable labels, best first.")
    ] = None


class LabelAnswers:
    """The half of a task that turns an output ``probabilities``, shape (B, C), into labels.

    Raises:
        BundleError: The manifest has no such output.
    """

    options_model: type[BaseModel] = Options

    def __init__(self, manifest: Manifest, labels: tuple[str, ...]) -> None:
        self._labels = labels
        self._labels_C = np.array(labels, object)
        shapes = {spec.name: spec.shape[1:] for spec in manifest.outputs}
        if shapes.get("probabilities") != (len(labels),):
            raise BundleError(f"{manifest.task.kind} needs an output 'probabilities' of shape (batch, {len(labels)})")
        label: Any = Literal[labels]
        probability: Any = Annotated[float, Field(ge=0, le=1)]
        self.response_model = response_model(
            manifest,
            label=(label, ...),
            index=(Annotated[int, Field(ge=0, lt=len(labels))], ...),
            probability=(probability, ...),
            probabilities=(dict[label, probability], ...),
        )

    def parse_options(self, query: Mapping[str, str]) -> Options:
        """Read ``top_k``; see :class:`app.tasks.Task`."""
        return read_options(Options, query) if query else _NO_OPTIONS

    def encode(self, outputs: Tensors, options: Options) -> list[dict[str, Any]]:
        """Name the most probable label of every row; see :class:`app.tasks.Task`."""
        probabilities_BC = outputs["probabilities"]
        best_B = probabilities_BC.argmax(axis=1).tolist()
        labels = self._labels
        predictions = []
        for best, row in zip(best_B, probabilities_BC.tolist(), strict=True):
            named = dict(zip(labels, row, strict=True)) if options.top_k is None else _top(labels, row, options.top_k)
            predictions.append({"label": labels[best], "index": best, "probability": row[best], "probabilities": named})
        return predictions

    def columns(self, outputs: Tensors) -> dict[str, Array]:
        """Return all but the probabilities of the other labels; see :class:`app.tasks.Task`."""
        probabilities_BC = outputs["probabilities"]
        best_B = probabilities_BC.argmax(axis=1)
        return {
            "label": self._labels_C[best_B],
            "index": best_B,
            "probability": probabilities_BC[np.arange(len(best_B)), best_B],
        }


_NO_OPTIONS = Options()


def _top(labels: tuple[str, ...], row: list[float], k: int) -> dict[str, float]:
    return dict(sorted(zip(labels, row, strict=True), key=lambda item: -item[1])[:k])
