"""Both clients against the real service: every model, every form of input, as JSON and as bytes."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any, assert_type

import httpx
import numpy as np
import pytest
from PIL import Image

from clients.python.tests.support.callers import VERIFY, Caller
from tests.support.bundles import ARTIFACT_FILE, dummy_bundle
from tests.support.committed import LATEST, NAMES, names_of
from tests.support.kinds import kind_bundle, kind_golden
from tests.support.server import RunningService, serve
from zero_to_one_client import (
    Answer,
    Classification,
    Client,
    DeadlineExceeded,
    ImageClassification,
    ImageReconstruction,
    InvalidInput,
    InvalidRequest,
    Limit,
    NotFound,
    Options,
    Reconstruction,
    Regression,
    SequenceClassification,
    TabularClassification,
    TabularRegression,
    TensorRows,
    TextClassification,
    TooLarge,
    Unavailable,
    WrongTask,
)

BOOT = Path(__file__).parents[3] / "docs" / "images" / "ankle-boot.png"
JSON = Options(binary=False)
# of an instance of the card's example, by the kind of the task
MEMBER = {
    "image_classification": "image",
    "image_reconstruction": "image",
    "sequence_classification": "sequence",
    "tabular_classification": "features",
    "tabular_regression": "features",
    "text_classification": "text",
}


def example(card: Any) -> list[Any]:
    return [instance[MEMBER[card.task]] for instance in card.document["example"]["instances"]]


@pytest.fixture(scope="session")
def boot() -> Any:
    with Image.open(BOOT) as picture:
        return np.asarray(picture)


def rows_of(card: Any, count: int) -> Any:
    """Return as many rows of numbers as a model with one input takes."""
    rng = np.random.default_rng(7)
    if card.image is not None:
        return rng.integers(0, 256, (count, card.image.height, card.image.width)).astype(np.uint8)
    features = np.array([[feature.example for feature in card.features]] * count)
    return features * rng.uniform(0.95, 1.05, (count, 1)) if card.task == "tabular_classification" else features


@pytest.mark.parametrize("name", NAMES)
def test_every_model_answers_its_own_example(caller: Caller, service: RunningService, name: str) -> None:
    client = caller.client(service.url)
    card = client.card(name)
    answer = client.predict(name, example(card))
    assert (answer.model, answer.version) == (name, card.version)
    (receipt,) = answer.receipts
    assert (receipt.version, receipt.rows, receipt.tries) == (card.version, 1, 1)
    assert receipt.request_id
    assert receipt.timing is not None
    assert receipt.timing.batch_rows >= 1
    assert receipt.timing.parse_ms + receipt.timing.queue_ms + receipt.timing.compute_ms > 0


@pytest.mark.parametrize("name", [name for name in NAMES if name not in names_of("text_classification")])
def test_bytes_and_json_say_the_same(caller: Caller, service: RunningService, name: str) -> None:
    card = caller.client(service.url).card(name)
    if card.series is not None:
        steps = range(card.series.min_length, card.series.max_length)
        rows: Any = [np.linspace(-1, 1, length * 12).reshape(length, 12) for length in steps]
    else:
        rows = rows_of(card, 70)
    as_bytes, as_json = (caller.client(service.url, options).predict(name, rows) for options in (Options(), JSON))
    assert len(as_bytes) == len(as_json) == len(rows)
    for one, other in zip(as_bytes, as_json, strict=True):
        assert_same(one, other)


def assert_same(one: Any, other: Any) -> None:
    """Rows of one batch differ in the last place from those of another: batches form as requests come."""
    assert type(one) is type(other)
    for name in type(one).__slots__:
        a, b = getattr(one, name), getattr(other, name)
        if name == "probabilities":
            assert list(a) == list(b)
            a, b = list(a.values()), list(b.values())
        if isinstance(a, str):
            assert a == b
        else:
            np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), rtol=1e-4, atol=1e-6)


def test_a_picture_may_come_in_every_form(caller: Caller, service: RunningService, boot: Any) -> None:
    data = BOOT.read_bytes()
    text = base64.b64encode(data).decode()
    with Image.open(BOOT) as picture:
        forms = [BOOT, data, bytearray(data), picture, text, f"data:image/png;base64,{text}", boot, boot.tolist()]
        answer = caller.client(service.url).predict("cnn", forms)
    assert [prediction.label for prediction in answer] == ["Ankle boot"] * len(forms)
    np.testing.assert_allclose([prediction.probability for prediction in answer], answer[0].probability, rtol=1e-5)


def test_a_picture_of_another_size_is_converted_by_the_service(caller: Caller, service: RunningService) -> None:
    with Image.open(BOOT) as picture:
        large = picture.convert("RGB").resize((140, 140))
    assert caller.client(service.url).predict("cnn", [large], top_k=1)[0].label == "Ankle boot"


def test_a_picture_that_png_cannot_hold_says_how_to_convert_it(caller: Caller, service: RunningService) -> None:
    with pytest.raises(InvalidRequest, match=r"instance 0: .*'CMYK'.*convert\('RGB'\)"):
        caller.client(service.url).predict("cnn", [Image.new("CMYK", (4, 4))])


@pytest.mark.parametrize("options", [Options(), JSON], ids=["bytes", "json"])
def test_top_k_shortens_in_bytes_as_in_json(
    caller: Caller, service: RunningService, boot: Any, options: Options
) -> None:
    (prediction,) = caller.client(service.url, options).predict("cnn", boot[None], top_k=3)
    assert next(iter(prediction.probabilities)) == prediction.label == "Ankle boot"
    assert sorted(prediction.probabilities.values(), reverse=True) == list(prediction.probabilities.values())
    assert len(prediction.probabilities) == 3


def test_typed_requests_have_typed_answers(service: RunningService, boot: Any) -> None:
    with Client(service.url) as client:
        images = client.ask(ImageClassification(model="cnn", images=[boot], top_k=2))
        assert_type(images, Answer[Classification])
        assert images[0].label == "Ankle boot"
        again = client.ask(ImageReconstruction(model="autoencoder", images=[boot], outputs=("error", "anomaly")))
        assert_type(again, Answer[Reconstruction])
        assert again[0].error is not None
        assert (again[0].anomaly, again[0].code, again[0].reconstruction) == (False, None, None)
        texts = client.ask(TextClassification(model="lstm", texts=["Lose weight fast!", "Thanks, applied."]))
        assert [prediction.label for prediction in texts] == ["spam", "ham"]
        row = {feature.name: feature.example for feature in client.card("numpy_regression").features}
        values = client.ask(TabularRegression(model="numpy_regression", rows=[row, list(row.values())]))
        assert_type(values, Answer[Regression])
        assert values[0].value == pytest.approx(values[1].value)
        card = client.card("rnn")
        series = client.ask(SequenceClassification(model="rnn", sequences=example(card), version=card.version))
        assert series[0].label in card.labels
        cells = client.ask(TabularClassification(model="numpy_mlp", rows=example(client.card("numpy_mlp"))))
        assert cells[0].label == "benign"


def test_numbers_of_numpy_stand_for_numbers(caller: Caller, service: RunningService) -> None:
    client = caller.client(service.url)
    row = {feature.name: np.float32(feature.example) for feature in client.card("numpy_regression").features}
    assert client.predict("numpy_regression", [row])[0].value > 0
    words = np.array(["Lose weight fast!"])
    assert client.predict("transformer", words)[0].label == "spam"


@pytest.mark.parametrize("options", [Options(), JSON], ids=["bytes", "json"])
def test_more_than_the_service_takes_comes_back_in_order(
    caller: Caller, small_service: RunningService, service: RunningService, options: Options
) -> None:
    rows = rows_of(caller.client(service.url).card("cnn"), 23)
    whole = caller.client(service.url, options).predict("cnn", rows)
    parts = caller.client(small_service.url, options).predict("cnn", rows)
    assert len(whole.receipts) == 1
    assert sum(receipt.rows for receipt in parts.receipts) == 23
    assert max(receipt.rows for receipt in parts.receipts) <= 5
    for one, other in zip(whole, parts, strict=True):
        assert_same(one, other)


def test_texts_that_are_too_much_together_are_sent_apart(caller: Caller, service: RunningService) -> None:
    texts = ["word " * 1700] * 40  # 320,000 characters, of which a request may hold 262,144
    answer = caller.client(service.url).predict("lstm", texts, timeout_s=120)
    assert [receipt.rows for receipt in answer.receipts] == [20, 20]
    assert len({prediction.label for prediction in answer}) == 1


def test_limit_that_one_instance_alone_passes_is_named(caller: Caller, service: RunningService) -> None:
    limit = caller.client(service.url).card("cnn").limits.max_body_bytes
    with pytest.raises(TooLarge) as raised:
        caller.client(service.url).predict("cnn", [b"\x89PNG\r\n\x1a\n" + bytes(limit)])
    assert raised.value.limit == Limit(name="max_body_bytes", value=limit)


def test_a_fault_is_told_by_its_place_in_the_whole_batch(caller: Caller, small_service: RunningService) -> None:
    pictures: list[Any] = [np.zeros((28, 28))] * 12
    pictures[8] = np.zeros((27, 28))
    with pytest.raises(InvalidInput) as raised:
        caller.client(small_service.url).predict("mlp", pictures)
    (fault,) = raised.value.faults
    assert (fault.pointer, fault.code) == ("#/instances/8/image", "wrong_shape")
    assert raised.value.request_id


def test_numbers_that_no_float32_holds_are_refused_and_not_rounded(caller: Caller, service: RunningService) -> None:
    with pytest.raises(InvalidInput) as raised:
        caller.client(service.url).predict("cnn", np.full((1, 28, 28), 1e39))
    assert raised.value.faults[0].code == "not_finite"


@pytest.mark.parametrize(
    ("model", "instances", "said"),
    [
        ("cnn", BOOT, "found one PosixPath"),
        ("cnn", BOOT.read_bytes(), "found one bytes"),
        ("cnn", np.zeros((28, 28)), "found one ndarray"),
        ("cnn", [], "found none"),
        ("cnn", ["shoe.png"], "give a Path"),
        ("cnn", [object()], "instance 0: expected what JSON can hold, found object"),
        ("cnn", [[[float("nan")]]], "instance 0: Out of range float"),
        ("lstm", "a text", "found one str"),
        ("lstm", ["a text", 5], "instance 1: expected a text, found int"),
        ("numpy_regression", [[1.0, 2.0]], "instance 0: expected 10 numbers"),
        ("numpy_regression", {"age": 1}, "found one dict"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_it_is(
    caller: Caller, service: RunningService, model: str, instances: Any, said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        caller.client(service.url).predict(model, instances)


def test_a_file_that_is_not_there_is_no_error_of_the_service(caller: Caller, service: RunningService) -> None:
    with pytest.raises(FileNotFoundError):
        caller.client(service.url).predict("cnn", [Path("no-such-picture.png")])


def test_a_request_for_another_task_names_both(caller: Caller, service: RunningService) -> None:
    with pytest.raises(WrongTask, match="image_classification, and the task of 'lstm' is text_classification"):
        caller.client(service.url).ask(ImageClassification(model="lstm", images=[BOOT]))


@pytest.mark.parametrize(
    ("model", "option"),
    [("cnn", {"outputs": ["error"]}), ("autoencoder", {"top_k": 1}), ("autoencoder", {"outputs": "error"})],
)
def test_an_option_of_another_task_is_refused(
    caller: Caller, service: RunningService, model: str, option: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest, match=r"no option of|names in a list"):
        caller.client(service.url).predict(model, [BOOT], **option)


def test_unknown_models_and_versions_are_not_found(caller: Caller, service: RunningService, boot: Any) -> None:
    client = caller.client(service.url)
    with pytest.raises(NotFound):
        client.predict("dog/../cnn", [BOOT])
    with pytest.raises(NotFound) as raised:
        client.predict("dog?", [BOOT])
    assert raised.value.code == "unknown_model"
    for picture in (BOOT, boot):
        with pytest.raises(NotFound) as raised:
            client.predict("cnn", [picture], version="77")
        assert raised.value.code == "unknown_version"


def test_the_list_and_the_cards_tell_what_the_service_has(caller: Caller, service: RunningService) -> None:
    client = caller.client(service.url)
    models = client.models()
    assert [model.name for model in models] == NAMES
    assert all(model.is_ready and model.version == str(LATEST[model.name].version) for model in models)
    card = client.card("cnn")
    assert (card.image.height, card.image.width, card.image.mode) == (28, 28, "L")
    assert card.labels[9] == "Ankle boot"
    assert card.inputs[0].shape == ("batch", 28, 28)
    assert card.output("probabilities").dtype == "float32"
    assert card.versions[0].metrics["accuracy"] > 0.9
    assert client.card("transformer").text.max_chars == 8192
    assert client.card("rnn").series.max_length == 29
    assert client.card("numpy_regression").target == "disease progression"
    assert client.card("autoencoder").threshold > 0


def test_a_card_is_asked_for_once(caller: Caller, service: RunningService) -> None:
    client = caller.client(service.url)
    assert client.card("cnn") is client.card("cnn")
    assert client.card("cnn", is_fresh=True) is not client.card("mlp")
    assert client.card("cnn", is_fresh=True).labels == client.card("cnn").labels


def test_readiness_is_told_and_waited_for(caller: Caller, service: RunningService) -> None:
    client = caller.client(service.url)
    readiness = client.wait_until_ready(60)
    assert readiness.is_ready
    assert set(readiness.models) == set(NAMES)
    assert readiness.reasons == {}
    assert client.wait_until_ready(60, models=["cnn"]) == client.readiness()
    with pytest.raises(DeadlineExceeded, match="within 1 s: dog: no such model"):
        client.wait_until_ready(1, models=["dog"])
    with pytest.raises(InvalidRequest):
        client.wait_until_ready(1, models="cnn")


def test_a_model_that_failed_is_told_with_its_reason(caller: Caller, tmp_path: Path) -> None:
    bundle = dummy_bundle(tmp_path / "models", name="broken")
    (bundle / ARTIFACT_FILE).write_bytes(b"not what the digest says")
    with serve(tmp_path / "models", ready=503) as running:
        client = caller.client(running.url)
        with pytest.raises(DeadlineExceeded, match="not ready within 2 s: broken: "):
            client.wait_until_ready(2)
        assert client.readiness().models == {"broken": "failed"}
        caller.clock.slept_s.clear()
        with pytest.raises(Unavailable) as raised:
            client.predict("broken", np.zeros((1, *client.card("broken").inputs[0].shape[1:])))
        assert raised.value.code == "model_not_ready"
        assert caller.clock.slept_s == [1.125] * 4


@pytest.fixture(scope="module")
def tensors_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A model that takes and gives named tensors, and fits no other task."""
    models_dir = tmp_path_factory.mktemp("tensors") / "models"
    kind_bundle(models_dir, "tensors")
    with serve(models_dir) as running:
        yield running


def test_rows_of_named_tensors_are_answered_with_theirs(caller: Caller, tensors_service: RunningService) -> None:
    golden = kind_golden("tensors")
    rows = [{name: array[index] for name, array in golden.inputs.items()} for index in range(3)]
    client = caller.client(tensors_service.url)
    answer = client.ask(TensorRows(model="tensors", rows=rows))
    assert [prediction.outputs for prediction in answer] == [response["outputs"] for response in golden.responses]
    (total,) = client.predict("tensors", rows[:1], outputs=["total"])
    assert total.outputs == {"total": golden.responses[0]["outputs"]["total"]}
    inferred = client.infer("tensors", golden.inputs)
    assert {name: array.tolist() for name, array in inferred.items()} == {
        name: array.tolist() for name, array in golden.outputs.items()
    }


def test_answers_may_come_compressed(caller: Caller, service: RunningService, boot: Any) -> None:
    gzip = {"accept-encoding": "gzip"}
    body = {"instances": [{"image": boot.tolist()}] * 20}
    answer = httpx.post(f"{service.url}/predict/autoencoder", json=body, headers=gzip, verify=VERIFY)
    assert answer.headers["content-encoding"] == "gzip"  # or this test says nothing
    client = caller.client(service.url, headers=gzip)
    found, plain = (one.predict("autoencoder", [boot] * 20) for one in (client, caller.client(service.url)))
    for one, other in zip(found, plain, strict=True):
        assert_same(one, other)
