"""The OpenAPI document and the service agree: cases are made of the document by the thousand, with every check on."""

from collections.abc import Iterable, Iterator

import httpx
import pytest
import schemathesis

from app.tensors import Tensors
from tests.support.committed import LATEST, NAMES
from tests.support.documented import INFER, OCTETS, GoodRequest, Run, load, octets_of, register_formats, run
from tests.support.kinds import KINDS, kind_bundle, kind_golden
from tests.support.open_inference import binary_body, golden_of, golden_row, inputs_of
from tests.support.server import RunningService, serve

pytestmark = pytest.mark.slow

PREDICT = [f"POST /predict/{name}" for name in NAMES]
OTHERS = ["GET /models", "GET /models/{model}", "GET /livez", "GET /readyz", "GET /startupz", "GET /metrics"]
OTHERS += ["GET /ping", "GET /v1/models", "GET /v1/models/{model}"]
OTHERS += [
    f"GET /v2{path}"
    for path in ("", "/health/live", "/health/ready", "/models/stats", *(
        f"/models/{{model}}{version}{what}"
        for version in ("", "/versions/{version}") for what in ("", "/ready", "/config", "/stats")
    ))
]  # fmt: skip
REPOSITORY = [f"POST /v2/repository{path}" for path in ("/index", "/models/{model}/load", "/models/{model}/unload")]

ADMIN = ["GET /admin/models"] + [
    f"{method} /admin/models/{{model}}{path}"
    for method, path in (
        ("GET", ""), ("PUT", "/policy"), ("POST", "/load"), ("POST", "/unload"), ("POST", "/rollback"),
        ("POST", "/promote"), ("PUT", "/shadow"), ("DELETE", "/shadow"),
    )
]  # fmt: skip


def platforms_of(names: Iterable[str]) -> list[str]:
    return ["POST /invocations", "POST /score"] + [
        path for name in names for path in (f"POST /models/{name}/invoke", f"POST /v1/models/{name}:predict")
    ]


ADMIN_KEY = "a-long-admin-key"
KEY = {"Authorization": f"Bearer {ADMIN_KEY}"}
# random cases of an operation, beside those that go through every keyword of its schemas
EXAMPLES, FEW_EXAMPLES, FEWEST_EXAMPLES = 100, 25, 10


def expect_good(done: Run, *, least_cases: int, least_good: int, most_excused: float = 0.25) -> None:
    """Expect no fault, and that neither the document nor the excuses have made the checks empty."""
    assert not done.faults, "\n\n".join(done.faults[:3])
    assert done.answers.total() >= least_cases
    assert sum(count for (_, status), count in done.answers.items() if status == 200) >= least_good
    assert done.excused.total() <= done.answers.total() * most_excused


def golden_octets(name: str) -> list[bytes]:
    return octets_of(golden_of(LATEST[name])) if name in LATEST else []


def good_requests(model: str, version: str, tensors: Tensors) -> Iterator[GoodRequest]:
    """Yield requests for inference of all four ways, with numbers in and out as JSON and as bytes."""
    for more in ({}, {"id": "1", "parameters": {"binary_data_output": True}}):
        yield GoodRequest(model=model, version=version, body={"inputs": inputs_of(tensors)} | more)
        body, headers = binary_body(tensors, **more)
        yield GoodRequest(model=model, version=version, body=body, headers=headers)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    models = tmp_path_factory.mktemp("kinds")
    for kind in KINDS:
        kind_bundle(models, kind)
    with serve(models, backend="dummy", default_model="tensors", admin_key=ADMIN_KEY) as running:
        yield running


def test_document_is_valid_and_every_operation_of_it_is_asked_here(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    schemathesis.openapi.from_dict(document).validate()
    asked = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert asked == {"POST /predict", *PREDICT, *INFER, *platforms_of(NAMES), *OTHERS, *REPOSITORY, *ADMIN}


@pytest.mark.parametrize("label", [*PREDICT, "POST /predict"])
def test_predictions_are_as_documented(service: RunningService, label: str) -> None:
    register_formats(golden_octets(label.rpartition("/")[2]))
    done = run(load(service.url, EXAMPLES).include(name=label))
    # with 10 operations more than 2,000 cases
    expect_good(done, least_cases=200, least_good=30)


# the doors of platforms are the predict door in other manners, so small models do
@pytest.mark.parametrize("label", platforms_of(KINDS))
def test_predictions_for_platforms_are_as_documented(kinds: RunningService, label: str) -> None:
    kind = next((kind for kind in KINDS if f"/{kind}/" in label or f"/{kind}:" in label), "")
    register_formats(octets_of(kind_golden(kind)) if kind else [])
    expect_good(run(load(kinds.url, FEWEST_EXAMPLES).include(name=label)), least_cases=100, least_good=20)


@pytest.mark.parametrize("label", INFER)
def test_inference_is_as_documented(service: RunningService, label: str) -> None:
    good = [
        request
        for name in NAMES
        for request in good_requests(name, str(LATEST[name].version), golden_row(golden_of(LATEST[name]), 0))
    ]
    register_formats([request.body for request in good if isinstance(request.body, bytes)])
    done = run(load(service.url, EXAMPLES).include(name=label), good)
    expect_good(done, least_cases=200, least_good=30, most_excused=0.4)


@pytest.mark.parametrize("label", OTHERS)
def test_everything_else_is_as_documented(service: RunningService, label: str) -> None:
    expect_good(run(load(service.url, EXAMPLES).include(name=label)), least_cases=8, least_good=1)


@pytest.mark.parametrize("label", REPOSITORY)
def test_commands_are_as_documented(kinds: RunningService, label: str) -> None:
    schema = load(kinds.url, FEW_EXAMPLES, headers=KEY)
    expect_good(run(schema.include(name=label)), least_cases=30, least_good=10)
    # what was unloaded is there for those that come after
    for kind in KINDS:
        response = httpx.post(f"{kinds.url}/v2/repository/models/{kind}/load", headers=KEY)
        assert response.status_code == 200, response.text


# those with bodies of their own; the others differ in nothing from commands
@pytest.mark.parametrize("label", [label for label in ADMIN if label.startswith("PUT") or "promote" in label])
def test_admin_calls_are_as_documented(kinds: RunningService, label: str) -> None:
    schema = load(kinds.url, FEWEST_EXAMPLES, headers=KEY)
    expect_good(run(schema.include(name=label)), least_cases=1, least_good=0, most_excused=1.0)
    for kind in KINDS:  # as they were, for those that come after
        url = f"{kinds.url}/admin/models/{kind}"
        assert httpx.put(f"{url}/policy", headers=KEY, json={}, timeout=60).status_code == 200
        assert httpx.post(f"{url}/load", headers=KEY, timeout=60).status_code == 200


def test_answers_in_bytes_are_as_documented(service: RunningService) -> None:
    register_formats(golden_octets("mlp"))
    schema = load(service.url, FEW_EXAMPLES, headers={"Accept": OCTETS})
    expect_good(run(schema.include(name="POST /predict/mlp")), least_cases=100, least_good=20)


def test_what_the_list_names_is_found(service: RunningService) -> None:
    schema = load(service.url, FEW_EXAMPLES, only_links=True).include(name=["GET /models", "GET /models/{model}"])
    expect_good(run(schema), least_cases=20, least_good=20)


@pytest.mark.parametrize("kind", [*KINDS, ""])
def test_models_of_every_kind_are_as_documented(kinds: RunningService, kind: str) -> None:
    register_formats(octets_of(kind_golden(kind)) if kind else [])
    schema = load(kinds.url, FEW_EXAMPLES)
    done = run(schema.include(name=f"POST /predict/{kind}" if kind else "POST /predict"))
    expect_good(done, least_cases=50, least_good=10)
