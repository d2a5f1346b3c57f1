"""What it costs to know who asks, to count how often, and to write it down: keys, rate limits and the log of requests.

The same service twice on one core, asked in turn: as it is by default, and with a file of keys, a rate limit that
nobody reaches, and a line of JSON in the log for every request. Whoever asks the second brings a key.
"""

import dataclasses
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import pictures
from benchmarks.findings import Bar, Finding, Setting
from benchmarks.pictures import REPOSITORY
from benchmarks.scenarios import _alternate, _command, raw
from benchmarks.scenarios._bundles import MODELS_DIR
from benchmarks.servers import Server, service

MODEL = "cnn"
CLIENTS = 32
BAR_SLOWER = 0.06
OFF, ON = "off", "keys, rates and log on"
OFF_RAW, ON_RAW = "off, raw bytes", "on, raw bytes"
# so many that counting never ends in a refusal
RATE = "1000000/second;4000000/minute"


def measure(setting: Setting) -> Finding:
    """Ask all in turn; the bar is held on JSON, and raw bytes, which cost less by themselves, are shown beside it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "keys.json"
        key = make_key(file)
        turns = _alternate.run(contenders(file, key), setting, clients=CLIENTS)
    slower = _slower(turns, ON, OFF)
    failures = sum(sample.failures for turn in turns for sample in turn.values())
    throughput = _alternate.ratio(turns, ON, OFF, lambda sample: sample.requests_per_s)
    return Finding(
        title="Keys, rate limits and the log of requests",
        bars=(
            Bar(
                what="CPU time a request with keys, rate limits and a line in the log, above that without them",
                bar=f"at most {BAR_SLOWER:.0%}",
                measured=f"{slower:.1%}" + (f", and {failures} requests failed" if failures else ""),
                is_met=slower <= BAR_SLOWER and not failures,
            ),
        ),
        table_markdown=_command.table(
            _alternate.COLUMNS, [_alternate.row(turns, name) for name in (OFF, ON, OFF_RAW, ON_RAW)]
        ),
        notes=(
            f"{MODEL}, {CLIENTS} clients, one core; both services are up and asked in turn. On: `ZTO_API_KEYS_FILE` "
            f"with one key, which every request brings, `ZTO_RATE_LIMIT={RATE}`, `ZTO_ACCESS_LOG=1` and "
            "`ZTO_LOG_FORMAT=json`, written to a file. Medians over all turns, and of the ratio within each turn: "
            f"{slower:+.1%} processor time and {throughput - 1:+.1%} requests/s for JSON, "
            f"{_slower(turns, ON_RAW, OFF_RAW):+.1%} processor time for raw bytes, of which a request costs less."
        ),
        raw={"turns": _alternate.raw(turns), "slower": slower, "failures": failures},
    )


def contenders(file: Path, key: str) -> list[_alternate.Contender]:
    """Return both services, each asked by JSON and by raw bytes."""
    found = []
    for is_raw, names in ((False, (OFF, ON)), (True, (OFF_RAW, ON_RAW))):
        for name, is_on in zip(names, (False, True), strict=True):
            server = service(MODEL, MODELS_DIR, is_raw=is_raw)
            requests = _requests(server, is_raw=is_raw)
            if is_on:
                server = dataclasses.replace(server, environ={**server.environ, **environ(file)})
                requests = [with_key(request, key) for request in requests]
            found.append(_alternate.Contender(server=dataclasses.replace(server, name=name), requests=requests))
    return found


def _requests(server: Server, *, is_raw: bool) -> list[bytes]:
    bodies = pictures.bodies(64)
    if is_raw:
        return [raw.raw_request(server.path, raw.raw_body(body)) for body in bodies]
    return pictures.http_requests(server.path, bodies)


def environ(file: Path) -> dict[str, str]:
    """Return the settings that switch everything on."""
    return {
        "ZTO_API_KEYS_FILE": str(file),
        "ZTO_RATE_LIMIT": RATE,
        "ZTO_ACCESS_LOG": "1",
        "ZTO_LOG_FORMAT": "json",
    }


def make_key(file: Path) -> str:
    """Make a file with one key, as an operator does; return the key."""
    command = [sys.executable, "-m", "app", "keys", "new", "benchmarks", "--file", str(file)]
    done = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    return done.stdout.split()[-1]


def with_key(request: bytes, key: str) -> bytes:
    """Return a request that brings a key."""
    return request.replace(b"\r\n", b"\r\nAuthorization: Bearer " + key.encode() + b"\r\n", 1)


def _slower(turns: list[_alternate.Turn], name: str, other: str) -> float:
    return _alternate.ratio(turns, name, other, lambda sample: sample.server_us) - 1


if __name__ == "__main__":
    sys.exit(_command.run(measure))
