"""One worker and two: what a request costs in processor time, and what a worker costs in memory.

Two workers on two cores cannot be loaded fairly from the same two cores, so both services are on one core, and what is
compared is how much all their processes compute for a request.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Mapping, Sequence

from benchmarks import pictures
from benchmarks.findings import Bar, Finding, Setting
from benchmarks.scenarios import _alternate, _command, _processes
from benchmarks.scenarios._bundles import MODELS_DIR
from benchmarks.servers import Server, pinned, service, start

MODEL = "cnn"
# of each worker: two on two cores are there to take twice the load, and a batch of twice the rows costs less per row
CLIENTS_EACH = 16
BAR_RATIO = 1.1
ONE, TWO, TWO_SHARING = "one worker", "two workers", "two workers, the clients of one"
WORKERS = {ONE: 1, TWO: 2, TWO_SHARING: 2}
CLIENTS = {ONE: CLIENTS_EACH, TWO: 2 * CLIENTS_EACH, TWO_SHARING: CLIENTS_EACH}


def measure(setting: Setting) -> Finding:
    """Ask a service of one worker and one of two in turn."""
    memory: dict[int, list[_processes.Memory]] = {1: [], 2: []}
    turns: list[_alternate.Turn] = []
    for number in range(1, setting.rounds + 1):
        turns += _round(setting, memory)
        setting.tell(f"round {number} of {setting.rounds}: {_ratio(turns, TWO):.2f}")
    ratio = _ratio(turns, TWO)
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
            (*_alternate.COLUMNS, "clients", "MB resident", "MB by shares"),
            [
                [*_alternate.row(turns, name), str(CLIENTS[name]), *_megabytes(memory[workers])]
                for name, workers in WORKERS.items()
            ],
        ),
        notes=(
            f"{MODEL} over JSON, both services on the same core, asked in turn; processor time and memory of all their "
            "processes together, the parent of the two included. Medians over all turns, and of the ratio within each "
            f"turn. The bar is held with as many clients for each worker. With the clients of one shared by two, "
            f"batches have half the rows, and a request costs {_ratio(turns, TWO_SHARING):.2f} times as much. "
            "Requests/s say nothing of two cores. Memory is in 10^6 bytes after the load, with all the models of the "
            "repository; by shares (the kernel's proportional set size) divides what processes share, libraries above "
            "all, among them." + (f" {failures} requests failed." if failures else "")
        ),
        raw={
            "turns": _alternate.raw(turns),
            "memory": {workers: [dataclasses.asdict(one) for one in found] for workers, found in memory.items()},
        },
    )


def _round(setting: Setting, memory: Mapping[int, list[_processes.Memory]]) -> list[_alternate.Turn]:
    """Start both services, ask them in turn, and note what they hold in the end."""
    requests = pictures.http_requests(f"/predict/{MODEL}", pictures.bodies(64))
    turns: list[_alternate.Turn] = []
    with contextlib.ExitStack() as stack:
        running = {workers: stack.enter_context(start(server(workers), setting.server_core)) for workers in memory}
        stack.enter_context(pinned(setting.load_core))
        for number in range(1 if setting.is_quick else _alternate.TURNS):
            names = [*WORKERS][number % len(WORKERS) :] + [*WORKERS][: number % len(WORKERS)]  # none always the first

            def turn(names: Sequence[str] = names) -> _alternate.Turn:
                return {
                    name: _alternate.ask(running[WORKERS[name]], requests, setting, CLIENTS[name]) for name in names
                }

            turns.append(setting.patience.measure(turn)[0])
        for workers, found in memory.items():
            found.append(_processes.memory(running[workers].pid))
    return turns


def _ratio(turns: Sequence[_alternate.Turn], name: str) -> float:
    return _alternate.ratio(turns, name, ONE, lambda sample: sample.server_us)


def server(workers: int) -> Server:
    """Return the service with so many workers."""
    one = service(MODEL, MODELS_DIR)
    return dataclasses.replace(one, environ={**one.environ, "ZTO_WORKERS": str(workers)})


def _megabytes(found: Sequence[_processes.Memory]) -> tuple[str, str]:
    middle = sorted(found, key=lambda memory: memory.proportional)[len(found) // 2]
    return f"{middle.resident / 1e6:.0f}", f"{middle.proportional / 1e6:.0f}"


if __name__ == "__main__":
    sys.exit(_command.run(measure))
