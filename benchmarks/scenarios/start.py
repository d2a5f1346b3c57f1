"""From start to ready, and resident memory: with seven models and with all, before and after predictions."""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks.findings import Bar, Finding, Setting
from benchmarks.pictures import REPOSITORY
from benchmarks.scenarios import _bundles, _command, _processes
from benchmarks.servers import START_TIMEOUT_S, STOP_TIMEOUT_S, Running, pinned

BAR_READY_S, AIM_READY_S = 1.0, 0.7
BAR_MB, AIM_MB = 150.0, 125.0
# the seven architectures of the design; the eighth model is there for its task
LEFT_OUT = "numpy_regression"
PREDICTIONS = 256
STARTS = 10
_POLL_S = 0.002
_ASK_EVERY_S = 0.05
_LISTENING = re.compile(r" running on http://[^ ]*:(\d+)")
_READY = re.compile(r" ready in ")
_TORCH = re.compile(r"libtorch|libc10\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start of the service.

    Attributes:
        ready_s: Seconds from the start of the process until every model was ready.
        listening_s: Seconds until the port answered.
        resident_mb: Resident memory once ready, in 10^6 bytes, of all its processes together.
        proportional_mb: So, but pages that others map too count by their share.
        resident_used_mb: Resident memory after the predictions.
        proportional_used_mb: Likewise, by shares.
        cpu_s: Seconds that it had computed when it was ready.
        has_torch: Whether a library of PyTorch was in memory at the end.
    """

    ready_s: float
    listening_s: float
    resident_mb: float
    proportional_mb: float
    resident_used_mb: float
    proportional_used_mb: float
    cpu_s: float
    has_torch: bool


def measure(setting: Setting) -> Finding:
    """Start the service again and again, with seven models and with all."""
    everything = _bundles.committed()
    seven = tuple(name for name in everything if name != LEFT_OUT)
    starts: dict[str, list[Start]] = {}
    for names in (seven, everything):
        label = f"{len(names)} models"
        starts[label] = []
        for _ in range(1 if setting.is_quick else STARTS):
            found, _others = setting.patience.measure(lambda names=names: start_once(names, setting))  # type: ignore[misc]
            starts[label].append(found)
        setting.tell(f"{label}: ready after {_middle(starts[label], 'ready_s'):.2f} s")
    first = starts[f"{len(seven)} models"]
    return Finding(
        title="Start and memory",
        bars=tuple(_bars(first, len(seven))),
        table_markdown=_command.table(
            (
                "models", "ready after s (least-most)", "port open after s", "CPU s until ready", "MB resident",
                "MB by shares", f"MB resident after {PREDICTIONS} predictions", "MB by shares after them",
            ),
            [_row(label, found) for label, found in starts.items()],
        ),
        notes=(
            f"Medians over {len(first)} starts on one core, in 10^6 bytes. Ready is when /readyz answers 200, with "
            "every model proven. Resident counts whole what processes share, libraries above all; by shares (the "
            f"kernel's proportional set size) divides it among them. The {PREDICTIONS} predictions are the golden "
            "requests of all models in turn, one at a time."
        ),
        raw={label: [asdict(one) for one in found] for label, found in starts.items()},
    )  # fmt: skip


def start_once(names: Sequence[str], setting: Setting) -> Start:
    """Start the service with some of the committed models, ask it, and stop it."""
    with tempfile.TemporaryDirectory() as folder:
        models_dir = Path(folder) / "models"
        _bundles.link(names, models_dir)
        with _started(models_dir, setting.server_core, len(names)) as (running, listening_s):
            cpu_s = _processes.computed_s(running.pid)
            fresh = _processes.memory(running.pid)
            with pinned(setting.load_core):
                predict(running, names, PREDICTIONS)
            used = _processes.memory(running.pid)
            return Start(
                ready_s=running.ready_s,
                listening_s=listening_s,
                resident_mb=fresh.resident / 1e6,
                proportional_mb=fresh.proportional / 1e6,
                resident_used_mb=used.resident / 1e6,
                proportional_used_mb=used.proportional / 1e6,
                cpu_s=cpu_s,
                has_torch=any(_TORCH.search(name) for name in _processes.mapped_files(running.pid)),
            )


def predict(running: Running, names: Sequence[str], count: int) -> None:
    """Send so many golden requests, the models in turn.

    Raises:
        RuntimeError: One is not answered with 200.
    """
    requests = {name: golden_bodies(name) for name in names}
    for index in range(count):
        name = names[index % len(names)]
        bodies = requests[name]
        status, answer = running.ask("POST", f"/predict/{name}", bodies[index // len(names) % len(bodies)])
        if status != 200:
            raise RuntimeError(f"{name} answers {status}: {answer[:300]!r}")


def golden_bodies(name: str) -> list[bytes]:
    """Return the golden requests of a committed model, each as a JSON body."""
    from app.bundle.loader import Bundle

    folder = _bundles.newest(name)
    golden = Bundle(folder=folder, manifest=_bundles.manifest_of(folder)).golden()
    return [json.dumps({"instances": [request]}).encode() for request in golden.requests]


@contextlib.contextmanager
def _started(models_dir: Path, core: int, count: int) -> Iterator[tuple[Running, float]]:
    """Start the service and yield it when it is ready.

    Its log tells how far it is, so that it is not asked while it loads: every question would take from its core.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ZTO_")}
    ours = {"ZTO_MODELS_DIR": str(models_dir), "ZTO_PORT": "0", "ZTO_DRAIN_S": "0"}
    log_path = models_dir.parent / "log"
    with log_path.open("wb") as log, pinned(core):
        started_at = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve"], cwd=REPOSITORY, env=inherited | ours, stdout=log, stderr=log
        )
    try:
        yield _when_ready(process, log_path, count, started_at)
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _when_ready(
    process: "subprocess.Popen[bytes]", log_path: Path, count: int, started_at: float
) -> tuple[Running, float]:
    listening_s, asked_at = 0.0, 0.0
    running: Running | None = None
    while process.poll() is None and (now := time.perf_counter()) - started_at < START_TIMEOUT_S:
        log = log_path.read_text()
        if running is None and (found := _LISTENING.search(log)):
            listening_s = now - started_at
            running = Running(pid=process.pid, port=int(found[1]), ready_s=0)
        if running is not None and (len(_READY.findall(log)) >= count or now - asked_at > _ASK_EVERY_S):
            asked_at = now
            if running.ask("GET", "/readyz")[0] == 200:
                ready_s = time.perf_counter() - started_at
                return Running(pid=running.pid, port=running.port, ready_s=ready_s), listening_s
        time.sleep(_POLL_S)
    raise RuntimeError(f"the service was not ready:\n{log_path.read_text()}")


def _bars(starts: Sequence[Start], count: int) -> Iterator[Bar]:
    ready_s = _middle(starts, "ready_s")
    yield Bar(
        what=f"start to ready, {count} models",
        bar=f"{BAR_READY_S:.1f} s",
        aim=f"{AIM_READY_S:.1f} s",
        measured=f"{ready_s:.2f} s",
        is_met=ready_s <= BAR_READY_S,
        is_aim_met=ready_s <= AIM_READY_S,
    )
    used_mb, has_torch = _middle(starts, "resident_used_mb"), any(start.has_torch for start in starts)
    yield Bar(
        what=f"resident memory, {count} models, no torch, after {PREDICTIONS} predictions",
        bar=f"{BAR_MB:.0f} MB",
        aim=f"{AIM_MB:.0f} MB",
        measured=f"{used_mb:.1f} MB ({_middle(starts, 'resident_mb'):.1f} MB when ready)"
        + (", and torch was loaded" if has_torch else ""),
        is_met=used_mb <= BAR_MB and not has_torch,
        is_aim_met=used_mb <= AIM_MB and not has_torch,
    )


def _middle(starts: Sequence[Start], field: str) -> float:
    return float(median(getattr(start, field) for start in starts))


def _row(label: str, starts: Sequence[Start]) -> list[str]:
    ready = [start.ready_s for start in starts]
    return [
        label,
        f"{median(ready):.2f} ({min(ready):.2f}-{max(ready):.2f})",
        f"{_middle(starts, 'listening_s'):.2f}",
        f"{_middle(starts, 'cpu_s'):.2f}",
        f"{_middle(starts, 'resident_mb'):.1f}",
        f"{_middle(starts, 'proportional_mb'):.1f}",
        f"{_middle(starts, 'resident_used_mb'):.1f}",
        f"{_middle(starts, 'proportional_used_mb'):.1f}",
    ]


if __name__ == "__main__":
    sys.exit(_command.run(measure))
