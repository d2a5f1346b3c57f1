"""What the documentation promises of the images, checked on running containers; `tests/container/run` calls it.

Not collected by pytest: it needs a Docker engine, the three images, and compose up.
"""

import base64
import http.client
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = os.environ["COMPOSE"].split()
LABEL = os.environ["LABEL"]
PORT, TORCH_PORT = int(os.environ["PUBLISH_PORT"]), int(os.environ["PUBLISH_TORCH_PORT"])
SERVICE, SERVICE_TORCH, TRAINING = (f"zero-to-one:{target}" for target in ("service", "service-torch", "training"))
# the port is published on loopback
ANONYMOUS = ("--env", "ZTO_ALLOW_ANONYMOUS=1")
HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")

MAX_MB_ABOVE_BASE = 230
MAX_RESIDENT_MB = 170
MAX_START_S = 2.0
MAX_PROBABILITY_DIFFERENCE = 1e-4
NUM_IMAGES, ACCURACY_TOLERANCE = 256, 0.04

fixture = np.load(ROOT / "tests/fixtures/fashion_mnist_test_512.npz")
images, labels = fixture["images"][:NUM_IMAGES], fixture["labels"][:NUM_IMAGES]
manifest = json.loads(max((ROOT / "models/cnn").glob("*/manifest.json"), key=lambda p: int(p.parent.name)).read_bytes())

checks: list[tuple[str, Callable[[], str | None]]] = []


def check(promise: str) -> Callable[[Callable[[], str | None]], None]:
    def register(function: Callable[[], str | None]) -> None:
        checks.append((promise, function))

    return register


def docker(*arguments: str, expect: int | None = 0, stdin: bytes | None = None) -> str:
    """Return stdout, or with ``expect=None`` whatever it printed followed by its exit status."""
    done = subprocess.run(["docker", *arguments], input=stdin, capture_output=True, check=False, timeout=180)
    stdout, stderr = done.stdout.decode(), done.stderr.decode()
    if expect is None:
        return f"{stdout}{stderr}\nexit {done.returncode}"
    assert done.returncode == expect, f"docker {' '.join(arguments)[:200]} exited with {done.returncode}: {stderr}"
    return stdout.strip()


def compose(*arguments: str) -> str:
    done = subprocess.run([*COMPOSE, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, f"compose {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def start(image: str, *options: str, arguments: tuple[str, ...] = (), port: int = 8000) -> str:
    published = ("--publish", f"127.0.0.1::{port}")
    return docker("run", "--detach", "--label", LABEL, *HARDENED, *ANONYMOUS, *published, *options, image, *arguments)


def port_of(container: str, port: int = 8000) -> int:
    return int(docker("port", container, f"{port}/tcp").splitlines()[0].rpartition(":")[2])


def ask(port: int, method: str, path: str, body: bytes | None = None, media_type: str = "application/json") -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, {"Content-Type": media_type} if body is not None else {})
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    assert response.status == 200, f"{method} {path}: {response.status} {text[:300]}"
    return json.loads(text)


def is_ready(port: int, path: str = "/readyz") -> bool:
    try:
        ask(port, "GET", path)
    except (OSError, http.client.HTTPException, AssertionError):
        return False
    return True


def is_pinged(port: int) -> bool:
    return is_ready(port, "/ping")


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> float:
    started_at = time.monotonic()
    while not condition():
        assert time.monotonic() - started_at < timeout_s, f"{what}: not within {timeout_s:.0f} s"
        time.sleep(0.02)
    return time.monotonic() - started_at


def predict(port: int, pictures: np.ndarray) -> list[dict[str, Any]]:
    body = json.dumps({"instances": [{"image": picture.tolist()} for picture in pictures]}).encode()
    predictions: list[dict[str, Any]] = ask(port, "POST", "/predict/cnn", body)["predictions"]
    return predictions


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def service() -> str:
    return compose("ps", "--all", "--quiet", "service")


def inspect(container: str, template: str) -> str:
    return docker("inspect", "--format", template, container)


def in_service(*command: str, expect: int | None = 0) -> str:
    return docker("exec", service(), *command, expect=expect)


def process_status(container: str) -> dict[str, str]:
    lines = docker("exec", container, "cat", "/proc/1/status").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def resident_mb(container: str) -> float:
    """Return the memory of all processes of a container; what they share counts once."""
    script = "cat /proc/[0-9]*/smaps_rollup | awk '/^Pss:/ {sum += $2} END {print sum}'"
    return int(docker("exec", container, "sh", "-c", script)) * 1024 / 1e6


def megabytes(image: str) -> float:
    return int(docker("image", "inspect", "--format", "{{.Size}}", image)) / 1e6


@check(f"the service image is less than {MAX_MB_ABOVE_BASE} MB above its base")
def _() -> str:
    base_mb = megabytes(os.environ["PYTHON_IMAGE"])
    above_mb = {image: megabytes(image) - base_mb for image in (SERVICE, SERVICE_TORCH, TRAINING)}
    assert above_mb[SERVICE] < MAX_MB_ABOVE_BASE, above_mb
    return f"base {base_mb:.0f} MB; " + ", ".join(f"{image} +{size_mb:.0f} MB" for image, size_mb in above_mb.items())


@check("compose becomes healthy")
def _() -> str:
    container = service()
    seconds = wait_for(lambda: inspect(container, "{{.State.Health.Status}}") == "healthy", "healthy")
    return f"{seconds:.1f} s after the images were measured"


@check("the port is published on loopback alone")
def _() -> str:
    published = docker("port", service(), "8000/tcp").splitlines()
    assert published == [f"127.0.0.1:{PORT}"], published
    return published[0]


@check("JSON: the labels of real pictures are as accurate as the manifest says")
def _() -> str:
    predictions = [p for i in range(0, NUM_IMAGES, 32) for p in predict(PORT, images[i : i + 32])]
    accuracy = float(np.mean([p["index"] for p in predictions] == labels))
    expected = manifest["metrics"]["accuracy"]
    assert abs(accuracy - expected) <= ACCURACY_TOLERANCE, f"{accuracy} is not about {expected}"
    names = manifest["task"]["labels"]
    assert all(p["label"] == names[p["index"]] for p in predictions)
    return f"{accuracy:.4f} on {NUM_IMAGES} pictures, {expected:.4f} on the whole test set"


@check("a raw PNG, base64 and rows of numbers get the same answer")
def _() -> str:
    for picture in images[:16]:
        (rows,) = predict(PORT, picture[None])
        (raw,) = ask(PORT, "POST", "/predict/cnn", png(picture), "image/png")["predictions"]
        body = {"instances": [{"image": base64.b64encode(png(picture)).decode()}]}
        (encoded,) = ask(PORT, "POST", "/predict/cnn", json.dumps(body).encode())["predictions"]
        assert rows["label"] == raw["label"] == encoded["label"]
        np.testing.assert_allclose(rows["probability"], raw["probability"], atol=1e-5)
    return f"the first picture is {predict(PORT, images[:1])[0]['label']!r}"


@check(f"both models are served in less than {MAX_RESIDENT_MB} MB resident")
def _() -> str:
    models = ask(PORT, "GET", "/readyz")["models"]
    assert {"mlp", "cnn"} <= models.keys(), models.keys()
    resident = resident_mb(service())
    assert resident < MAX_RESIDENT_MB, f"{resident:.1f} MB"
    used = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", service())
    return f"{resident:.1f} MB after {NUM_IMAGES} predictions and more; the engine counts {used}"


@check("the service does not run as root")
def _() -> str:
    status = process_status(service())
    ids = {*status["Uid"].split(), *status["Gid"].split()}
    assert ids == {"10001"}, ids
    return "uid and gid 10001"


@check("nothing in the container can be written")
def _() -> str:
    tries = ("/x", "/tmp/x", "/srv/models/x", "/srv/app/x", "/venv/x", "/var/tmp/x")
    for path in tries:
        output = in_service("sh", "-c", f"echo x > {path}", expect=None)
        assert "Read-only file system" in output, f"{path}: {output}"
    return ", ".join(tries)


@check("it holds no capability and can gain no privilege")
def _() -> str:
    status = process_status(service())
    capabilities = {name: status[name] for name in status if name.startswith("Cap")}
    assert set(capabilities.values()) == {"0" * 16}, capabilities
    assert status["NoNewPrivs"] == "1"
    limits = inspect(service(), "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}").split()
    assert all(int(limit) > 0 for limit in limits), limits
    return f"memory limit {int(limits[0]) >> 20} MiB, {limits[1]} processes"


@check("the service image has no torch, no compiler and no caches")
def _() -> None:
    script = (
        "import importlib.util as u, shutil, pathlib;"
        "assert u.find_spec('onnxruntime') and not any(map(u.find_spec, ('torch', 'pip', 'setuptools', 'training')));"
        "assert not any(map(shutil.which, ('gcc', 'cc', 'g++', 'make')));"
        "root = pathlib.Path('/');"
        "assert not any((root / name).exists() for name in ('root/.cache', 'srv/tests', 'build'))"
    )
    docker("run", "--rm", "--label", LABEL, "--user", "0", SERVICE, "python", "-c", script)


@check("the health check says no where nothing answers")
def _() -> str:
    in_service("python", "-m", "app", "health")
    started_at = time.monotonic()
    output = in_service("env", "ZTO_PORT=9", "python", "-m", "app", "health", expect=None)
    assert output.endswith("exit 1"), output
    return f"one check takes {time.monotonic() - started_at:.2f} s"


@check(f"a fresh container is ready within {MAX_START_S:.0f} s")
def _() -> str:
    seconds = []
    for _ in range(3):
        container = docker("create", "--label", LABEL, *HARDENED, *ANONYMOUS, "--publish", "127.0.0.1::8000", SERVICE)
        started_at = time.monotonic()
        docker("start", container)
        port = port_of(container)
        wait_for(lambda port=port: is_ready(port), "ready")  # type: ignore[misc]
        seconds.append(time.monotonic() - started_at)
        docker("rm", "--force", container)
    assert min(seconds) < MAX_START_S, seconds
    return "from `docker start`: " + ", ".join(f"{s:.2f} s" for s in seconds)


@check("docker stop under load drops no request and exits with 0")
def _() -> str:
    container = service()
    name = inspect(container, "{{.Name}}").lstrip("/")
    (network,) = json.loads(inspect(container, "{{json .NetworkSettings.Networks}}"))
    command = ["docker", "run", "--interactive", "--rm", "--label", LABEL, "--network", network, SERVICE]
    command += ["python", "-c", Path(__file__).with_name("load.py").read_text(), name, "8000", "/predict/cnn"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
        assert load.stdin is not None
        assert load.stdout is not None
        load.stdin.write(json.dumps({"instances": [{"image": images[0].tolist()}]}))
        load.stdin.close()
        assert load.stdout.readline() == "running\n"
        time.sleep(1)
        started_at = time.monotonic()
        docker("stop", container)
        stop_s = time.monotonic() - started_at
        outcomes = json.loads(load.stdout.readline())
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    assert outcomes.get("200", 0) > 100, told
    assert outcomes.keys() <= {"200", "told to close", "refused"}, told
    assert inspect(container, "{{.State.ExitCode}} {{.State.OOMKilled}}") == "0 false"
    return f"{told}; stopped in {stop_s:.1f} s"


@check(f"both backends answer from service-torch, within {MAX_PROBABILITY_DIFFERENCE:g} of each other")
def _() -> str:
    compose("--profile", "torch", "up", "--detach", "--no-build", "service-torch")
    eager = compose("--profile", "torch", "ps", "--quiet", "service-torch")
    onnx = start(SERVICE_TORCH, "--env", "ZTO_BACKEND=onnx")
    answers = []
    for container, port, backend in ((eager, TORCH_PORT, "state_dict"), (onnx, port_of(onnx), "onnx")):
        wait_for(lambda port=port: is_ready(port), backend)  # type: ignore[misc]
        assert f": {backend} on the " in docker("logs", container, expect=None), f"{backend} does not serve"
        answers.append([p for i in range(0, NUM_IMAGES, 32) for p in predict(port, images[i : i + 32])])
    assert [p["label"] for p in answers[0]] == [p["label"] for p in answers[1]]
    a, b = (np.array([list(p["probabilities"].values()) for p in answer]) for answer in answers)
    difference = float(np.abs(a - b).max())
    assert difference <= MAX_PROBABILITY_DIFFERENCE, difference
    resident = f"torch takes {resident_mb(eager):.0f} MB resident"
    return f"the same {len(a)} labels, {difference:.1e} apart; {resident}"


@check("`docker compose --profile observability` adds Prometheus and Grafana, published on the loopback alone")
def _() -> str:
    added = set(compose("--profile", "observability", "config", "--services").split())
    added -= set(compose("config", "--services").split())
    assert added == {"prometheus", "grafana"}, added
    whole = compose("--profile", "observability", "config")
    assert whole.count("published:") == whole.count("host_ip: 127.0.0.1") == 3, whole
    for folder in ("prometheus", "grafana/provisioning", "grafana/dashboards"):
        assert f"source: {ROOT / 'deploy/observability' / folder}\n" in whole, whole
    return "as far as an engine without these images can tell"


@check("`docker run IMAGE serve` is SageMaker's container: port 8080, healthy, ended by SIGTERM with 0")
def _() -> str:
    container = start(SERVICE, arguments=("serve",), port=8080)
    port = port_of(container, 8080)
    wait_for(lambda: is_pinged(port), "/ping")
    body = json.dumps({"model": "cnn", "instances": [{"image": images[0].tolist()}]}).encode()
    assert ask(port, "POST", "/invocations", body)["predictions"] == predict(port, images[:1])
    wait_for(lambda: inspect(container, "{{.State.Health.Status}}") == "healthy", "healthy on 8080")
    assert docker("exec", container, "cat", "/proc/1/cmdline").replace("\0", " ").split()[1:] == ["-m", "app", "serve"]
    docker("stop", container)
    assert inspect(container, "{{.State.ExitCode}}") == "0"
    label = inspect(SERVICE, '{{index .Config.Labels "com.amazonaws.sagemaker.capabilities.accept-bind-to-port"}}')
    assert label == "true", label
    return "answers as on port 8000; the shell of `serve` has handed its process on"


@check("`serve` listens where SAGEMAKER_BIND_TO_PORT says, and serves what lies in /opt/ml/model or /mnt/models")
def _() -> str:
    for place in ("/opt/ml/model", "/mnt/models"):
        options = ("--env", "SAGEMAKER_BIND_TO_PORT=8123", "--volume", f"{ROOT / 'models/mlp'}:{place}/mlp:ro")
        container = start(SERVICE, *options, arguments=("serve",), port=8123)
        port = port_of(container, 8123)
        wait_for(lambda port=port: is_pinged(port), "/ping")  # type: ignore[misc]
        assert ask(port, "GET", "/v1/models") == {"models": ["mlp"]}
        docker("rm", "--force", container)
    return "one model instead of the image's own"


@check("a wrong models folder ends at once, and the log says which")
def _() -> str:
    for name in ("MODELS_DIR", "ZTO_MODELS_DIR"):
        options = (*HARDENED, *ANONYMOUS, "--env", f"{name}=/nowhere")
        output = docker("run", "--rm", "--label", LABEL, *options, SERVICE, expect=None)
        assert output.endswith("exit 2"), output
        assert "error: " in output, output
        assert "/nowhere" in output, output
        assert "Traceback" not in output, output
    return output.splitlines()[0]


@check("without keys, and without leave to do without, nothing is served")
def _() -> str:
    output = docker("run", "--rm", "--label", LABEL, *HARDENED, SERVICE, expect=None)
    assert output.endswith("exit 2"), output
    assert "ZTO_API_KEYS_FILE" in output, output
    assert "ZTO_ALLOW_ANONYMOUS=1" in output, output
    return output.splitlines()[0]


@check("the training image lists architectures and bundles")
def _() -> str:
    by_default = docker("run", "--rm", "--label", LABEL, *HARDENED, TRAINING)
    spelled_out = docker(
        "run", "--rm", "--label", LABEL, *HARDENED, "--entrypoint", "python", TRAINING, "-m", "training", "list"
    )
    assert by_default == spelled_out
    assert "cnn/" in by_default, by_default
    assert "damaged" not in by_default, by_default
    return f"{len(by_default.splitlines())} lines"


def main() -> int:
    failed = 0
    for number, (promise, function) in enumerate(checks, 1):
        started_at = time.monotonic()
        try:
            verdict, note = "ok  ", function()
        except Exception as exc:  # one broken promise hides no other
            verdict, note = "FAIL", f"{type(exc).__name__}: {exc}"
            failed += 1
        seconds = time.monotonic() - started_at
        sys.stdout.write(f"{verdict} {number:2} {promise} [{seconds:.1f} s]\n")
        if note:
            sys.stdout.write(f"        {note}\n")
        sys.stdout.flush()
    if failed:
        sys.stdout.write(docker("logs", "--tail", "50", service(), expect=None) + "\n")
    sys.stdout.write(f"{len(checks) - failed} passed, {failed} failed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
