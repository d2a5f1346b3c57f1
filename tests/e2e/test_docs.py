"""The documentation is true: its examples run, and its tables, paths and names are those of the code.

Every fenced block is run, or checked by what it is; a block that this file does not know fails. The first word behind
the fence is the kind, the others say more:

- ``bash``: each command is run (curl, quick commands) or held against what it names (make, docker, python -m, pip,
  torchrun).
  ``fails=2`` is the exit status to expect. The next block shows what is answered: ``json`` the body, ``http`` all of
  it, ``text output`` what is printed.
- ``json manifest mlp/2 /a/pointer``: a part of a committed manifest.
- ``python``: a script, run against the service. ``python app/backends/x.py``: a file that a reader would add.
- ``js``: a script, run against the service by Node.js; ``text output`` behind it is what it prints.
- ``text errors``: the tree of ``app/errors.py``; ``text tree``: files below the folder of the first line.
- ``mermaid``: a diagram whose files exist.
- ``yaml``, ``toml``, ``dockerfile``, ``json file``, ``json request /path``: on the pages of platforms, files for their
  tools; `tests/e2e/test_deploy_pages.py` holds them against the service.
"""

import importlib
import inspect
import json
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import httpx
import jsonschema
import numpy as np
import pytest
from opentelemetry.sdk import environment_variables
from prometheus_client.parser import text_string_to_metric_families

from app import errors
from app.bundle.loader import open_bundle
from app.bundle.manifest import Manifest
from app.protocols import problem
from app.settings import CALLERS_KEY, PREFIX, Settings
from tests.support import clis
from tests.support.bundles import ARTIFACT_FILE, dummy_bundle, edit_manifest, open_folder, write_file_with_digest
from tests.support.committed import LATEST, names_of
from tests.support.markdown import Block, Page, code_words, commands, expect_like_answer, expect_like_json, resolve
from tests.support.server import RunningService, serve

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients" / "python"
PAGES = [Page.read(ROOT / f"{name}.md") for name in ("README", "CONTRIBUTING", "CHANGELOG")]
PAGES += [Page.read(path) for path in sorted((ROOT / "docs").rglob("*.md"))]
PAGES += [Page.read(CLIENT / "README.md")]
# run from their first line to their last, in a folder of their own
OWN_TEST = ROOT / "docs" / "guides" / "your-own-model.md"  # tests/e2e/test_guide_own_model.py
SIGNING_TEST = ROOT / "docs" / "guides" / "signing.md"  # tests/e2e/test_guide_signing.py
PAGE = {page.path.relative_to(ROOT).as_posix(): page for page in PAGES}

LOCAL = "localhost:8000"
LOCAL_GRPC = "localhost:8001"
CHANGING = tuple(ROOT / "docs" / "guides" / name for name in ("shadow.md", "versions.md"))
ADMIN_KEY = "change-me-please"  # on those pages
PROBLEM = "urn:zero-to-one:problem:"
DIAGRAMS = ("flowchart", "sequenceDiagram", "stateDiagram-v2")
FOLDER_OF_PLATFORMS = ROOT / "docs" / "deploy"
# paths that FastAPI serves and OpenAPI does not list
UNLISTED_PATHS = {"/", "/docs", "/openapi.json"}

on_each_page = pytest.mark.parametrize("page", PAGES, ids=list(PAGE))


class Place(NamedTuple):
    """A block in its page."""

    page: Page
    index: int

    @property
    def block(self) -> Block:
        return self.page.blocks[self.index]

    @property
    def shown(self) -> Block | None:
        """The block behind this one, if it shows what this one answers."""
        blocks = self.page.blocks[self.index + 1 : self.index + 2]
        return next((b for b in blocks if b.follows and (b.kind in ("json", "http") or b.words == ("output",))), None)

    def __str__(self) -> str:
        return f"{self.page.path.relative_to(ROOT)}:{self.block.line}"


def places(*kinds: str) -> list[Place]:
    pages = [page for page in PAGES if page.path not in (OWN_TEST, SIGNING_TEST)]
    return [Place(page, i) for page in pages for i, block in enumerate(page.blocks) if block.kind in kinds]


def on_each(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("place", places(*kinds), ids=str)


@pytest.fixture(scope="session")
def service() -> Iterator[RunningService]:
    with serve(ROOT / "models", grpc_port=0) as running:
        yield running


@pytest.fixture(scope="session")
def changeable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service of one model, for the pages that change what is served: the other pages tell of what they find."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(ROOT / "models" / "rnn", folder / "rnn")
    with serve(folder, admin_key=ADMIN_KEY) as running:
        yield running


@pytest.fixture(scope="session")
def card(service: RunningService) -> Any:
    return cache(lambda name: httpx.get(f"{service.url}/models/{name}").json())


# Blocks


@on_each("bash")
def test_commands_run(place: Place, request: pytest.FixtureRequest, card: Any) -> None:
    service = request.getfixturevalue("changeable" if place.page.path in CHANGING else "service")
    printed = "".join(run(command, place.block, service) for command in commands(place.block.text))
    shown = place.shown
    if shown is None:
        assert PROBLEM not in printed, "an example without its answer has to work"
    elif shown.kind == "text":
        assert printed.strip() == shown.text.strip()
    else:
        if shown.kind == "http":
            printed, expected = expect_like_answer(printed, shown.text)
        else:
            expected = shown.text
        answer = json.loads(printed)
        expect_like_json(json.loads(expected), answer)
        schema = problem.Problem.model_json_schema() if "predictions" not in answer else None
        if "predictions" in answer or PROBLEM in expected:
            jsonschema.validate(json.loads(expected), schema or card(answer["model"])["response_schema"])


@on_each("json", "http", "text")
def test_what_is_shown_is_held_against_something(place: Place) -> None:
    block, before = place.block, place.page.blocks[place.index - 1] if place.index else None
    if block.kind == "text" and block.words[:1] == ("errors",):
        drawn = (errors.__doc__ or "").partition("::\n\n")[2].partition("\n\nThe classes")[0]
        assert block.text == inspect.cleandoc(drawn)
    elif block.kind == "text" and block.words[:1] == ("tree",):
        folder, *names = [re.sub(r"^[│├└─\s]+", "", line).split()[0] for line in block.text.splitlines()]
        assert [name for name in names if not (ROOT / folder / name).exists()] == []
    elif block.kind == "json" and block.words[:1] == ("manifest",):
        _, bundle, pointer = block.words
        manifest = json.loads((ROOT / "models" / bundle / "manifest.json").read_text())
        assert json.loads(block.text) == resolve(manifest, pointer)
    elif block.words[:1] in (("file",), ("request",)):
        assert place.page.path.parent == FOLDER_OF_PLATFORMS
    else:
        assert before is not None, "nothing is held against this block: say what it is behind its fence"
        assert before.kind in ("bash", "js"), "nothing is held against this block: say what it is behind its fence"
        assert Place(place.page, place.index - 1).shown is block


@on_each("python")
def test_scripts_run_and_new_files_are_taken(
    place: Place, service: RunningService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = place.block
    if block.words:
        (name,) = block.words
        expect_well_formed(name, block.text)
        NEW_FILES[str(Path(name).parent)](Path(name), block.text, tmp_path, monkeypatch)
        return
    script = block.text.replace(LOCAL, service.url.removeprefix("http://"))
    script = script.replace(LOCAL_GRPC, service.grpc_target)
    output([sys.executable, "-W", "error", "-c", script], {"PYTHONPATH": str(CLIENT / "src")})


@pytest.mark.needs_node
@on_each("js")
def test_scripts_run_in_node(place: Place, service: RunningService) -> None:
    script = place.block.text.replace(LOCAL, service.url.removeprefix("http://"))
    printed = output(["node", "--input-type=module", "--eval", script])
    shown = place.shown
    assert shown is not None, "say what the script prints"
    assert shown.kind == "text"
    assert printed.strip() == shown.text.strip()


@pytest.mark.parametrize("kind", sorted({open_bundle(ref).manifest.task.kind for ref in LATEST.values()}))
def test_every_task_has_an_example_in_curl_and_in_javascript(kind: str) -> None:
    asked = {(block.kind, name) for block in PAGE["docs/guides/client.md"].blocks for name in names_of(kind)
             if re.search(rf"/predict/{name}\b", block.text)}  # fmt: skip
    assert {"bash", "js"} <= {kind for kind, _ in asked}


@on_each("mermaid")
def test_diagrams_are_of_a_known_kind(place: Place) -> None:
    assert place.block.text.split()[0] in DIAGRAMS
    assert [path for path in re.findall(PATH, place.block.text) if not (ROOT / path).exists()] == []


@on_each_page
def test_no_block_is_of_an_unknown_kind(page: Page) -> None:
    known = {"bash", "json", "http", "text", "python", "js", "mermaid"} | ({"toml"} if page.path == OWN_TEST else set())
    known |= {"yaml", "toml", "dockerfile"} if page.path.parent == FOLDER_OF_PLATFORMS else set()
    assert [f"line {block.line}: {block.kind!r}" for block in page.blocks if block.kind not in known] == []


# Commands


# where the machine has no curl, one that knows the options of the examples
USES_CURL_OF_OURS = shutil.which("curl") is None
CURL_OF_OURS = f'curl() {{ {shlex.quote(sys.executable)} -m tests.support.curl "$@"; }}; '


def run(command: str, block: Block, service: RunningService) -> str:
    """Run a command, or check what it names; return what it prints."""
    words = shlex.split(command)
    if words[0] == "export":
        return ""
    if "|" in words and "curl" not in words:
        at = words.index("|")
        return run(shlex.join(words[:at]), block, service) + run(shlex.join(words[at + 1 :]), block, service)
    environ: dict[str, str] = {}
    while "=" in words[0]:
        name, _, environ[name] = words.pop(0).partition("=")
    fails = [int(word.removeprefix("fails=")) for word in block.words if word.startswith("fails=")]
    if "curl" in words:
        script = command.replace(LOCAL, service.url.removeprefix("http://"))
        return output(["bash", "-o", "pipefail", "-c", (CURL_OF_OURS if USES_CURL_OF_OURS else "") + script])
    if words[:2] == ["python", "-m"] and fails:
        return output([sys.executable, *words[1:]], environ, status=fails[0])
    check_environ(environ)
    checks = {
        "make": check_make,
        "docker": check_docker,
        "python": check_module,
        "torchrun": check_torchrun,
        "pip": check_pip,
        "apt-get": check_apt,
        **dict.fromkeys(clis.TOOLS, clis.check),
    }
    if words[0] not in checks:
        raise AssertionError(f"no check knows this command, so nothing says that it is right: {command}")
    return checks[words[0]](words) or ""


def output(words: list[str], environ: Mapping[str, str] | None = None, *, status: int = 0) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=inherited | (dict(environ or {})))
    assert done.returncode == status, done.stderr
    return done.stdout or (done.stderr if status else "")


def check_environ(environ: Mapping[str, str]) -> None:
    Settings.from_environ(environ)
    others = {"DATA_DIR", "PORT", *re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text())}
    others |= {name for name in vars(environment_variables) if name.startswith("OTEL_")}
    assert [name for name in environ if not name.startswith(PREFIX) and name not in others] == []


def check_make(words: list[str]) -> None:
    done = subprocess.run(["make", "--dry-run", *words[1:]], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert {word for word in words[1:] if "=" not in word} <= make_targets()


def check_docker(words: list[str]) -> None:
    """Hold the stage, the image and the compose file that a command names against what there is."""
    stages = set(re.findall(r"^FROM .* AS (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    if words[1] == "compose":
        composed = (ROOT / "docker-compose.yml").read_text()
        profiles = {value for option, value in pairwise(words) if option == "--profile"}
        assert all(f"profiles: [{profile}]" in composed for profile in profiles)
        return
    assert words[1] in ("build", "run", "stop", "logs", "inspect", "exec", "rm", "login", "push", "tag")
    for option, value in pairwise(words):
        if option == "--target":
            assert value in stages
    for word in words:
        if word.startswith("zero-to-one:"):
            assert word.removeprefix("zero-to-one:") in stages


def check_module(words: list[str]) -> str | None:
    """Run what is quick, and let the parser of the others say whether they would take the words."""
    assert words[1] == "-m"
    module, arguments = words[2], words[3:]
    if (module, arguments) in [("app", ["settings"]), ("app", ["schema"]), ("training", ["list"])]:
        return output([sys.executable, *words[1:]])
    if (module, arguments[0]) == ("app", "admin"):
        importlib.import_module("app.admin.command").parser().parse_args(arguments[1:])
    elif module == "app":
        assert f"'{arguments[0]}'" not in output([sys.executable, "-m", "app", arguments[0], "--help"])
    elif module == "training":
        importlib.import_module("training.cli")._parser().parse_args(arguments)
    elif module == "benchmarks":
        importlib.import_module("benchmarks.__main__")._parse(arguments)
    else:
        raise AssertionError(f"no check knows the module {module}")
    return None


def check_torchrun(words: list[str]) -> None:
    """Let the parser of torchrun take its own words, and that of the module the others."""
    from torch.distributed.run import get_args_parser

    taken = get_args_parser().parse_args(words[1:])
    assert taken.module
    check_module(["python", "-m", taken.training_script, *taken.training_script_args])


def check_pip(words: list[str]) -> None:
    projects: dict[str, Any] = {}
    for place, folder in ((".", ROOT), ("./clients/python", CLIENT)):
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        projects |= {place: project, project["name"]: project}
    assert words[1] == "install"
    for word in words[2:]:
        name, _, extras = word.removesuffix("]").partition("[")
        options = ("--editable", "-e", "--constraint", "-c", "requirements/constraints.txt")
        assert name in projects or name in options
        assert set(filter(None, extras.split(","))) <= set(projects.get(name, {}).get("optional-dependencies", ()))


def check_apt(words: list[str]) -> None:
    """The package that is told to be installed is the one that training itself tells to install."""
    assert words[1] == "install"
    source = (ROOT / "training" / "data" / "fashion_mnist.py").read_text()
    assert all(f"apt-get install {word}" in source for word in words[2:])


# Files that a reader would add


def expect_well_formed(name: str, text: str) -> None:
    """Hold a file against the linter and the formatter, as `make check` would."""
    for command in (["check", "--quiet"], ["format", "--check", "--quiet"]):
        words = [sys.executable, "-m", "ruff", *command, "--stdin-filename", name, "-"]
        done = subprocess.run(words, input=text + "\n", capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stdout + done.stderr


def add(package: ModuleType, path: Path, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a package have one more file, until the test is over."""
    (folder / path.name).write_text(text)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    module = f"{package.__name__}.{path.stem}"
    monkeypatch.setitem(sys.modules, module, None)  # so that its end is to be forgotten
    del sys.modules[module]
    monkeypatch.setattr(package, path.stem, None, raising=False)


def expect_architecture(path: Path, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from training import architectures
    from training.config import recipe

    add(architectures, path, text, folder, monkeypatch)
    assert path.stem in architectures.names()
    assert recipe(path.stem).architecture == path.stem
    served = architectures.as_served(architectures.build(path.stem, {})).eval()
    logits_BC, probabilities_BC = served(torch.zeros(2, 28, 28))
    assert logits_BC.shape == probabilities_BC.shape == (2, 10)
    assert architectures.describe(path.stem).endswith(".")


def expect_backend(path: Path, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from app import backends

    add(backends, path, text, folder, monkeypatch)
    assert path.stem in backends.names()
    bundle = dummy_bundle(folder / "models", height=2, width=3)
    np.savez(folder / "weights.npz", weights=np.eye(6, 3, dtype=np.float32), bias=np.zeros(3, np.float32))
    write_file_with_digest(bundle, ARTIFACT_FILE, (folder / "weights.npz").read_bytes())
    edit_manifest(bundle, lambda manifest: manifest["artifacts"][0].update(format=path.stem))
    edit_manifest(bundle, lambda manifest: manifest["golden"].update(tolerance={path.stem: {"atol": 0.0}}))
    _, backend = backends.load("auto", open_folder(bundle), threads=1)
    outputs = backend.run({"image": np.ones((4, 2, 3), np.float32)})
    assert {name: array.shape for name, array in outputs.items()} == {"logits": (4, 3), "probabilities": (4, 3)}
    backend.close()
    write_file_with_digest(bundle, ARTIFACT_FILE, b"no archive")
    with pytest.raises(errors.BundleError):
        backends.load(path.stem, open_folder(bundle), threads=1)


NEW_FILES = {"training/architectures": expect_architecture, "app/backends": expect_backend}


# Tables


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


# Names


PATH = re.compile(r"\b(?:app|training|tests|models|docs|deploy|benchmarks|clients|requirements)/[\w./-]*\w")
FILE = re.compile(r"[\w./-]+\.(?:py|md|json|toml|yml|txt|html|npz|onnx|safetensors)")


@cache
def file_names() -> set[str]:
    folders = [
        ROOT / name for name in ("app", "training", "tests", "models", "docs", "deploy", "benchmarks", "clients")
    ]
    return {path.name for folder in folders for path in folder.rglob("*")} | {path.name for path in ROOT.iterdir()}


@cache
def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@on_each_page
def test_links_lead_somewhere(page: Page) -> None:
    for link in page.links:
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.path.parent / name).resolve() if name else page.path
        assert target.exists(), link
        if anchor:
            assert anchor in Page.read(target).anchors, link


@on_each_page
def test_paths_that_are_named_are_there(page: Page) -> None:
    for code in page.inline_code:
        if "<" in code or "{" in code or "*" in code:
            folder = re.split(r"[<{*]", code)[0].rpartition("/")[0]
            assert not PATH.match(code) or (ROOT / folder).is_dir(), code
        elif PATH.match(code) and " " not in code:
            assert (ROOT / code.partition("::")[0]).exists(), code  # the test itself: tests/e2e/test_security.py
        elif FILE.fullmatch(code):
            # a page about a platform has the reader write files for its tool
            written = page.path.parent == FOLDER_OF_PLATFORMS and any(
                code in block.text for block in page.blocks if block.kind == "bash"
            )
            assert written or Path(code).name in file_names(), code


@on_each_page
def test_python_names_that_are_named_are_there(page: Page) -> None:
    for code in page.inline_code:
        if re.fullmatch(r"(?:app|training|zero_to_one_client)(?:\.\w+)+", code):
            pkgutil.resolve_name(code)


@on_each_page
def test_make_targets_that_are_named_are_there(page: Page) -> None:
    for code in page.inline_code:
        if code.startswith("make "):
            check_make(shlex.split(re.sub(r"<\w+>", "cnn", code)))


@on_each_page
def test_settings_that_are_named_are_there(page: Page) -> None:
    told_as_wrong = {line for block in page.blocks if block.words[:1] == ("output",) or any(
        word.startswith("fails=") for word in block.words) for line in block.text.splitlines()}  # fmt: skip
    text = "\n".join(line for line in page.text.splitlines() if line not in told_as_wrong)
    named = set(re.findall(r"\bZTO_([A-Z_]*[A-Z])\b", text))
    known = {*Settings.model_fields, CALLERS_KEY.removeprefix("ZTO_").lower()}
    assert {name.lower() for name in named} - known == set()
