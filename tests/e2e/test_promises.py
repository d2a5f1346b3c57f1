"""The numbers that the trainer measured are the numbers that the service answers.

What is asked of the whole test set is marked ``needs_data`` and runs with ``make verify``; the same is asked of the
512 pictures of the fixture at every ``make test``.
"""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.bundle.loader import open_bundle
from tests.support.committed import LATEST, MODELS, NAMES, names_of
from tests.support.server import RunningService, serve

ROOT = Path(__file__).parents[2]
PICTURE_MODELS = names_of("image_classification")
CLIENTS = 32
LARGEST_REQUEST = 100

Pictures = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="session")
def few() -> Pictures:
    with np.load(ROOT / "tests" / "fixtures" / "fashion_mnist_test_512.npz") as archive:
        return archive["images"], archive["labels"]


@pytest.fixture(scope="session")
def all_pictures() -> Pictures:
    from training import data

    test = data.load("fashion_mnist").test
    return test.images, test.labels


@pytest.fixture(scope="module")
def onnx() -> Iterator[RunningService]:
    with serve(MODELS, backend="onnx") as running:
        yield running


@pytest.fixture(scope="module")
def state_dict() -> Iterator[RunningService]:
    with serve(MODELS, backend="state_dict") as running:
        yield running


def ask_all(running: RunningService, model: str, images: np.ndarray) -> np.ndarray:
    """Send every picture, 32 requests at a time, single ones and many at once mixed; return (N, C) probabilities."""
    return asyncio.run(_ask_all(running.url, model, images))


async def _ask_all(url: str, model: str, images: np.ndarray) -> np.ndarray:
    order = random.Random(7)
    starts: list[tuple[int, int]] = []
    position = 0
    while position < len(images):
        count = min(order.choice([1, 1, 1, 2, 7, 31, 32, 33, LARGEST_REQUEST]), len(images) - position)
        starts.append((position, position + count))
        position += count
    order.shuffle(starts)
    probabilities: list[list[float]] = [[]] * len(images)
    queue = iter(starts)

    async def work(client: httpx.AsyncClient) -> None:
        for start, stop in queue:
            body = {"instances": [{"image": image.tolist()} for image in images[start:stop]]}
            response = await client.post(f"/predict/{model}", json=body)
            assert response.status_code == 200, response.text
            for row, prediction in zip(range(start, stop), response.json()["predictions"], strict=True):
                probabilities[row] = list(prediction["probabilities"].values())
                assert prediction["index"] == int(np.argmax(probabilities[row]))

    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        await asyncio.gather(*(work(client) for _ in range(CLIENTS)))
    return np.array(probabilities)


def accuracy_of(manifest_name: str) -> float:
    return open_bundle(LATEST[manifest_name]).manifest.metrics["accuracy"]


@pytest.mark.needs_data
@pytest.mark.parametrize("name", PICTURE_MODELS)
def test_whole_test_set_over_http_is_as_accurate_as_the_manifest_says_to_the_image(
    name: str, onnx: RunningService, all_pictures: Pictures
) -> None:
    images, labels = all_pictures
    right = int((ask_all(onnx, name, images).argmax(axis=1) == labels).sum())
    assert right == round(accuracy_of(name) * len(labels))


@pytest.mark.needs_data
@pytest.mark.parametrize("name", PICTURE_MODELS)
def test_both_backends_agree_on_the_whole_test_set(
    name: str, onnx: RunningService, state_dict: RunningService, all_pictures: Pictures
) -> None:
    expect_agreement(ask_all(onnx, name, all_pictures[0]), ask_all(state_dict, name, all_pictures[0]))


@pytest.mark.parametrize("name", PICTURE_MODELS)
def test_both_backends_agree_on_the_fixture(
    name: str, onnx: RunningService, state_dict: RunningService, few: Pictures
) -> None:
    expect_agreement(ask_all(onnx, name, few[0]), ask_all(state_dict, name, few[0]))


def expect_agreement(a: np.ndarray, b: np.ndarray) -> None:
    assert (a.argmax(axis=1) == b.argmax(axis=1)).all()
    assert np.abs(a - b).max() <= 1e-4


@pytest.mark.parametrize("name", PICTURE_MODELS)
def test_fixture_over_http_is_about_as_accurate_as_the_manifest_says(
    name: str, onnx: RunningService, few: Pictures
) -> None:
    images, labels = few
    accuracy = float((ask_all(onnx, name, images).argmax(axis=1) == labels).mean())
    assert accuracy == pytest.approx(accuracy_of(name), abs=0.04)  # three standard errors of 512 rows


@pytest.mark.parametrize("name", PICTURE_MODELS)
def test_picture_alone_and_inside_full_batches_gets_the_same_answer(
    name: str, onnx: RunningService, few: Pictures
) -> None:
    images = few[0][:64]

    def ask(client: httpx.Client, batch: np.ndarray) -> Any:
        response = client.post(f"/predict/{name}", json={"instances": [{"image": image.tolist()} for image in batch]})
        rows = f'rows={min(len(batch), 32)}"'
        assert response.headers["server-timing"].endswith(rows)
        return [list(prediction["probabilities"].values()) for prediction in response.json()["predictions"]]

    with httpx.Client(base_url=onnx.url, timeout=30) as client:
        alone = np.array([ask(client, image[None])[0] for image in images])
        together = np.array(ask(client, images))
    assert np.abs(alone - together).max() <= 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_golden_requests_get_the_golden_responses(name: str, onnx: RunningService) -> None:
    bundle = open_bundle(LATEST[name])
    golden = bundle.golden()
    answer = httpx.post(f"{onnx.url}/predict/{name}", json={"instances": golden.requests}).json()
    for prediction, response in zip(answer["predictions"], golden.responses, strict=True):
        assert set(prediction) == set(response)
        assert prediction.get("label") == response.get("label")
        numbers = "value" if "value" in response else "probabilities"
        assert prediction[numbers] == pytest.approx(response[numbers], rel=1e-5, abs=1e-5)


def test_service_without_torch_is_small_and_stays_so(few: Pictures) -> None:
    with serve(MODELS, backend="onnx") as running:
        assert running.rss_bytes() < 130e6
        sizes = []
        for _ in range(3):
            for name in PICTURE_MODELS:
                ask_all(running, name, few[0])
            sizes.append(running.rss_bytes())
        assert "libtorch" not in Path(f"/proc/{running.process.pid}/maps").read_text()
        assert sizes[0] < 140e6  # with 32 requests of up to 100 pictures at a time
        assert sizes[2] - sizes[0] < 4e6
