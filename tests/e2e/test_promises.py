"""The numbers that the trainer measured are the numbers that the service answers.

What is asked of the whole test set is marked ``needs_data`` and runs with ``make verify``; the same is asked of the
512 pictures of the fixture at every ``make test``.
"""

import asyncio
import functools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.bundle.loader import open_bundle
from tests.support.committed import LATEST, MODELS, NAMES, names_of
from tests.support.questions import Questions, of_pictures, whole_test_split
from tests.support.server import RunningService, serve
from training.data import Rows
from training.evaluate import score_values

ROOT = Path(__file__).parents[2]
PICTURE_MODELS = names_of("image_classification")
KINDS = {name: open_bundle(ref).manifest.task.kind for name, ref in LATEST.items()}
CLIENTS = 32
LARGEST_REQUEST = {"text_classification": 31}  # texts of one request are bounded together


@pytest.fixture(scope="session")
def few() -> Questions:
    with np.load(ROOT / "tests" / "fixtures" / "fashion_mnist_test_512.npz") as archive:
        return of_pictures(Rows(images=archive["images"], labels=archive["labels"].astype(np.int64)))


@pytest.fixture(scope="session")
def questions() -> Callable[[str], Questions]:
    return functools.cache(lambda name: whole_test_split(name, KINDS[name]))


@pytest.fixture(scope="module")
def onnx() -> Iterator[RunningService]:
    with serve(MODELS, backend="onnx") as running:
        yield running


@pytest.fixture(scope="module")
def state_dict() -> Iterator[RunningService]:
    with serve(MODELS, backend="state_dict") as running:
        yield running


def ask_all(running: RunningService, model: str, instances: list[Any], query: str = "") -> list[Any]:
    """Send every instance, 32 requests at a time, single ones and many at once mixed; return their predictions."""
    return asyncio.run(
        _ask_all(f"{running.url}/predict/{model}{query}", instances, LARGEST_REQUEST.get(KINDS[model], 100))
    )


async def _ask_all(url: str, instances: list[Any], largest: int) -> list[Any]:
    order = random.Random(7)
    starts: list[tuple[int, int]] = []
    position = 0
    while position < len(instances):
        count = min(order.choice([1, 1, 1, 2, 7, 31, 32, 33, 100]), largest, len(instances) - position)
        starts.append((position, position + count))
        position += count
    order.shuffle(starts)
    predictions: list[Any] = [None] * len(instances)
    queue = iter(starts)

    async def work(client: httpx.AsyncClient) -> None:
        for start, stop in queue:
            response = await client.post(url, json={"instances": instances[start:stop]})
            assert response.status_code == 200, response.text
            predictions[start:stop] = response.json()["predictions"]

    async with httpx.AsyncClient(timeout=60) as client:
        await asyncio.gather(*(work(client) for _ in range(CLIENTS)))
    return predictions


def probabilities_of(predictions: list[Any]) -> np.ndarray:
    """Return the probabilities, shape (N, C), of which the largest must be the one that is told."""
    table = np.array([list(prediction["probabilities"].values()) for prediction in predictions])
    np.testing.assert_array_equal(table.argmax(axis=1), [prediction["index"] for prediction in predictions])
    return table


def numbers_of(predictions: list[Any]) -> np.ndarray:
    """Return what the predictions tell, one row each."""
    if "probabilities" in predictions[0]:
        return probabilities_of(predictions)
    name = "value" if "value" in predictions[0] else "error"
    return np.array([[prediction[name]] for prediction in predictions])


def accuracy_of(manifest_name: str) -> float:
    return open_bundle(LATEST[manifest_name]).manifest.metrics["accuracy"]


@pytest.mark.needs_data
@pytest.mark.parametrize("name", NAMES)
def test_whole_test_set_over_http_is_as_good_as_the_manifest_says(
    name: str, onnx: RunningService, questions: Callable[[str], Questions]
) -> None:
    asked = questions(name)
    reconstructs = KINDS[name] == "image_reconstruction"
    told = numbers_of(ask_all(onnx, name, asked.instances, "?outputs=error" if reconstructs else ""))
    metrics = open_bundle(LATEST[name]).manifest.metrics
    if reconstructs:
        assert told.mean() == pytest.approx(metrics["mse"], rel=1e-5)
    elif KINDS[name] == "tabular_regression":
        assert score_values(told[:, 0], asked.targets).r2 == pytest.approx(metrics["r2"], abs=1e-5)
    else:  # to the row
        right = int((told.argmax(axis=1) == asked.targets).sum())
        assert right == round(metrics["accuracy"] * len(told))


@pytest.mark.needs_data
@pytest.mark.parametrize("name", NAMES)
def test_both_backends_agree_on_the_whole_test_set(
    name: str, onnx: RunningService, state_dict: RunningService, questions: Callable[[str], Questions]
) -> None:
    instances = questions(name).instances
    expect_agreement(ask_all(onnx, name, instances), ask_all(state_dict, name, instances))


@pytest.mark.parametrize("name", PICTURE_MODELS)
def test_both_backends_agree_on_the_fixture(
    name: str, onnx: RunningService, state_dict: RunningService, few: Questions
) -> None:
    expect_agreement(ask_all(onnx, name, few.instances), ask_all(state_dict, name, few.instances))


def expect_agreement(some: list[Any], others: list[Any]) -> None:
    a, b = numbers_of(some), numbers_of(others)
    if a.shape[1] > 1:
        assert (a.argmax(axis=1) == b.argmax(axis=1)).all()
    # values have units of their own, of which float32 keeps seven digits
    np.testing.assert_allclose(a, b, rtol=0 if a.shape[1] > 1 else 1e-5, atol=1e-4)


@pytest.mark.parametrize("name", PICTURE_MODELS)
def test_fixture_over_http_is_about_as_accurate_as_the_manifest_says(
    name: str, onnx: RunningService, few: Questions
) -> None:
    accuracy = float((numbers_of(ask_all(onnx, name, few.instances)).argmax(axis=1) == few.targets).mean())
    assert accuracy == pytest.approx(accuracy_of(name), abs=0.04)  # three standard errors of 512 rows


@pytest.mark.parametrize("name", PICTURE_MODELS)
def test_picture_alone_and_inside_full_batches_gets_the_same_answer(
    name: str, onnx: RunningService, few: Questions
) -> None:
    instances = few.instances[:64]

    def ask(client: httpx.Client, batch: list[Any]) -> np.ndarray:
        response = client.post(f"/predict/{name}", json={"instances": batch})
        rows = f'rows={min(len(batch), 32)}"'
        assert response.headers["server-timing"].endswith(rows)
        return probabilities_of(response.json()["predictions"])

    with httpx.Client(base_url=onnx.url, timeout=30) as client:
        alone = np.concatenate([ask(client, [instance]) for instance in instances])
        together = ask(client, instances)
    assert np.abs(alone - together).max() <= 1e-5


@pytest.mark.parametrize(
    "name", [name for name in NAMES if KINDS[name] in ("text_classification", "sequence_classification")]
)
def test_a_row_of_its_own_length_gets_the_same_answer_in_any_company(name: str, onnx: RunningService) -> None:
    """Alone, among rows of its length, and padded among rows of very different lengths."""
    instances = open_bundle(LATEST[name]).golden().requests

    def ask(client: httpx.Client, batch: list[Any]) -> np.ndarray:
        return probabilities_of(client.post(f"/predict/{name}", json={"instances": batch}).json()["predictions"])

    with httpx.Client(base_url=onnx.url, timeout=30) as client:
        alone = np.concatenate([ask(client, [instance]) for instance in instances])
        among_its_like = np.stack([ask(client, [instance] * 8)[5] for instance in instances])
        mixed = ask(client, instances)
    assert np.abs(alone - among_its_like).max() <= 1e-5
    assert np.abs(alone - mixed).max() <= 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_golden_requests_get_the_golden_responses(name: str, onnx: RunningService) -> None:
    bundle = open_bundle(LATEST[name])
    golden = bundle.golden()
    answer = httpx.post(f"{onnx.url}/predict/{name}", json={"instances": golden.requests}).json()
    for prediction, response in zip(answer["predictions"], golden.responses, strict=True):
        assert set(prediction) == set(response)
        assert prediction.get("label") == response.get("label")
        for member, expected in response.items():
            if member not in ("label", "index", "anomaly"):
                atol = 1e-3 if member == "reconstruction" else 1e-5  # pixels go up to 255
                np.testing.assert_allclose(_flat(prediction[member]), _flat(expected), rtol=1e-5, atol=atol)


def _flat(value: Any) -> Any:
    return list(value.values()) if isinstance(value, dict) else value


def test_service_without_torch_is_small_and_stays_so(few: Questions) -> None:
    with serve(MODELS, backend="onnx") as running:
        assert running.rss_bytes() < 170e6
        sizes = []
        for _ in range(3):
            for name in PICTURE_MODELS:
                ask_all(running, name, few.instances)
            sizes.append(running.rss_bytes())
        assert "libtorch" not in Path(f"/proc/{running.pid}/maps").read_text()
        assert sizes[0] < 180e6  # with 32 requests of up to 100 pictures at a time
        assert sizes[2] - sizes[0] < 4e6
