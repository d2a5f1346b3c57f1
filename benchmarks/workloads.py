"""What is asked of every server: three models, and the same instances for all."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.pictures import REPOSITORY, pictures
from benchmarks.texts import texts

MODELS_DIR = REPOSITORY / "models"
NUM_PICTURES = 64
NUM_TEXTS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One model and what it is asked.

    Attributes:
        name: Of the model.
        title: In headings.
        field: What an instance holds, ``image`` or ``text``.
        values: Of that, one to a request, as JSON can hold them.
        bundle: Its folder, of the highest version, with which the service answers.
        labels: In the order of their probabilities; empty where there are none.
        clients: Numbers of clients, one load after the other.
        query: What the service is told so that answers hold the same everywhere.
    """

    name: str
    title: str
    field: str
    values: tuple[Any, ...]
    bundle: Path
    labels: tuple[str, ...]
    clients: tuple[int, ...]
    query: str = ""


def names() -> tuple[str, ...]:
    """Return the names of all workloads."""
    return tuple(_TITLES)


def load(name: str) -> Workload:
    """Return a workload.

    Raises:
        ValueError: Its model is not there.
    """
    bundle = highest_bundle(name)
    task: Mapping[str, Any] = json.loads((bundle / "manifest.json").read_text())["task"]
    is_text = "text" in task
    values: Sequence[Any] = (
        texts(bundle / task["text"]["tokenizer"]["path"], NUM_TEXTS) if is_text else pictures(NUM_PICTURES)
    )
    return Workload(
        name=name,
        title=_TITLES[name],
        field="text" if is_text else "image",
        values=tuple(values),
        bundle=bundle,
        labels=tuple(task.get("labels", ())),
        clients=_CLIENTS[name],
        query="" if "labels" in task else "?outputs=error,anomaly,code",
    )


def highest_bundle(name: str) -> Path:
    """Return the folder of a model's highest version.

    Raises:
        ValueError: There is none.
    """
    manifests = sorted(MODELS_DIR.glob(f"{name}/*/manifest.json"), key=lambda path: int(path.parent.name))
    if not manifests:
        raise ValueError(f"no model {name!r} in {MODELS_DIR.name}/")
    return manifests[-1].parent


# fewer where no bar asks for more: the whole has to be done in less than half an hour
_CLIENTS = {"cnn": (1, 32, 128), "transformer": (1, 32), "autoencoder": (32,)}
_TITLES = {
    "cnn": "cnn: a picture in, its label and all probabilities out",
    "transformer": "transformer: texts of 5 to 300 tokens in, the label and both probabilities out",
    "autoencoder": "autoencoder: a picture in; error, anomaly and code out",
}
