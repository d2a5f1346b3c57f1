"""``python -m app tune``: measures a model on this machine, and writes what serves it best beside its bundle.

The golden requests of the bundle are answered in this process, through the backend and the queue of the service. What
is written holds the measurements, and is heeded as long as artifact, processor and runtime stay the same.
"""

import argparse
import asyncio
import gc
import os
import signal
import sys
from collections.abc import Coroutine, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app import cpus, machine
from app.bundle.loader import BundleRef, find_bundles, open_bundle
from app.bundle.manifest import is_version
from app.bundle.signing import read_keys
from app.bundle.tuning import Environment, Tuning, path_of, runtime_of, write_tuning
from app.errors import BundleError
from app.settings import Settings
from app.tune.candidates import Bounds, brief, keys
from app.tune.measure import Bench
from app.tune.search import Found, Search

EXIT_NOT_KEPT = 1
EXIT_BAD_USE = 2
EXIT_INTERRUPTED = 130
MIN_BUDGET_S, MAX_BUDGET_S = 1.0, 3600.0


def main(argv: Sequence[str]) -> int:
    """Tune, or forget a tuning.

    Returns:
        0; 1 where it is done, but the file of ``--json`` cannot be written; 2 where it cannot be done; 130 where it was
        interrupted.
    """
    options = _parse(argv)
    settings = Settings.from_environ(os.environ)
    try:
        ref = _find(options.model, settings)
        path = path_of(ref, settings.state_dir)
        if options.remove:
            return _remove(dict.fromkeys((path, path_of(ref))))
        _expect_options(options)
        if not options.dry_run:
            _expect_writable(path)
        tuning = _run(_tune(ref, settings, options))
        if options.dry_run:
            sys.stdout.write("nothing was written, as asked\n")
        else:
            write_tuning(tuning, path)
            sys.stdout.write(f"written: {path}; restart the service to heed it\n")
        if options.json is not None:
            return _write(tuning, options.json)
    except BundleError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return EXIT_BAD_USE
    except OSError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return EXIT_BAD_USE
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.stderr.write("interrupted: nothing was written\n")
        return EXIT_INTERRUPTED
    return 0


def _run(tuning: Coroutine[Any, Any, Tuning]) -> Tuning:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(tuning)


async def _tune(ref: BundleRef, settings: Settings, options: argparse.Namespace) -> Tuning:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    bundle = open_bundle(ref, read_keys(settings.signing_key))
    manifest = bundle.manifest
    bounds = Bounds(
        clients=options.clients, max_batch_ms=options.max_batch_ms, max_accuracy_drop=options.max_accuracy_drop
    )
    taken, left_out = keys(bundle, settings, bounds)
    for key, reason in left_out.items():
        _tell(f"{key}: left out: {reason}")
    bench = Bench(bundle, settings, clients=bounds.clients)
    gc.collect()
    gc.freeze()  # as the service does: what stays is not looked at again and again
    try:
        search = Search(bench, bounds, time_budget_s=options.time_budget, rounds=options.rounds, tell=_tell)
        found = await search.run(manifest, taken, threads=settings.threads)
        choice = found.choice
        environment = Environment(
            processor=machine.processor(),
            cores=cpus.num_cores_of_machine(),
            runtime=runtime_of(choice.backend),
            device=bench.device_of(choice),
        )
    finally:
        bench.close()
    sys.stdout.write(f"{manifest.name}/{manifest.version}: {brief(choice)}: {_words(found)}\n")
    return Tuning(
        name=manifest.name,
        version=manifest.version,
        sha256=bundle.artifact(choice.backend).sha256,
        choice=choice,
        environment=environment,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        clients=bounds.clients,
        max_batch_ms=bounds.max_batch_ms,
        gain=round(found.gain, 4),
        candidates=tuple(found.candidates),
    )


def _find(model: str, settings: Settings) -> BundleRef:
    """Return the bundle of ``name`` (the highest version) or ``name/version``."""
    name, _, version = model.partition("/")
    refs = find_bundles(settings.models_dir)
    of_name = [ref for ref in refs if ref.name == name]
    if not of_name:
        have = ", ".join(sorted({ref.name for ref in refs})) or "none"
        raise BundleError(f"no model {name!r} in {settings.models_dir}; there are: {have}")
    if not version:
        return of_name[-1]
    found = next((ref for ref in of_name if is_version(version) and ref.version == int(version)), None)
    if found is None:
        raise BundleError(
            f"{name} has no version {version!r}; it has: {', '.join(str(ref.version) for ref in of_name)}"
        )
    return found


def _words(found: Found) -> str:
    if not found.replaces:
        return "the manifest's own settings stay"
    if found.gain == 1.0:
        return "taken, since the manifest's own settings failed in the last step"
    return f"{found.gain:.2f} times the rows a second"


def _write(tuning: Tuning, path: Path) -> int:
    """Write what ``--json`` asks for; what was tuned stays where this fails."""
    try:
        path.write_text(tuning.model_dump_json(indent=1) + "\n")
    except OSError as exc:
        sys.stderr.write(f"error: all else is done, but {path} cannot be written: {exc.strerror or exc}\n")
        return EXIT_NOT_KEPT
    return 0


def _remove(paths: Iterable[Path]) -> int:
    """Remove every tuning that the service could heed.

    Raises:
        BundleError: One cannot be removed, and would be heeded still.
    """
    for path in paths:
        try:
            path.unlink()
        except FileNotFoundError:
            sys.stdout.write(f"there is no {path}\n")
        except OSError as exc:
            raise BundleError(
                f"{path} cannot be removed, and is heeded unless ZTO_TUNING=off: {exc.strerror or exc}"
            ) from exc
        else:
            sys.stdout.write(f"removed: {path}\n")
    return 0


def _expect_options(options: argparse.Namespace) -> None:
    for name, value, least, most in (
        ("--time-budget", options.time_budget, MIN_BUDGET_S, MAX_BUDGET_S),
        ("--clients", options.clients, 1, 1024),
        ("--rounds", options.rounds, 1, 100),
        ("--max-batch-ms", options.max_batch_ms, 1e-3, 1e6),
        ("--max-accuracy-drop", options.max_accuracy_drop, 0, 1),
    ):
        if not least <= value <= most:
            raise BundleError(f"{name} must be between {least:g} and {most:g}, got {value:g}")
    if options.json is not None and not options.json.parent.is_dir():
        raise BundleError(f"{options.json.parent} is no folder")


def _expect_writable(path: Path) -> None:
    """Fail before the measurement where its result could not be kept."""
    folder = next(parent for parent in path.parents if parent.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        raise BundleError(f"{folder} cannot be written to; set ZTO_STATE_DIR to a folder that can, here and to serve")


def _tell(line: str) -> None:
    sys.stderr.write(line.rstrip() + "\n")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m app tune", description=__doc__)
    parser.add_argument("model", help="its name, or NAME/VERSION; without one, the highest version")
    parser.add_argument("--remove", action="store_true", help="forget what was tuned")
    parser.add_argument("--dry-run", action="store_true", help="measure and tell, and write nothing beside the bundle")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result, with all candidates, here")
    bounds = Bounds()
    parser.add_argument("--time-budget", type=float, default=60.0, help="seconds, about (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each candidate (default: %(default)s)")
    parser.add_argument(
        "--clients", type=int, default=bounds.clients, help="requests in flight, of one row each (default: %(default)s)"
    )
    parser.add_argument(
        "--max-batch-ms", type=float, default=bounds.max_batch_ms, help="longest full batch (default: %(default)s)"
    )
    parser.add_argument(
        "--max-accuracy-drop",
        type=float,
        default=bounds.max_accuracy_drop,
        help="how much less of the test set another artifact may get right, as 0.005 (default: %(default)s)",
    )
    return parser.parse_args(argv)
