"""The page on security is true: each threat has a test that exists, and what is said of all code is looked up in it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.protocols import page

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
NAMED = re.compile(r"`((?:tests|clients)/[\w./-]+\.py)::([^`]+)`")
# what opens connections to others, and what starts programs
OUTBOUND = {
    "http.client",
    "urllib.request",
    "requests",
    "httpx",
    "aiohttp",
    "ftplib",
    "smtplib",
    "xmlrpc",
    "websockets",
}
OUTBOUND |= {"opentelemetry.exporter"}
# one that ends with a star is the beginning of several names
PROGRAMS = {"subprocess", "os.system", "os.popen", "os.exec*", "os.spawn*", "os.posix_spawn*", "pty"}
PROGRAMS |= {"asyncio.create_subprocess*"}
# by the path of the module, or the folder that it lies in
REASONS = {
    "app/__main__.py": "`python -m app health` asks the service of this machine",
    "app/admin/client.py": "`python -m app admin` asks the service that it is told",
    "app/bench/": "`python -m app bench` puts a service under load, and starts one where it is told none",
    "app/tracing/": "spans and metrics go to the collector that the operator names, and nowhere without one",
    "app/predict/ask.py": "`python -m app predict` asks the service that it is told",
}


def imported(code: str) -> Iterator[str]:
    """Yield the dotted names that a module imports, and what it calls of os and asyncio."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and (called := ast.unparse(node.func)).startswith(("os.", "asyncio.")):
            yield called


def is_one_of(names: set[str], name: str) -> bool:
    return any(
        name.startswith(each[:-1]) if each.endswith("*") else name == each or name.startswith(f"{each}.")
        for each in names
    )  # fmt: skip


def those_that(names: set[str]) -> set[str]:
    """Return the modules of the service that import or call any of these."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "app").rglob("*.py")
        if any(is_one_of(names, name) for name in imported(path.read_text()))
    }


def threats() -> Iterator[list[str]]:
    """Yield the rows of the tables of threats."""
    is_threat = False
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("|"):
            is_threat = False
        elif cells[0] == "threat":
            is_threat = True
        elif is_threat and not line.startswith("|-"):
            yield cells


def test_every_test_that_is_named_exists() -> None:
    named = NAMED.findall(PAGE)
    assert len(named) > 60
    missing = []
    for path, name in named:
        code = (ROOT / path).read_text() if (ROOT / path).is_file() else ""
        # the checks of containers are named by what they promise
        is_there = f'@check("{name}")' in code if path == "tests/container/check.py" else f"def {name}(" in code
        if not is_there:
            missing.append(f"{path}::{name}")
    assert missing == []


def test_every_threat_is_beside_its_mitigation_and_its_test() -> None:
    rows = list(threats())
    assert len(rows) > 40
    for threat, mitigation, test in rows:
        assert threat
        assert mitigation, threat
        assert NAMED.search(test), f"no test holds: {threat}"


def test_the_service_opens_connections_to_nobody() -> None:
    found = those_that(OUTBOUND)
    assert [path for path in found if not path.startswith(tuple(REASONS))] == []
    assert all(any(path.startswith(place) for path in found) for place in REASONS)


def test_the_service_starts_no_program() -> None:
    assert those_that(PROGRAMS) == {"app/bench/service.py"}


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import urllib.request", OUTBOUND),
        ("from http import client", OUTBOUND),
        ("import httpx", OUTBOUND),
        ("from subprocess import run", PROGRAMS),
        ("os.execv('x')", PROGRAMS),
        ("os.system('x')", PROGRAMS),
    ],
)
def test_the_walk_sees_what_it_is_to_see(code: str, names: set[str]) -> None:
    assert any(is_one_of(names, name) for name in imported(code))


def test_secrets_are_compared_in_constant_time() -> None:
    """No digest or key is compared with ``==``, which ends at the first byte that differs."""
    for path in [*sorted((ROOT / "app" / "access").glob("*.py")), ROOT / "app" / "admission.py"]:
        compared = [
            ast.unparse(node)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq)
        ]
        assert [text for text in compared if re.search(r"digest|secret|_key\b|\bkey\b", text)] == []
    assert "hmac.compare_digest(" in (ROOT / "app" / "access" / "keys.py").read_text()


def test_our_page_runs_no_script_of_others_and_writes_no_markup_of_answers() -> None:
    app = FastAPI()
    app.include_router(page.router())
    with TestClient(app) as client:
        answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert {"connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} <= set(
        policy.split("; ")
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert re.findall(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//[^\s\"'>]+", answer.text) == []
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", answer.text) == []
