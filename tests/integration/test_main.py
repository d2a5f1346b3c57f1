"""The commands of ``python -m app``, run as they are from a shell."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from app import tasks
from app.bundle.loader import Bundle
from app.main import create_app
from app.serving.versions import State
from app.settings import Settings
from tests.integration.conftest import ROOT
from tests.support.bundles import dummy_bundle, edit_manifest
from tests.support.server import RunningService, serve


def app(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ZTO_")}
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments], env=inherited | environ, capture_output=True, text=True, timeout=60
    )


def test_health_tells_ready_from_not_ready_from_nobody_there(service: RunningService, tmp_path: Path) -> None:
    ready = app("health", ZTO_PORT=service.url.rpartition(":")[2])
    assert ready.returncode == 0
    assert json.loads(ready.stdout)["status"] == "ready"
    flawed = dummy_bundle(tmp_path, "flawed")
    (flawed / "dummy.json").write_text("{ }")
    with serve(tmp_path, ready=503) as running:
        not_ready = app("health", ZTO_HOST="0.0.0.0", ZTO_PORT=running.url.rpartition(":")[2])
        assert not_ready.returncode == 1
        assert json.loads(not_ready.stdout)["models"]["flawed"]["state"] == "failed"
    nobody = app("health", ZTO_PORT="1")
    assert nobody.returncode == 1
    assert "no answer from 127.0.0.1:1" in nobody.stderr


def test_health_needs_neither_the_web_framework_nor_numpy() -> None:
    code = (
        "import sys; import app.__main__; print([m for m in ('fastapi', 'numpy', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_serving_starts_no_threads_for_products_of_matrices_and_leaves_the_collector_on() -> None:
    code = (
        "import gc, os, sys; from app.__main__ import main; status = main(['serve']); "
        "print(status, 'numpy' in sys.modules, len(os.listdir('/proc/self/task')), gc.isenabled(), "
        "flush=True); sys.exit(status)"
    )
    inherited = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | {"ZTO_MODELS_DIR": str(ROOT / "nowhere")},
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    # the worker, which would have served, and then its parent, which never needs any of it
    assert done.stdout.splitlines() == ["2 True 1 True", "2 False 1 True"]


def test_schema_is_the_committed_one() -> None:
    assert app("schema").stdout == (ROOT / "models" / "manifest.schema.json").read_text()


def test_settings_lists_every_setting_with_its_default() -> None:
    printed = app("settings").stdout
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, ()) else field.default
        assert f"ZTO_{name.upper()}={default}\n    {field.description}\n" in printed


def test_unknown_command_is_told_the_known_ones() -> None:
    done = app("sing")
    assert done.returncode == 2
    assert "serve" in done.stderr


def test_bad_settings_are_told_by_every_command() -> None:
    done = app("health", ZTO_PROT="8000")
    assert (done.returncode, done.stderr) == (2, "error: unknown setting ZTO_PROT; did you mean ZTO_PORT?\n")


def test_models_whose_names_differ_by_a_dash_keep_types_of_their_own(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, "a-b", labels=("x", "y"))
    dummy_bundle(tmp_path, "a_b")
    with serve(tmp_path) as running:
        document = httpx.get(f"{running.url}/openapi.json").json()
        assert {"A-bRequest", "A_bRequest", "A-bResponse", "A_bResponse"} <= set(document["components"]["schemas"])
        operations = [operation["post"]["operationId"] for path, operation in document["paths"].items()
                      if path.startswith("/predict")]  # fmt: skip
        assert sorted(operations) == ["predict", "predict_a-b", "predict_a_b"]


@pytest.mark.parametrize("where", ["member", "model", "key"])
def test_long_names_in_a_request_are_not_echoed_whole(service: RunningService, where: str) -> None:
    long = "x" * 100_000
    body = {
        "member": json.dumps({"instances": [], long: 1}),
        "model": json.dumps({"instances": [], "model": long}),
        "key": f'{{"{long}": 1, "{long}": 2}}',
    }[where]
    path = "/predict" if where == "model" else "/predict/mlp"
    response = httpx.post(f"{service.url}{path}", content=body, headers={"content-type": "application/json"})
    assert 400 <= response.status_code < 500
    assert len(response.content) < 2000


def test_manifest_of_lax_types_is_refused_as_its_schema_says(tmp_path: Path) -> None:
    folder = dummy_bundle(tmp_path, "lax")
    dummy_bundle(tmp_path, "strict")
    edit_manifest(folder, lambda manifest: manifest.update(version="1"))
    with serve(tmp_path, ready=503) as running:
        models = httpx.get(f"{running.url}/readyz").json()["models"]
        assert models["strict"]["state"] == "ready"
        assert "version: Input should be a valid integer" in models["lax"]["reason"]


def test_task_that_fails_in_an_unforeseen_way_stops_no_other_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dummy_bundle(tmp_path, "bad")
    dummy_bundle(tmp_path, "good")
    create = tasks.create

    def fail_on_bad(bundle: Bundle, limits: tasks.Limits) -> tasks.Task:
        if bundle.manifest.name == "bad":
            raise MemoryError
        return create(bundle, limits)

    monkeypatch.setattr(tasks, "create", fail_on_bad)
    app = create_app(Settings(models_dir=tmp_path))
    bad, good = app.catalog.versions()
    assert (bad.state, bad.reason, good.state) == (State.FAILED, "MemoryError", State.LOADING)
    assert "/predict/good" in app.openapi()["paths"]
