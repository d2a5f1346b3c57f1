"""Our own tools against a service that asks for a key and speaks TLS."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bundles import dummy_bundle
from tests.support.certificates import certificate
from tests.support.keys import make_key
from tests.support.server import RunningService, serve

BENCH = ("--seconds", 0.1, "--warm-up", 0, "--clients", 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("callers")
    dummy_bundle(folder / "models")
    certificate(folder, "cert")
    (folder / "key").write_text(make_key(folder / "keys.json", "app", "predict", "read") + "\n")
    (folder / "row.json").write_text(json.dumps([{"image": [[1, 2, 3], [4, 5, 6]]}]))
    return folder


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[RunningService]:
    tls = {"tls_cert": folder / "cert.pem", "tls_key": folder / "cert.key"}
    with serve(folder / "models", verify=False, watchdog=0, api_keys_file=folder / "keys.json", **tls) as running:
        yield running


def run(tool: str, *arguments: object, **environ: object) -> "subprocess.CompletedProcess[str]":
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ZTO_", "SSL_"))}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "app", tool, "dummy", *map(str, arguments)],
        env=inherited | {name: str(value) for name, value in environ.items()},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_predict_sends_the_key_of_the_environment_and_trusts_the_certificate_that_is_named(
    service: RunningService, folder: Path
) -> None:
    key = (folder / "key").read_text().strip()
    done = run("predict", folder / "row.json", "--url", service.url, "--ca", folder / "cert.pem", ZTO_API_KEY=key)
    assert (done.returncode, "row.json: " in done.stdout) == (0, True), done.stderr


def test_predict_without_key_or_trust_is_told_what_helps(service: RunningService, folder: Path) -> None:
    done = run("predict", folder / "row.json", "--url", service.url, SSL_CERT_FILE=folder / "cert.pem")
    assert (done.returncode, done.stderr.count("refused (401)")) == (1, 1), done.stderr  # it was believed
    assert "; name the key with --key-file FILE, or ZTO_API_KEY" in done.stderr
    done = run("predict", folder / "row.json", "--url", service.url, "--key-file", folder / "key")
    assert done.returncode == 1
    assert "its certificate is not trusted: self-signed certificate; --ca FILE names" in done.stderr


def test_bench_sends_the_key_of_a_file_with_every_request(service: RunningService, folder: Path) -> None:
    access = ("--key-file", folder / "key", "--ca", folder / "cert.pem")
    done = run("bench", "--url", service.url, *access, *BENCH, "--json", folder / "figures.json")
    assert done.returncode == 0, done.stderr
    figures = (folder / "figures.json").read_text()
    assert json.loads(figures)["outcomes"].keys() == {"200"}
    assert (folder / "key").read_text().strip() not in figures + done.stdout


def test_bench_starts_a_service_of_its_own_with_keys_and_tls_as_the_settings_say(folder: Path) -> None:
    settings = {"ZTO_TLS_CERT": folder / "cert.pem", "ZTO_TLS_KEY": folder / "cert.key",
                "ZTO_API_KEYS_FILE": folder / "keys.json", "ZTO_MODELS_DIR": folder / "models",
                "ZTO_API_KEY": (folder / "key").read_text().strip(), "ZTO_WATCHDOG": "0"}  # fmt: skip
    done = run("bench", *BENCH, **settings)
    assert done.returncode == 0, done.stderr
