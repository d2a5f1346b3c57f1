"""``docs/benchmarks.md``: the tables, and what one has to know to read them."""

import re
import textwrap

from benchmarks import report, servers
from benchmarks.calm import CALM_CORES
from benchmarks.report import Run


def render(run: Run) -> str:
    """Return the whole page."""
    plan = run.plan
    clients = ", ".join(map(str, plan.clients))
    settings = "\n".join(f"- {label}: {value}" for label, value in run.machine.items())
    cores = (
        "The server has one core to itself, the load generator another."
        if plan.server_core != plan.load_core
        else "The server and the load generator share the only core, so all servers look slower than they are."
    )
    return _wrapped(f"""# Benchmarks

Written by `make bench`; do not edit. What is measured is one picture of 28 x 28 numbers in one JSON body, answered with
the label and all probabilities of the model `{run.model}`, over HTTP/1.1 connections that are kept open, on the
loopback.

{report.tables(run)}

## How to read it

{_noise(run)} "CPU us" is what the server's process computed for a request, by the kernel's account: other
work on the machine raises it too, but by far less than it lowers requests/s. Its inverse is what that
server could give at the most.

- **{servers.SERVICE_NAME}**: `python -m app serve` with its defaults: every check, limit, deadline, count and receipt
  is on. Loaded and proven: {", ".join(run.models)}.
- **{" / ".join(servers.FASTAPI_NAMES)}**: FastAPI as its guide writes it
  (`benchmarks/peers/plain_fastapi.py`): a typed body of `list[list[float]]`, one call of the same ONNX file for each
  request, a typed answer. "of FastAPI" is the ratio to the faster of its two kinds in that table.
- **{servers.FLOOR_NAME}**: the floor (`benchmarks/peers/floor_read.py`): reads the body, looks at nothing,
  answers a few fixed bytes.

All run on uvicorn with uvloop and httptools in one process, and ONNX Runtime with one thread. Before the first round
each of them but the floor was asked for the same pictures and had to give the same labels and probabilities. Memory is
VmRSS, in 10^6 bytes.

## How it was measured

{cores} In each of {plan.rounds} rounds every server is started anew, one after the other, and put under a closed loop
of {clients} clients in turn: each client sends its next request when it has its last answer, for {plan.warm_up_s:g} s
uncounted and then {plan.seconds:g} s counted. Tables hold the median of the rounds. The load generator
(`benchmarks/load.py`) computed for {_generator_share(run):.0%} of the time at the most.

{settings}

To measure on another machine: `make bench`, or `python -m benchmarks --help` for fewer rounds and other models.
""")


def _wrapped(text: str) -> str:
    """Break the lines of paragraphs and lists anew; tables and headings stay as they are."""
    blocks = [
        block if block.startswith(("|", "#")) else "\n".join(map(_filled, re.split(r"\n(?=- )", block)))
        for block in text.strip().split("\n\n")
    ]
    return "\n\n".join(blocks) + "\n"


def _filled(paragraph: str) -> str:
    indent = "  " if paragraph.startswith("- ") else ""
    return textwrap.fill(
        " ".join(paragraph.split()),
        width=120,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _noise(run: Run) -> str:
    if run.other_cores <= CALM_CORES:
        return (
            f"The machine was calm: other work never took more than {run.other_cores:.2f} of a core; a server that was "
            "disturbed was started and measured again."
        )
    return (
        f"**The machine was not calm**: other work took up to {run.other_cores:.2f} cores. Read the ratios, which meet "
        "all servers alike, and the CPU time; requests/s and latencies would be better without it."
    )


def _generator_share(run: Run) -> float:
    return max(
        sample.generator_busy for visits in run.visits.values() for visit in visits for sample in visit.samples.values()
    )
