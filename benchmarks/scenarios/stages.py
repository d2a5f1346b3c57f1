"""Where the microseconds of a prediction go: CPU time by stage, of the CNN over JSON with 32 clients.

Two methods that know nothing of each other. The ladder: servers that each do one thing more than the one before, and
their differences. And samples of the stack of the running service, where ``py-spy`` is at hand.
"""

import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks import pictures
from benchmarks.findings import Finding, Setting
from benchmarks.scenarios import _alternate, _command, _ladder
from benchmarks.scenarios._bundles import MODELS_DIR, newest
from benchmarks.scenarios._stacks import attribute
from benchmarks.scenarios._stripped_app import BUNDLE
from benchmarks.servers import Server, pinned, service, start

MODEL = "cnn"
CLIENTS = 32
_SAMPLES_PER_S = 200
_SAMPLED_S = 20.0

STEPS = {
    _ladder.WIRE: "event loop and sockets: read the bytes, write an answer",
    _ladder.PARSE: "parse HTTP",
    _ladder.QUEUE: "queue, batch assembly, checks, split, wake",
    _ladder.DECODE: "JSON to a checked float32 array",
    _ladder.MODEL: "the model, in the batches that gather",
    _ladder.ENCODE: "the answer to JSON",
}
THE_REST = "all that makes it a service: admission, limits, ids, deadlines, metrics, receipts"


def measure(setting: Setting) -> Finding:
    """Measure the ladder and the service in turn, and sample the service's stack."""
    bodies = pictures.bodies(64)
    ours = service(MODEL, MODELS_DIR)
    rungs = [_rung(step) for step in _ladder.STEPS]
    contenders = [
        _alternate.Contender(server=server, requests=pictures.http_requests(server.path, bodies))
        for server in (*rungs, ours)
    ]
    turns = _alternate.run(contenders, setting, clients=CLIENTS)
    spent = [_alternate.middle(turns, server.name, lambda sample: sample.server_us) for server in (*rungs, ours)]
    labels = [*STEPS.values(), THE_REST]
    steps = [after - before for before, after in zip([0.0, *spent[:-1]], spent, strict=True)]
    tables = [
        _command.table(
            ("stage", "CPU us a request", "share", "sum"),
            [
                [label, f"{step:.1f}", f"{step / spent[-1]:.0%}", f"{total:.1f}"]
                for label, step, total in zip(labels, steps, spent, strict=True)
            ],
        )
    ]
    stacks = sample_stacks(ours, setting)
    shares = attribute(stacks)
    if shares:
        tables.append(
            _command.table(
                ("where the service was seen", "share", "CPU us a request"),
                [[where, f"{share:.1%}", f"{share * spent[-1]:.1f}"] for where, share in shares],
            )
        )
    return Finding(
        title="Where the microseconds go",
        bars=(),
        table_markdown="\n\n".join(tables),
        notes=(
            f"{MODEL} over JSON, {CLIENTS} clients, one core. The first table is a ladder of servers, each of which "
            "does one thing more than the one before; a stage is the difference of two, and the last line is the "
            "service itself less the ladder. Servers without a model sleep for as long as one would run, so that as "
            "many requests gather. All are up together and asked in turn; medians. "
            + (
                f"The second table counts {stacks.total():,} samples of the service's stack under the same load, by "
                "the innermost frame that belongs to a stage; time in native code counts for who called it, and what "
                "no Python frame called is the event loop with its system calls."
                if shares
                else "Without py-spy on the path, no samples of the stack were taken."
            )
        ),
        # not the stacks: they name the paths of a machine
        raw={"turns": _alternate.raw(turns), "shares": dict(shares), "samples": stacks.total()},
    )


def _rung(step: str) -> Server:
    return Server(
        name=step,
        arguments=("-m", "benchmarks.scenarios._ladder", step),
        environ={BUNDLE: str(newest(MODEL))},
        path="/predict",
    )


def sample_stacks(server: Server, setting: Setting) -> "Counter[str]":
    """Return how often each stack of the service was seen under load, outermost frame first, frames parted by ``;``.

    Empty where there is no py-spy, or it may not look.
    """
    py_spy = shutil.which("py-spy")
    if py_spy is None:
        return Counter()
    seconds = 2.0 if setting.is_quick else _SAMPLED_S
    requests = pictures.http_requests(server.path, pictures.bodies(64))
    with start(server, setting.server_core) as running, pinned(setting.load_core), tempfile.TemporaryDirectory() as to:
        out = Path(to) / "stacks"
        command = [py_spy, "record", "--pid", str(running.pid), "--duration", f"{seconds:.0f}", "--nolineno"]
        command += ["--rate", str(_SAMPLES_PER_S), "--format", "raw", "--output", str(out), "--full-filenames"]
        sampler = threading.Thread(
            target=lambda: subprocess.run(command, check=False, capture_output=True, timeout=seconds + 30)
        )
        sampler.start()
        while sampler.is_alive():
            _alternate.ask(running, requests, setting, CLIENTS)
        sampler.join()
        return _read_stacks(out.read_text().splitlines() if out.exists() else ())


def _read_stacks(lines: Sequence[str]) -> "Counter[str]":
    stacks: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        stacks[stack] += int(count)
    return stacks


if __name__ == "__main__":
    sys.exit(_command.run(measure))
