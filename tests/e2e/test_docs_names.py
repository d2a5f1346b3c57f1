"""What the documentation names is there: links, paths, names of Python, targets of make, settings."""

import pkgutil
import re
import shlex
from functools import cache
from pathlib import Path

from app.settings import CALLERS_KEY, Settings
from tests.support.docs_commands import check_make
from tests.support.markdown import Page
from tests.support.pages import FOLDER_OF_PLATFORMS, PATH, ROOT, on_each_page

FILE = re.compile(r"[\w./-]+\.(?:py|md|json|toml|yml|txt|html|npz|onnx|safetensors)")


@cache
def file_names() -> set[str]:
    folders = [
        ROOT / name for name in ("app", "training", "tests", "models", "docs", "deploy", "benchmarks", "clients")
    ]
    return {path.name for folder in folders for path in folder.rglob("*")} | {path.name for path in ROOT.iterdir()}


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
