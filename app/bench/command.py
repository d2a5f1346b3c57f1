"""``python -m app bench``: the command line of the load generator.

Without ``--url`` it starts a service of its own with the settings of the environment, measures it, and ends it.
"""

import argparse
import contextlib
import dataclasses
import gc
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from app import machine
from app.access.caller import add_options, caller_of
from app.bench import plot, questions, report, service
from app.bench.errors import BenchError
from app.bench.load import run
from app.bench.plans import ClosedLoop, OpenLoop, Plan

EXIT_BAD_USE = 2
EXIT_NOTHING_ANSWERED = 1


def main(argv: Sequence[str]) -> int:
    """Measure; return 0, 1 where nothing was answered with 200, or 2 where the measurement cannot be made."""
    options = _parse(argv)
    try:
        # by the way of an exception, which ends a service that was started
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        try:
            return _measure(options)
        finally:
            signal.signal(signal.SIGTERM, before)
    except BenchError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return EXIT_BAD_USE
    except KeyboardInterrupt:  # before there was anything to report
        return 130


def _measure(options: argparse.Namespace) -> int:
    plan, environment = _plan(options), machine.describe()
    for path in (options.json, options.plot):
        if path is not None and not path.parent.is_dir():
            raise BenchError(f"{path.parent} is no folder")
    bodies = _bodies(options)
    headers = questions.parse_headers(options.header, options.content_type)
    with _place(options) as place:
        requests = questions.requests_to(place, bodies or [questions.example(place)], headers)
        tuning_ignored = questions.tuning_ignored(place)
        gc.collect()
        gc.freeze()  # a collection of what will stay would be counted as somebody's time
        try:
            result = run(place.target, requests, plan)
        except OSError as exc:  # TimeoutError is one
            raise BenchError(f"{place.netloc} takes no connections: {exc}") from exc
    sys.stdout.write(report.table(result, plan, within_ms=options.within_ms, tuning_ignored=tuning_ignored) + "\n")
    if options.json is not None:
        asked = {"target": options.target, "url": options.url, "path": place.path, "bodies": len(requests)}
        document = report.document(
            result, plan, within_ms=options.within_ms, asked=asked, environment=environment,
            tuning_ignored=tuning_ignored,
        )  # fmt: skip
        _write(options.json, json.dumps(document, indent=1) + "\n")
    if options.plot is not None:
        curves = [("response", result.response)]
        if isinstance(plan, OpenLoop):
            curves.append(("service", result.service))
        title = f"POST {place.path}: {result.requests_per_s:.0f} answers a second"
        _write(options.plot, plot.latency_svg(title, curves))
    return 0 if result.answered else EXIT_NOTHING_ANSWERED


@contextlib.contextmanager
def _place(options: argparse.Namespace) -> Iterator[questions.Place]:
    """Yield where to send, with a service of our own behind it where none was named."""
    caller = caller_of(options, os.environ)
    if "://" in options.target:
        if options.url is not None:
            raise BenchError("one URL is enough: bench MODEL --url URL, or bench URL")
        yield questions.parse_url(options.target, caller)
    elif options.url is not None:
        yield questions.parse_url(options.url, caller, model=options.target)
    else:
        _expect_bundle(options.target)
        with service.start(options.target) as target:
            place = questions.parse_url(f"http://{target.host}:{target.port}", caller, model=options.target)
            yield dataclasses.replace(place, target=target)


def _expect_bundle(model: str) -> None:
    """Fail on a name that is not there before a service is started for it."""
    from app.bundle.loader import find_bundles
    from app.errors import BundleError
    from app.settings import Settings

    settings = Settings.from_environ(os.environ)
    try:
        names = sorted({ref.name for ref in find_bundles(settings.models_dir)})
    except BundleError as exc:
        raise BenchError(f"{exc}; set ZTO_MODELS_DIR, or name a running service with --url") from exc
    if model not in names:
        raise BenchError(f"no model {model!r} in {settings.models_dir}; there are: {', '.join(names) or 'none'}")


def _plan(options: argparse.Namespace) -> Plan:
    times: dict[str, Any] = {
        "measured_s": options.seconds, "warm_up_s": options.warm_up, "timeout_s": options.timeout
    }  # fmt: skip
    try:
        if options.rate is None:
            return ClosedLoop(clients=options.clients, **times)
        return OpenLoop(
            rate=options.rate, arrivals=options.arrivals, connections=options.connections, seed=options.seed, **times
        )
    except ValueError as exc:
        raise BenchError(str(exc)) from exc


def _bodies(options: argparse.Namespace) -> list[bytes]:
    if options.body is not None and options.bodies is not None:
        raise BenchError("either --body or --bodies")
    if options.bodies is not None:
        return questions.read_bodies(options.bodies)
    return [] if options.body is None else [questions.read_body(options.body)]


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as exc:
        raise BenchError(f"{path} cannot be written: {exc.strerror or exc}") from exc


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m app bench", description=__doc__)
    parser.add_argument("target", help="a model, or http://host:port/predict/MODEL of a running service")
    parser.add_argument("--url", help="measure MODEL on this running service instead of one of its own")
    add_options(parser.add_argument_group("access, where the service asks for a key or speaks TLS"))
    closed = parser.add_argument_group("closed loop: each client waits for its answer before it asks again")
    closed.add_argument("--clients", type=int, default=32, help="requests in flight (default: %(default)s)")
    opened = parser.add_argument_group("open loop: requests come at their own times")
    opened.add_argument("--rate", type=float, help="requests a second; makes the loop an open one")
    opened.add_argument("--arrivals", choices=("poisson", "constant"), default="poisson", help="(default: %(default)s)")
    opened.add_argument("--connections", type=int, default=256, help="most connections (default: %(default)s)")
    opened.add_argument("--seed", type=int, default=0, help="of the arrival times (default: %(default)s)")
    time = parser.add_argument_group("time")
    time.add_argument("--seconds", type=float, default=10.0, help="measured (default: %(default)s)")
    time.add_argument("--warm-up", type=float, default=1.0, help="seconds before them (default: %(default)s)")
    time.add_argument("--timeout", type=float, default=30.0, help="seconds of a request (default: %(default)s)")
    time.add_argument("--within-ms", type=float, help="also count the answers that came within so long")
    body = parser.add_argument_group("requests: by default the example on the model's card")
    body.add_argument("--body", type=Path, metavar="FILE", help="the body, as it is sent; - reads it from stdin")
    body.add_argument("--bodies", type=Path, metavar="FILE", help="bodies in JSON, one a line, sent in turn")
    body.add_argument("--content-type", help="of the body (default: application/json)")
    body.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'", help="may be repeated")
    out = parser.add_argument_group("output, beside the table")
    out.add_argument("--json", type=Path, metavar="FILE", help="write everything, histograms included")
    out.add_argument("--plot", type=Path, metavar="FILE", help="write an SVG of time by percentile")
    return parser.parse_args(argv)
