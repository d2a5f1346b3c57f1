"""The pages of the documentation, and what all tests of them share."""

import re
from pathlib import Path

import pytest

from tests.support.markdown import Page

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients" / "python"
PAGES = [Page.read(ROOT / f"{name}.md") for name in ("README", "CONTRIBUTING", "CHANGELOG")]
PAGES += [Page.read(path) for path in sorted((ROOT / "docs").rglob("*.md"))]
PAGES += [Page.read(CLIENT / "README.md")]
PAGE = {page.path.relative_to(ROOT).as_posix(): page for page in PAGES}
FOLDER_OF_PLATFORMS = ROOT / "docs" / "deploy"

PATH = re.compile(r"\b(?:app|training|tests|models|docs|deploy|benchmarks|clients|requirements)/[\w./-]*\w")
# the pages that change what is served, and their key
CHANGING = tuple(ROOT / "docs" / "guides" / name for name in ("shadow.md", "versions.md"))
ADMIN_KEY = "change-me-please"

on_each_page = pytest.mark.parametrize("page", PAGES, ids=list(PAGE))
