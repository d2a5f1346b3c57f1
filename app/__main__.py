"""``python -m app``: serve, and the tools beside it."""

import argparse
import importlib
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from app import cpus, logs
from app.access.binding import expect_guarded
from app.errors import SettingsError
from app.settings import EXIT_BAD_SETTINGS, Settings

if TYPE_CHECKING:
    from http.client import HTTPConnection

HEALTH_TIMEOUT_S = 2.0
# where a tool is not called as its package is
PACKAGES = {"keys": "access"}
# with options of their own: imported only when asked for
TOOLS = {
    "admin": "which versions of a model answer in a running service: say, roll back, promote",
    "bench": "put a model, or a running service, under load; tell what its callers see",
    "keys": "make a key for a caller, list the keys, take one back",
    "predict": "ask a model about some files; or answer a whole file of rows without a server",
    "tune": "measure a model on this machine, and write what serves it best beside its bundle",
    "verify": "tell whether bundles are signed, and are what was signed",
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
            package = PACKAGES.get(arguments[0], arguments[0])
            return int(importlib.import_module(f"app.{package}.command").main(arguments[1:]))
        command = parser.parse_args(arguments).command
        return {"serve": _serve, "health": _health, "schema": _schema, "settings": _settings}[command]()
    except SettingsError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return EXIT_BAD_SETTINGS


def _serve() -> int:
    # until the server has its own handler; the first process of a container has none, and would not hear of the end
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
    settings = Settings.from_environ(os.environ)
    expect_guarded(settings, os.environ)
    # no threads for products of matrices that nothing here computes: NumPy starts one per core, and each spins at first
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    logs.configure(settings.log_level, log_format=settings.log_format, several_processes=settings.workers > 1)
    settings = _within_the_cores(settings)
    # imported late: the other commands need none of it, and the parent of workers not what they serve with
    if settings.workers > 1 or settings.watchdog:
        from app.workers import parent

        return parent.serve(settings)
    from app import memory

    memory.configure(num_threads=cpus.num_cores())
    with memory.without_collections():
        from app.main import create_app
        from app.server import Server, run

        server = Server(create_app(settings), settings)
    return run(server)


def _within_the_cores(settings: Settings) -> Settings:
    """Return the settings with no more threads than the cores allow; the log tells what holds."""
    cores = cpus.num_cores()
    threads = cpus.threads_within(settings.threads, workers=settings.workers, cores=cores)
    logger = logging.getLogger("app")
    if threads < settings.threads:
        logger.warning(
            "ZTO_THREADS=%d is cut down to %d: there are %d cores for %d workers",
            settings.threads, threads, cores, settings.workers,
        )  # fmt: skip
    if settings.workers > cores:
        logger.warning("%d workers share %d cores; more than one for each core gain nothing", settings.workers, cores)
    if settings.workers > 1:
        logger.info("workers: %d, threads of each: %d, cores: %d", settings.workers, threads, cores)
    if threads == settings.threads:
        return settings  # a copy would have them set by name, and what was tuned would not be heeded
    return settings.model_copy(update={"threads": threads})


def _health() -> int:
    import http.client  # late: a parent of workers, which lives as long as they do, has no use for it

    settings = Settings.from_environ(os.environ)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104  compared, not bound
    connection = _connection(settings, host)
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


def _connection(settings: Settings, host: str) -> "HTTPConnection":
    import http.client
    import ssl

    if settings.tls_cert is None:
        return http.client.HTTPConnection(host, settings.port, timeout=HEALTH_TIMEOUT_S)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # the certificate is for the name that others know; nothing is sent that would be a secret
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(host, settings.port, timeout=HEALTH_TIMEOUT_S, context=context)


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
