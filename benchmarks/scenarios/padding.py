"""Texts of 5 to 300 tokens to the transformer: length buckets beside batches padded to whatever came together."""

import json
import re
import sys
from collections import defaultdict
from dataclasses import replace
from statistics import median

from benchmarks import pictures
from benchmarks.findings import Bar, Finding, Setting
from benchmarks.scenarios import _alternate, _command
from benchmarks.scenarios._bundles import MODELS_DIR, newest
from benchmarks.scenarios._texts import Texts
from benchmarks.servers import SERVICE_NAME, Running, Server, service

MODEL = "transformer"
CLIENTS = 32
LEAST_TOKENS, MOST_TOKENS = 5, 300
TEXTS = 1024
SEED = 20
BAR_TIMES, AIM_TIMES = 1.5, 2.0
BUCKETS = "ZTO_LENGTH_BUCKETS"
NAIVE_NAME = f"{SERVICE_NAME}, naive padding"
BUCKETS_NAME = f"{SERVICE_NAME}, length buckets"
_ELEMENTS, _PADDING, _ROWS, _BATCHES = (
    "zto_batch_elements_total", "zto_padding_elements_total", "zto_batch_rows_sum", "zto_batch_rows_count",
)  # fmt: skip


def measure(setting: Setting) -> Finding:
    """Measure the service with length buckets and without, in turn."""
    requests = text_requests(256 if setting.is_quick else TEXTS)
    servers = [bucketed(BUCKETS_NAME, "1"), bucketed(NAIVE_NAME, "0")]
    contenders = [_alternate.Contender(server=server, requests=requests) for server in servers]
    counted: dict[str, list[dict[str, float]]] = defaultdict(list)

    def count(server: Server, running: Running) -> None:
        counted[server.name].append(figures(running))

    turns = _alternate.run(contenders, setting, clients=CLIENTS, at_the_end=count)
    times = _alternate.ratio(turns, BUCKETS_NAME, NAIVE_NAME, lambda sample: sample.requests_per_s)
    by_cpu = _alternate.ratio(turns, NAIVE_NAME, BUCKETS_NAME, lambda sample: sample.server_us)
    return Finding(
        title="Texts of mixed lengths",
        bars=(
            Bar(
                what=f"{MODEL}, mixed lengths {LEAST_TOKENS}-{MOST_TOKENS} tokens, {CLIENTS} clients",
                bar=f"{BAR_TIMES:.1f} times the same service with naive padding",
                aim=f"{AIM_TIMES:.0f} times",
                measured=f"{times:.2f} times ({by_cpu:.2f} times by CPU time a request)",
                is_met=times >= BAR_TIMES,
                is_aim_met=times >= AIM_TIMES,
            ),
        ),
        table_markdown=_command.table(
            (*_alternate.COLUMNS, "padding of all elements", "rows of a batch"),
            [[*_alternate.row(turns, name), *_waste(counted[name])] for name in (BUCKETS_NAME, NAIVE_NAME)],
        ),
        notes=(
            f"{CLIENTS} clients, closed loop, one text to a request; the numbers of tokens are spread evenly over the "
            f"logarithm from {LEAST_TOKENS} to {MOST_TOKENS}, the words drawn from the tokenizer's vocabulary. Naive "
            "padding takes whatever waits, up to the most rows of a batch, and pads it to the longest."
        ),
        raw={"turns": _alternate.raw(turns), "counted": dict(counted)},
    )


def text_requests(count: int) -> list[bytes]:
    """Return so many requests, one text of another length each; the same ones every time."""
    texts = Texts(newest(MODEL), seed=SEED).log_uniform(count, least=LEAST_TOKENS, most=MOST_TOKENS)
    bodies = [json.dumps({"instances": [{"text": text}]}, separators=(",", ":")).encode() for text in texts]
    return pictures.http_requests(f"/predict/{MODEL}", bodies)


def bucketed(name: str, buckets: str) -> Server:
    """Return the service with length buckets (``1``) or without (``0``)."""
    server = service(MODEL, MODELS_DIR)
    return replace(server, name=name, environ={**server.environ, BUCKETS: buckets})


def figures(running: Running) -> dict[str, float]:
    """Return what the service has counted of the model's batches."""
    _, text = running.ask("GET", "/metrics")
    return {name: total(text.decode(), name, MODEL) for name in (_ELEMENTS, _PADDING, _ROWS, _BATCHES)}


def total(metrics: str, name: str, model: str) -> float:
    """Return the sum of a figure of one model over whatever other labels it has."""
    lines = re.findall(rf'^{name}{{[^}}]*model="{model}"[^}}]*}} (\S+)$', metrics, re.MULTILINE)
    return sum(float(value) for value in lines)


def _waste(counted: list[dict[str, float]]) -> list[str]:
    padding = median(one[_PADDING] / one[_ELEMENTS] if one[_ELEMENTS] else 0.0 for one in counted)
    rows = median(one[_ROWS] / one[_BATCHES] if one[_BATCHES] else 0.0 for one in counted)
    return [f"{padding:.0%}", f"{rows:.1f}"]


if __name__ == "__main__":
    sys.exit(_command.run(measure))
