"""What the pages of platforms show for their tools is right of the service: ports, paths, names of settings, bodies."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from app.settings import Settings
from tests.support.markdown import Block, Page, code_words, commands
from tests.support.server import RunningService, serve

ROOT = Path(__file__).parents[2]
PAGES = [Page.read(path) for path in sorted((ROOT / "docs" / "deploy").glob("*.md"))]
PAGE = {page.path.name: page for page in PAGES}
BLOCKS = [(page, block) for page in PAGES for block in page.blocks]
# of the settings; what the image's `serve` takes instead is in its script
DEFAULT_PORT = Settings().port
VARIABLE = re.compile(r"\b(?:ZTO_[A-Z_]+|MODELS_DIR|PORT)=[^\s,}\"]+")


def files(kind: str, *words: str) -> list[Any]:
    """Return the blocks of a kind with their pages, for a test of each."""
    found = [(page, block) for page, block in BLOCKS if block.kind == kind and block.words[: len(words)] == words]
    return [pytest.param(page, block, id=f"{page.path.name}:{block.line}") for page, block in found]


@pytest.fixture(scope="module")
def service() -> Iterator[RunningService]:
    """With the paths that the page of Vertex AI gives it."""
    (command,) = [c for c in commands_of("vertex-ai.md") if "models upload" in c]
    routes = dict(re.findall(r"--container-(health|predict)-route=(\S+)", command))
    with serve(ROOT / "models", health_route=routes["health"], predict_route=routes["predict"]) as running:
        yield running


def commands_of(name: str) -> list[str]:
    return [command for block in PAGE[name].blocks if block.kind == "bash" for command in commands(block.text)]


def members(document: object) -> Iterator[tuple[str, object]]:
    """Yield every member of every object, however deep."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield key, value
            yield from members(value)
    elif isinstance(document, list):
        for value in document:
            yield from members(value)


def probes(document: object) -> Iterator[tuple[int, str]]:
    """Yield port and path of whatever names both, in a file for Kubernetes, Azure or Fly.io."""
    for _, value in [("", document), *members(document)]:
        if isinstance(value, dict) and isinstance(value.get("path"), str) and isinstance(value.get("port"), int):
            yield value["port"], value["path"]


def expect_answered(service: RunningService, path: str) -> None:
    """A path is there for GET or for POST; what it makes of an empty body is its own affair."""
    statuses = {httpx.get(service.url + path).status_code, httpx.post(service.url + path, json={}).status_code}
    assert 404 not in statuses or statuses == {404, 422}, path
    assert statuses & {200, 422}, path


@pytest.mark.parametrize(("page", "block"), files("yaml"))
def test_ports_and_paths_in_yaml_are_those_of_the_service(page: Page, block: Block, service: RunningService) -> None:
    documents = list(yaml.safe_load_all(block.text))
    assert all(isinstance(document, dict) for document in documents)
    found = [probe for document in documents for probe in probes(document)]
    ports = [value for document in documents for key, value in members(document) if key == "containerPort"]
    assert {port for port, _ in found} | set(ports) <= {DEFAULT_PORT}
    for _, path in found:
        expect_answered(service, path)
    assert found or not any(key == "image" for document in documents for key, _ in members(document))
    settings = [value for document in documents for key, value in members(document) if key == "environment_variables"]
    for environ in settings:
        Settings.from_environ(environ)


def test_azure_asks_three_routes_and_each_is_what_it_takes_it_for(service: RunningService) -> None:
    (deployment,) = [
        document
        for block in PAGE["azure-ml.md"].blocks
        if block.kind == "yaml"
        and "inference_config" in (document := yaml.safe_load(block.text)).get("environment", {})
    ]
    routes = {name: route["path"] for name, route in deployment["environment"]["inference_config"].items()}
    assert routes == {"liveness_route": "/livez", "readiness_route": "/readyz", "scoring_route": "/score"}
    assert deployment["request_settings"]["request_timeout_ms"] >= Settings().timeout_ms


def test_fly_says_the_same_port_twice_and_waits_for_the_end(service: RunningService) -> None:
    (block,) = [block for block in PAGE["fly.md"].blocks if block.kind == "toml"]
    document = tomllib.loads(block.text)
    assert Settings.from_environ(document["env"]).port == document["http_service"]["internal_port"]
    (check,) = document["http_service"]["checks"]
    expect_answered(service, check["path"])
    assert document["kill_signal"] == "SIGTERM"
    assert document["kill_timeout"] >= Settings().drain_s + Settings().shutdown_s + 4


def test_app_runner_asks_the_port_that_it_says() -> None:
    (block,) = [block for block in PAGE["app-runner.md"].blocks if block.words == ("file",)]
    configuration = json.loads(block.text)["ImageRepository"]["ImageConfiguration"]
    environ = configuration["RuntimeEnvironmentVariables"] | {"PORT": configuration["Port"]}
    assert Settings.from_environ(environ).port == int(configuration["Port"])


@pytest.mark.parametrize(("page", "block"), files("json", "request"))
def test_a_request_that_a_page_shows_is_answered_as_it_stands(
    page: Page, block: Block, service: RunningService
) -> None:
    answer = httpx.post(service.url + block.words[1], content=block.text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["predictions"]) == len(json.loads(block.text)["instances"])


@pytest.mark.parametrize(("page", "block"), files("dockerfile"))
def test_a_derived_image_puts_bundles_where_the_image_looks_for_them(page: Page, block: Block) -> None:
    assert re.search(r"^FROM zero-to-one:service$", block.text, re.MULTILINE)
    dockerfile = (ROOT / "Dockerfile").read_text()
    (folder,) = set(re.findall(r"^WORKDIR (/srv)$", dockerfile, re.MULTILINE))
    assert f"COPY models {folder}/{Settings().models_dir}" in block.text
    assert "MODELS_DIR=" not in dockerfile


@pytest.mark.parametrize("page", PAGES, ids=list(PAGE))
def test_settings_that_commands_give_can_be_set(page: Page) -> None:
    for block in page.blocks:
        if block.kind == "bash":
            for command in commands(block.text):
                Settings.from_environ(dict(pair.split("=", 1) for pair in VARIABLE.findall(command)))


@pytest.mark.parametrize("page", PAGES, ids=list(PAGE))
def test_paths_that_probes_in_commands_name_are_there(page: Page, service: RunningService) -> None:
    named = [
        path for block in page.blocks if block.kind == "bash" for path in re.findall(r"\b[Pp]ath=(/\w+)\b", block.text)
    ]
    for path in named:
        if not path.startswith("/mnt"):
            assert httpx.get(service.url + path).status_code == 200, path


def test_paths_of_platforms_are_answered_beside_our_own(service: RunningService) -> None:
    (command,) = [c for c in commands_of("vertex-ai.md") if "models upload" in c]
    (health,) = re.findall(r"--container-health-route=(\S+)", command)
    assert httpx.get(service.url + health).json() == httpx.get(f"{service.url}/readyz").json()


def test_the_index_has_a_row_for_every_page() -> None:
    rows = PAGE["README.md"].table("platform")
    linked = {link for row in rows for link in re.findall(r"\]\((\S+?)\)", row[0])}
    assert linked == set(PAGE) - {"README.md"}
    known = {name for row in rows for name in code_words(row[1]) if re.fullmatch(r"[A-Z_]+", name)}
    settings = {
        name for row in Page.read(ROOT / "docs/guides/settings.md").table("variable") for name in code_words(row[0])
    }
    assert known - settings == {"AZUREML_MODEL_DIR"}
