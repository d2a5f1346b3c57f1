"""`tritonclient.http` as it comes from PyPI asks the service; one test for each of its calls."""

import asyncio
import gc
import warnings
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from app.bundle.loader import open_bundle
from app.tensors import Tensors
from tests.support.committed import LATEST, MODELS, NAMES, names_of
from tests.support.kinds import kind_bundle
from tests.support.open_inference import golden_of, golden_row
from tests.support.server import RunningService, serve

T = TypeVar("T")

KEY = {"Authorization": "Bearer a-long-admin-key"}
TEXTS = names_of("text_classification")
CLASSIFIERS = [*names_of("image_classification"), *TEXTS]


@pytest.fixture(scope="module")
def service() -> Iterator[RunningService]:
    with serve(MODELS, admin_key="a-long-admin-key") as running:
        yield running


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service whose models come and go."""
    models = tmp_path_factory.mktemp("models")
    for name in ("tabular_regression", "tensors"):
        kind_bundle(models, name)
    with serve(models, backend="dummy", admin_key="a-long-admin-key") as running:
        yield running


@pytest.fixture
def client(service: RunningService) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(host_of(service), concurrency=8) as client:
        yield client


@pytest.fixture
def changing_client(changing: RunningService) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(host_of(changing)) as client:
        yield client


def host_of(service: RunningService) -> str:
    return service.url.removeprefix("http://")


def with_aio(service: RunningService, ask: Callable[[triton_aio.InferenceServerClient], Awaitable[T]]) -> T:
    """Ask with the client for asyncio."""

    async def run() -> T:
        async with triton_aio.InferenceServerClient(host_of(service)) as client:
            return await ask(client)

    answer = asyncio.run(run())
    with warnings.catch_warnings():
        # the client leaves the body of an answer unread where it looks at the status alone
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    return answer


def inputs_of(tensors: Tensors, *, binary: bool = True) -> list[triton.InferInput]:
    inputs = []
    for name, array in tensors.items():
        tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    return inputs


def row_of(name: str, row: int = 0) -> Tensors:
    return golden_row(golden_of(LATEST[name]), row)


def expect_golden(name: str, result: Any, row: int = 0) -> None:
    """Expect the outputs that the trainer measured, within the tolerance of the format that serves."""
    manifest = open_bundle(LATEST[name]).manifest
    assert manifest.golden.tolerance["onnx"]
    tolerance = manifest.golden.tolerance["onnx"]
    for spec in manifest.outputs:
        expected = golden_of(LATEST[name]).outputs[spec.name][row : row + 1]
        found = result.as_numpy(spec.name)
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, atol=tolerance.atol, rtol=tolerance.rtol)


def test_is_server_live(client: triton.InferenceServerClient, service: RunningService) -> None:
    assert client.is_server_live() is True
    assert with_aio(service, lambda aio: aio.is_server_live()) is True


def test_is_server_ready(client: triton.InferenceServerClient, service: RunningService) -> None:
    assert client.is_server_ready() is True
    assert with_aio(service, lambda aio: aio.is_server_ready()) is True


@pytest.mark.parametrize("name", NAMES)
def test_is_model_ready(client: triton.InferenceServerClient, service: RunningService, name: str) -> None:
    version = str(LATEST[name].version)
    assert client.is_model_ready(name) is True
    assert client.is_model_ready(name, version) is True
    assert client.is_model_ready(name, "999") is False
    assert client.is_model_ready("nobody") is False
    assert with_aio(service, lambda aio: aio.is_model_ready(name)) is True


def test_get_server_metadata(client: triton.InferenceServerClient, service: RunningService) -> None:
    metadata = client.get_server_metadata()
    assert metadata["name"] == "zero-to-one"
    assert {"binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics"} <= set(
        metadata["extensions"]
    )
    assert with_aio(service, lambda aio: aio.get_server_metadata()) == metadata


@pytest.mark.parametrize("name", NAMES)
def test_get_model_metadata(client: triton.InferenceServerClient, service: RunningService, name: str) -> None:
    manifest = open_bundle(LATEST[name]).manifest
    metadata = client.get_model_metadata(name)
    assert metadata["name"] == name
    assert metadata["versions"] == [str(LATEST[name].version)]
    assert metadata["platform"] == "onnxruntime_onnx"
    for told, specs in ((metadata["inputs"], manifest.inputs), (metadata["outputs"], manifest.outputs)):
        assert told == [
            {
                "name": spec.name,
                "datatype": np_to_triton_dtype(np.dtype(spec.dtype)),
                "shape": [-1 if isinstance(axis, str) else axis for axis in spec.shape],
            }
            for spec in specs
        ]
    assert client.get_model_metadata(name, str(LATEST[name].version)) == metadata
    assert with_aio(service, lambda aio: aio.get_model_metadata(name)) == metadata


@pytest.mark.parametrize("name", NAMES)
def test_get_model_config(client: triton.InferenceServerClient, service: RunningService, name: str) -> None:
    manifest = open_bundle(LATEST[name]).manifest
    config = client.get_model_config(name)
    assert config["name"] == name
    assert config["max_batch_size"] == manifest.batching.max_rows
    inputs = {tensor["name"]: tensor for tensor in config["input"]}
    for spec in manifest.inputs:
        assert inputs[spec.name]["data_type"] == f"TYPE_{np_to_triton_dtype(np.dtype(spec.dtype))}"
        assert inputs[spec.name]["dims"] == [-1 if isinstance(axis, str) else axis for axis in spec.shape[1:]]
    assert [tensor["name"] for tensor in config["output"]] == [spec.name for spec in manifest.outputs]
    assert client.get_model_config(name, str(LATEST[name].version)) == config
    assert with_aio(service, lambda aio: aio.get_model_config(name)) == config


def test_get_inference_statistics(client: triton.InferenceServerClient, service: RunningService) -> None:
    def counts() -> tuple[int, int, int]:
        (stats,) = client.get_inference_statistics("mlp")["model_stats"]
        assert (stats["name"], stats["version"]) == ("mlp", str(LATEST["mlp"].version))
        return stats["inference_count"], stats["inference_stats"]["success"]["count"], stats["last_inference"]

    rows, requests, _ = counts()
    tensors = {name: np.concatenate([array] * 3) for name, array in row_of("mlp").items()}
    for _ in range(2):
        client.infer("mlp", inputs_of(tensors))
    rows_after, requests_after, last = counts()
    assert (rows_after - rows, requests_after - requests) == (6, 2)
    assert last > 0
    every = client.get_inference_statistics()["model_stats"]
    assert {stats["name"] for stats in every} == set(NAMES)
    assert with_aio(service, lambda aio: aio.get_inference_statistics("mlp", str(LATEST["mlp"].version)))


def test_get_model_repository_index(client: triton.InferenceServerClient, service: RunningService) -> None:
    index = client.get_model_repository_index(headers=KEY)
    assert {(entry["name"], entry["version"], entry["state"]) for entry in index} == {
        (ref.name, str(ref.version), "READY") for ref in LATEST.values()
    }
    assert with_aio(service, lambda aio: aio.get_model_repository_index(headers=KEY)) == index


def test_load_and_unload_model(changing_client: triton.InferenceServerClient, changing: RunningService) -> None:
    client, name = changing_client, "tabular_regression"
    client.unload_model(name, headers=KEY)
    assert client.is_model_ready(name) is False
    with pytest.raises(InferenceServerException, match="unloaded") as refused:
        client.infer(name, inputs_of({"features": np.array([[1, 2]], np.float32)}))
    assert refused.value.status() == "503"
    client.load_model(name, headers=KEY)
    assert client.is_model_ready(name) is True
    with_aio(changing, lambda aio: aio.unload_model(name, headers=KEY))
    assert client.is_model_ready(name) is False
    with_aio(changing, lambda aio: aio.load_model(name, headers=KEY))
    answer = client.infer(name, inputs_of({"features": np.array([[1, 2]], np.float32)}))
    np.testing.assert_allclose(answer.as_numpy("value"), [0.003], rtol=1e-6)


@pytest.mark.parametrize(("headers", "status"), [({}, "401"), ({"Authorization": "Bearer other"}, "401")])
def test_the_repository_asks_for_its_key(
    changing_client: triton.InferenceServerClient, headers: dict[str, str], status: str
) -> None:
    calls: list[Callable[[], object]] = [
        lambda: changing_client.get_model_repository_index(headers=headers),
        lambda: changing_client.load_model("tensors", headers=headers),
        lambda: changing_client.unload_model("tensors", headers=headers),
    ]
    for call in calls:
        with pytest.raises(InferenceServerException, match="key") as refused:
            call()
        assert refused.value.status() == status
    assert changing_client.is_model_ready("tensors") is True


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("binary_in", "binary_out"), [(True, True), (True, False), (False, True), (False, False)])
def test_infer(client: triton.InferenceServerClient, name: str, binary_in: bool, binary_out: bool) -> None:
    outputs = [
        triton.InferRequestedOutput(spec.name, binary_data=binary_out)
        for spec in open_bundle(LATEST[name]).manifest.outputs
    ]
    for row in range(2):
        inputs = inputs_of(row_of(name, row), binary=binary_in)
        result = client.infer(name, inputs, outputs=outputs, model_version=str(LATEST[name].version))
        expect_golden(name, result, row)
        assert result.get_response()["model_version"] == str(LATEST[name].version)
        assert ("data" in result.get_output(outputs[0].name())) is not binary_out


@pytest.mark.parametrize("name", NAMES)
def test_infer_of_all_outputs(client: triton.InferenceServerClient, name: str) -> None:
    expect_golden(name, client.infer(name, inputs_of(row_of(name))))


@pytest.mark.parametrize("name", NAMES)
def test_infer_of_several_rows(client: triton.InferenceServerClient, name: str) -> None:
    golden = golden_of(LATEST[name])
    tensors = {each: array[:4] for each, array in golden.inputs.items()}
    manifest = open_bundle(LATEST[name]).manifest
    result = client.infer(name, inputs_of(tensors))
    tolerance, together = manifest.golden.tolerance["onnx"], manifest.golden.batch_tolerance
    for spec in manifest.outputs:
        np.testing.assert_allclose(
            result.as_numpy(spec.name),
            golden.outputs[spec.name][:4],
            atol=tolerance.atol + together.atol,
            rtol=tolerance.rtol + together.rtol,
        )


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("columns", [(), (1,)])
def test_infer_of_texts(
    client: triton.InferenceServerClient, name: str, binary: bool, columns: tuple[int, ...]
) -> None:
    texts = [request["text"] for request in golden_of(LATEST[name]).requests[:2]]
    for row, text in enumerate(texts):
        array = np.array([text.encode()], object).reshape(1, *columns)
        expect_golden(name, client.infer(name, inputs_of({"text": array}, binary=binary)), row)


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("binary", [True, False])
def test_infer_with_classification(client: triton.InferenceServerClient, name: str, binary: bool) -> None:
    output = triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)
    numbers = client.infer(name, inputs_of(row_of(name))).as_numpy("probabilities")[0]
    classes = client.infer(name, inputs_of(row_of(name)), outputs=[output]).as_numpy("probabilities")
    labels = open_bundle(LATEST[name]).manifest.task.labels  # type: ignore[union-attr]
    assert classes.shape == (1, 2)
    for each, index in zip(classes[0], np.argsort(-numbers)[:2], strict=True):
        told = each.decode() if isinstance(each, bytes) else each
        value, place, label = told.split(":", 2)
        assert (int(place), label) == (index, labels[index])
        assert np.float32(value) == numbers[index]


def test_infer_with_some_outputs_in_their_order(client: triton.InferenceServerClient) -> None:
    outputs = [triton.InferRequestedOutput("probabilities"), triton.InferRequestedOutput("logits", binary_data=False)]
    answer = client.infer("mlp", inputs_of(row_of("mlp")), outputs=outputs).get_response()
    assert [output["name"] for output in answer["outputs"]] == ["probabilities", "logits"]
    only = client.infer("mlp", inputs_of(row_of("mlp")), outputs=outputs[:1])
    assert only.as_numpy("logits") is None


@pytest.mark.parametrize("request_id", ["7", "an id", 'quo"ted', "日本"])
def test_infer_with_an_id(client: triton.InferenceServerClient, request_id: str) -> None:
    answer = client.infer("mlp", inputs_of(row_of("mlp")), request_id=request_id).get_response()
    assert answer["id"] == request_id


def test_infer_with_parameters(client: triton.InferenceServerClient) -> None:
    result = client.infer(
        "mlp",
        inputs_of(row_of("mlp")),
        priority=1,
        timeout=20_000_000,
        parameters={"customer": "a", "rank": 3, "weight": 0.5, "is_new": True},
    )
    expect_golden("mlp", result)


def test_infer_past_its_timeout(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException) as refused:
        client.infer("lstm", inputs_of(row_of("lstm")), timeout=1)
    # not even begun where no answer is to be expected in a microsecond
    assert refused.value.status() in ("503", "504")


def test_infer_with_sequences_is_refused(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="sequence_id") as refused:
        client.infer("mlp", inputs_of(row_of("mlp")), sequence_id=5, sequence_start=True)
    assert refused.value.status() == "400"


@pytest.mark.parametrize("name", NAMES)
def test_async_infer(client: triton.InferenceServerClient, name: str) -> None:
    pending = [client.async_infer(name, inputs_of(row_of(name, row % 2))) for row in range(6)]
    for row, request in enumerate(pending):
        expect_golden(name, request.get_result(), row % 2)


def test_async_infer_raises_our_error(client: triton.InferenceServerClient) -> None:
    pending = client.async_infer("mlp", inputs_of({"image": np.zeros((1, 3), np.float32)}))
    with pytest.raises(InferenceServerException, match=r"input:image: expected the shape \[batch, 28, 28\]"):
        pending.get_result()


@pytest.mark.parametrize("name", NAMES)
def test_aio_infer(service: RunningService, name: str) -> None:
    async def ask(client: triton_aio.InferenceServerClient) -> list[Any]:
        return await asyncio.gather(*(client.infer(name, inputs_of(row_of(name, row % 2))) for row in range(6)))

    for row, result in enumerate(with_aio(service, ask)):
        expect_golden(name, result, row % 2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sent", [None, "gzip", "deflate"])
@pytest.mark.parametrize("answered", [None, "gzip", "deflate"])
def test_infer_compressed(
    client: triton.InferenceServerClient, name: str, sent: str | None, answered: str | None
) -> None:
    result = client.infer(
        name, inputs_of(row_of(name)), request_compression_algorithm=sent, response_compression_algorithm=answered
    )
    expect_golden(name, result)


def test_aio_infer_compressed(service: RunningService) -> None:
    result = with_aio(
        service,
        lambda aio: aio.infer(
            "cnn",
            inputs_of(row_of("cnn")),
            request_compression_algorithm="gzip",
            response_compression_algorithm="deflate",
        ),
    )
    expect_golden("cnn", result)


def test_one_client_asks_from_many_threads(service: RunningService) -> None:
    """A client of its own for each thread, as its documentation says."""

    def ask(row: int) -> bool:
        with triton.InferenceServerClient(host_of(service)) as client:
            for name in ("mlp", "rnn", "numpy_mlp"):
                expect_golden(name, client.infer(name, inputs_of(row_of(name, row % 3))), row % 3)
        return True

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(24)))


@pytest.mark.parametrize(
    ("name", "version", "tensors", "status", "message"),
    [("nobody", "", {"image": np.zeros((1, 28, 28), np.float32)}, "404", "no model named 'nobody'"),
     ("mlp", "999", {"image": np.zeros((1, 28, 28), np.float32)}, "404", "no version '999'"),
     ("mlp", "", {"image": np.zeros((1, 28, 28), np.float64)}, "400", "image: expected the datatype FP32, found FP64"),
     ("mlp", "", {"picture": np.zeros((1, 28, 28), np.float32)}, "400", "input:picture"),
     ("mlp", "", {"image": np.full((1, 28, 28), np.nan, np.float32)}, "400", "input:image: expected a number from"),
     ("mlp", "", {"image": np.zeros((2000, 28, 28), np.float32)}, "413", "instances")],
)  # fmt: skip
def test_errors_are_raised_with_our_message(
    client: triton.InferenceServerClient, name: str, version: str, tensors: Tensors, status: str, message: str
) -> None:
    with pytest.raises(InferenceServerException) as refused:
        client.infer(name, inputs_of(tensors), model_version=version)
    assert refused.value.status() == status
    assert message in refused.value.message()


@pytest.mark.parametrize("ask", ["get_model_metadata", "get_model_config", "get_inference_statistics"])
def test_errors_of_other_calls_are_raised_with_our_message(client: triton.InferenceServerClient, ask: str) -> None:
    with pytest.raises(InferenceServerException, match="no model named 'nobody'") as refused:
        getattr(client, ask)("nobody")
    assert refused.value.status() == "404"


@pytest.mark.parametrize(
    "ask", ["get_trace_settings", "get_log_settings", "get_system_shared_memory_status"]
)  # fmt: skip
def test_what_is_not_offered_is_refused_in_words(client: triton.InferenceServerClient, ask: str) -> None:
    with pytest.raises(InferenceServerException, match="Not Found") as refused:
        getattr(client, ask)()
    assert refused.value.status() == "404"
