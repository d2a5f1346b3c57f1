"""``python -m app``: serve, and the tools beside it."""

import argparse
import http.client
import importlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence

from app.errors import SettingsError
from app.settings import Settings

EXIT_BAD_SETTINGS = 2
HEALTH_TIMEOUT_S = 2.0
WORKER_END_S = 0.5
# with options of their own: imported only when asked for
TOOLS = {
    "bench": "put a model, or a running service, under load; tell what its callers see",
    "tune": "measure a model on this machine, and write what serves it best beside its bundle",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m app", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve the bundles of ZTO_MODELS_DIR until SIGTERM")
    commands.add_parser("health", help="exit with 0 if the service on ZTO_PORT is ready, else with 1")
    commands.add_parser("schema", help="print the JSON Schema of manifest.json")
    commands.add_parser("settings", help="print every setting, its default and what it means")
    for name, what in TOOLS.items():
        commands.add_parser(name, help=what)
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments and arguments[0] in TOOLS:
            return int(importlib.import_module(f"app.{arguments[0]}.command").main(arguments[1:]))
        command = parser.parse_args(arguments).command
        return {"serve": _serve, "health": _health, "schema": _schema, "settings": _settings}[command]()
    except SettingsError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return EXIT_BAD_SETTINGS


def _serve() -> int:
    # until the server has its own handler; the first process of a container has none, and would not hear of the end
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
    settings = Settings.from_environ(os.environ)
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", stream=sys.stderr
    )
    # no threads for products of matrices that nothing here computes: NumPy starts one per core, and each spins at first
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # imported late: the other commands need none of it
    from app import memory

    memory.return_large_blocks()
    with memory.without_collections():
        from app.main import create_app
        from app.server import Server

        server = Server(create_app(settings), settings)
    try:
        server.run()
        status = 0 if server.started else 1
    except SystemExit as exc:  # uvicorn's way of saying that it cannot start
        status = exc.code if isinstance(exc.code, int) else 1
    return _leave(status)


def _leave(status: int) -> int:
    """Return the exit status; where a runtime hangs, end the process with it, since Python would wait or abort."""
    workers = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    for worker in workers:
        worker.join(WORKER_END_S)
    if any(worker.is_alive() for worker in workers):
        logging.getLogger("app").warning("leaving while a model still loads or runs; everybody was answered")
        logging.shutdown()
        os._exit(status)
    return status


def _health() -> int:
    settings = Settings.from_environ(os.environ)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104  compared, not bound
    connection = http.client.HTTPConnection(host, settings.port, timeout=HEALTH_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        sys.stdout.write(response.read().decode() + "\n")
    except (OSError, http.client.HTTPException) as exc:
        sys.stderr.write(f"error: no answer from {host}:{settings.port}: {exc}\n")
        return 1
    finally:
        connection.close()
    return 0 if response.status == 200 else 1


def _schema() -> int:
    from app.bundle.manifest import Manifest

    sys.stdout.write(json.dumps(Manifest.model_json_schema(), indent=2) + "\n")
    return 0


def _settings() -> int:
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, ()) else field.default
        sys.stdout.write(f"ZTO_{name.upper()}={default}\n    {field.description}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
