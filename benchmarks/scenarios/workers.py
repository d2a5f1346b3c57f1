"""One worker and two: what a request costs in processor time, and what a worker costs in memory.

Two workers on two cores cannot be loaded fairly from the same two cores, so both services are on one core, and what is
compared is how much all their processes compute for a request.
"""

import dataclasses
import sys
from collections.abc import Sequence

from benchmarks import pictures
from benchmarks.findings import Bar, Finding, Setting
from benchmarks.scenarios import _alternate, _command, _processes
from benchmarks.scenarios._bundles import MODELS_DIR
from benchmarks.servers import Running, Server, service

MODEL = "cnn"
# for each worker as many as for the only one: batches come out alike, and what is left is what the second one costs
CLIENTS_EACH = 8
BAR_RATIO = 1.1
ONE, TWO = "one worker", "two workers"


def measure(setting: Setting) -> Finding:
    """Ask a service of one worker and one of two in turn."""
    memory: dict[str, list[_processes.Memory]] = {ONE: [], TWO: []}

    def weigh(server: Server, running: Running) -> None:
        memory[server.name].append(_processes.memory(running.pid))

    contenders = [contender(name, workers) for name, workers in ((ONE, 1), (TWO, 2))]
    turns = _alternate.run(contenders, setting, clients=2 * CLIENTS_EACH, at_the_end=weigh)
    ratio = _alternate.ratio(turns, TWO, ONE, lambda sample: sample.server_us)
    failures = sum(sample.failures for turn in turns for sample in turn.values())
    return Finding(
        title="One worker and two",
        bars=(
            Bar(
                what="CPU time a request with two workers, by that with one",
                bar=f"{BAR_RATIO:.1f}",
                measured=f"{ratio:.2f}",
                is_met=ratio <= BAR_RATIO,
            ),
        ),
        table_markdown=_command.table(
            (*_alternate.COLUMNS, "MB resident", "MB by shares"),
            [[*_alternate.row(turns, name), *_megabytes(found)] for name, found in memory.items()],
        ),
        notes=(
            f"{MODEL} over JSON, {2 * CLIENTS_EACH} clients, both services on the same core, asked in turn; processor "
            "time and memory of all their processes together, the parent of the two included. Medians over all turns, "
            "and of the ratio within each turn. Requests/s say nothing of two cores. Memory is in 10^6 bytes after the "
            "load, with all the models of the repository; by shares (the kernel's proportional set size) divides "
            "what processes share, libraries above all, among them."
            + (f" {failures} requests failed." if failures else "")
        ),
        raw={
            "turns": _alternate.raw(turns),
            "memory": {name: [dataclasses.asdict(one) for one in found] for name, found in memory.items()},
        },
    )


def contender(name: str, workers: int) -> _alternate.Contender:
    """Return the service with so many workers, and what it is asked."""
    server = service(MODEL, MODELS_DIR)
    environ = {**server.environ, "ZTO_WORKERS": str(workers)}
    return _alternate.Contender(
        server=dataclasses.replace(server, name=name, environ=environ),
        requests=pictures.http_requests(server.path, pictures.bodies(64)),
    )


def _megabytes(found: Sequence[_processes.Memory]) -> tuple[str, str]:
    middle = sorted(found, key=lambda memory: memory.proportional)[len(found) // 2]
    return f"{middle.resident / 1e6:.0f}", f"{middle.proportional / 1e6:.0f}"


if __name__ == "__main__":
    sys.exit(_command.run(measure))
