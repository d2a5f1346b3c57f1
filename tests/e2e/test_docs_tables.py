"""The tables of the documentation are those of the code: settings, errors, faults, doors, metrics, accuracies."""

import re
from functools import cache

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from app.bundle.loader import open_bundle
from app.bundle.manifest import Manifest
from app.protocols import problem
from app.settings import PREFIX, Settings
from tests.support.committed import LATEST
from tests.support.markdown import Page, code_words
from tests.support.pages import PAGE, ROOT, on_each_page
from tests.support.server import RunningService

# paths that FastAPI serves and OpenAPI does not list
UNLISTED_PATHS = {"/", "/docs", "/openapi.json"}


def test_settings_are_those_of_the_code() -> None:
    def default(value: object) -> str:
        return "none" if value in (None, ()) else f"`{value}`"

    wanted = [
        [f"`{PREFIX}{name.upper()}`", default(field.default), field.description]
        for name, field in Settings.model_fields.items()
    ]
    assert PAGE["docs/guides/settings.md"].table("name") == wanted


def test_errors_are_those_of_the_code() -> None:
    rows = {
        (*code_words(name), status, *code_words(code))
        for name, status, code, _ in PAGE["docs/architecture/05-errors.md"].table("error")
    }
    assert rows == {(error.__name__, f"{status:d}", error.code) for error, status in problem.STATUS.items()}


def test_faults_are_those_of_the_code() -> None:
    told = {word for row in PAGE["docs/guides/http-api.md"].table("fault") for word in code_words(row[0])}
    pictures = {word for row in PAGE["docs/guides/images.md"].table("code") for word in code_words(row[0])}
    sources = [*(ROOT / "app").rglob("*.py")]
    found = {
        code
        for source in sources
        for pattern in (
            r"(?:custom_fault|ImageRefused|PydanticCustomError)\(\s*\"(\w+)\"",
            r"Fault\([^)]*code=\"(\w+)\"",
        )
        for code in re.findall(pattern, source.read_text())
    }
    assert {"wrong_shape", "not_base64", "damaged_image", "missing"} <= found
    assert told == found
    assert pictures <= told


def test_doors_are_those_of_the_service(service: RunningService) -> None:
    listed = doors(service.url)
    for name in ("README.md", "docs/guides/http-api.md"):
        rows = PAGE[name].table("path" if name == "README.md" else "door")
        told = {path for row in rows for path in re.findall(r"`(?:GET|POST|PUT|DELETE) (\S+)`", row[0])}
        assert told == listed


@on_each_page
def test_doors_that_are_named_are_there(page: Page, service: RunningService) -> None:
    told = {path for code in page.inline_code for path in re.findall(r"^(?:GET|POST|PUT|DELETE) (/\S*)", code)}
    assert {re.sub(r"<(\w+)>", r"{\1}", path) for path in told} - doors(service.url) == set()


@cache
def doors(url: str) -> set[str]:
    listed = set(httpx.get(f"{url}/openapi.json").json()["paths"])
    models = {line["name"] for line in httpx.get(f"{url}/models").json()["models"]}
    assert all(httpx.get(f"{url}{path}").status_code == 200 for path in UNLISTED_PATHS)
    templates = ("/predict/{model}", "/models/{model}/invoke", "/v1/models/{model}:predict")
    each = {template.format(model=name) for template in templates for name in models}
    return (listed - each) | set(templates) | UNLISTED_PATHS


def test_metrics_are_those_of_the_service(service: RunningService) -> None:
    families = list(text_string_to_metric_families(httpx.get(f"{service.url}/metrics").text))
    names = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    assert {word for row in PAGE["docs/guides/http-api.md"].table("metric") for word in code_words(row[0])} == names


def test_scores_are_those_of_the_manifests() -> None:
    manifests = {f"`{name}`": open_bundle(ref).manifest for name, ref in LATEST.items()}
    for model, data, measure, score, simple, artifacts in PAGE["README.md"].table("model"):
        manifest = manifests.pop(model)
        assert data == manifest.training.data.name
        assert artifacts == ", ".join(artifact.key for artifact in manifest.artifacts)
        expect_scores(manifest, measure, score, simple)
    assert not manifests
    for bundle, measure, score, interval, simple, difference in PAGE["docs/architecture/07-training.md"].table(
        "bundle"
    ):
        manifest = manifest_of(bundle)
        expect_scores(manifest, measure, score, simple)
        ends = [manifest.metrics[f"{measure.strip('`')}_{end}"] for end in ("low", "high")]
        assert interval == " to ".join(f"{end:.4f}" for end in ends)
        assert difference == f"{manifest.artifact('onnx').parity.max_abs_difference:.1e}"
    for bundle, measure, score, simple in PAGE["docs/architecture/08-numpy-network.md"].table("bundle"):
        expect_scores(manifest_of(bundle), measure, score, simple)


def manifest_of(bundle: str) -> Manifest:
    name, version = bundle.strip("`").split("/")
    manifest = open_bundle(LATEST[name]).manifest
    assert int(version) == manifest.version
    return manifest


def expect_scores(manifest: Manifest, measure: str, score: str, simple: str) -> None:
    metric = measure.strip("`")
    value, name = simple.split()
    folds, _, last = metric.rpartition("/")
    named = f"{folds}/{name.strip('`')}/{last}" if folds else f"baseline/{name.strip('`')}/{metric}"
    assert score == f"{manifest.metrics[metric]:.4f}"
    assert value == f"{manifest.metrics[named]:.4f}"


def test_first_picture_of_the_test_set_is_what_it_is_called() -> None:
    from PIL import Image

    with np.load(ROOT / "tests" / "fixtures" / "fashion_mnist_test_512.npz") as archive:
        expected = archive["images"][0]
    with Image.open(ROOT / "docs" / "images" / "ankle-boot.png") as picture:
        assert np.array_equal(np.asarray(picture), expected)
