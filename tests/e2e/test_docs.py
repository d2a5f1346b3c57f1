"""The documentation is true: its examples run.

Its tables are held in `tests/e2e/test_docs_tables.py`, the names in its text in `tests/e2e/test_docs_names.py`.

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

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest

from app import errors
from app.bundle.loader import open_bundle
from app.protocols import problem
from tests.support.committed import LATEST, names_of
from tests.support.docs_commands import LOCAL, output, run
from tests.support.markdown import Block, Page, commands, expect_like_answer, expect_like_json, resolve
from tests.support.new_files import NEW_FILES, expect_well_formed
from tests.support.pages import CHANGING, CLIENT, FOLDER_OF_PLATFORMS, PAGE, PAGES, PATH, ROOT, on_each_page
from tests.support.server import RunningService

# run from their first line to their last, in a folder of their own
OWN_TEST = ROOT / "docs" / "guides" / "your-own-model.md"  # tests/e2e/test_guide_own_model.py
SIGNING_TEST = ROOT / "docs" / "guides" / "signing.md"  # tests/e2e/test_guide_signing.py
LOCAL_GRPC = "localhost:8001"
PROBLEM = "urn:zero-to-one:problem:"
DIAGRAMS = ("flowchart", "sequenceDiagram", "stateDiagram-v2")


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
