"""What a refusal costs beside an answer, and how much goodput that leaves at twice the capacity.

A picture of the CNN's size is sent to a model that is always busy and whose queue is full: all but a few requests are
refused at the door, and what the service computes is the price of that.
"""

import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from app.bench.load import ClosedLoop, Target
from app.bench.load import run as run_load
from benchmarks import pictures
from benchmarks.findings import Finding, Setting
from benchmarks.scenarios import _bundles, _command, _processes
from benchmarks.scenarios._drill import DEADLINE_MS, goodput_limit
from benchmarks.scenarios.overload import with_headers
from benchmarks.servers import Running, Server, pinned, service, start

MODEL = "cnn"
CLIENTS = 32
BUSY = "busy"
_SIDE = 28
_SLEEP_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Of one round.

    Attributes:
        refusal_us: Microseconds that the service computes for a refusal.
        answer_us: Likewise for an answer.
        refused: Share of the requests to the busy model that were refused.
    """

    refusal_us: float
    answer_us: float
    refused: float

    @property
    def limit(self) -> float:
        """The goodput that twice the capacity leaves, as a share of the capacity."""
        return goodput_limit(self.refusal_us / self.answer_us)


def measure(setting: Setting) -> Finding:
    """Measure refusals and answers in turn."""
    found: list[Prices] = []
    with tempfile.TemporaryDirectory() as folder:
        models_dir = Path(folder) / "models"
        _bundles.write_dummy(models_dir, BUSY, sleep_s=_SLEEP_S, max_rows=1, height=_SIDE, width=_SIDE)
        for number in range(1, setting.rounds + 1):
            with (
                start(refusing(models_dir), setting.server_core) as busy,
                start(service(MODEL, _bundles.MODELS_DIR), setting.server_core) as free,
                pinned(setting.load_core),
            ):
                prices, _ = setting.patience.measure(lambda busy=busy, free=free: _prices(busy, free, setting))  # type: ignore[misc]
                found.append(prices)
            setting.tell(f"round {number} of {setting.rounds}: {prices.refusal_us:.1f} of {prices.answer_us:.1f} us")
    refusal_us = median(prices.refusal_us for prices in found)
    answer_us = median(prices.answer_us for prices in found)
    return Finding(
        title="The price of a refusal",
        bars=(),
        table_markdown=_command.table(
            ("CPU us a refusal", "CPU us an answer", "share", "goodput left at twice the capacity", "refused"),
            [
                [
                    f"{refusal_us:.1f}",
                    f"{answer_us:.1f}",
                    f"{refusal_us / answer_us:.1%}",
                    f"{goodput_limit(refusal_us / answer_us):.1%}",
                    f"{median(prices.refused for prices in found):.1%}",
                ]
            ],
        ),
        notes=(
            f"{CLIENTS} clients, closed loop, the same pictures as JSON: to a model that is always busy and whose "
            f"queue is full, and to the {MODEL}. Refusals are paid from the same core: with r the share of an answer's "
            "price, offers of twice the capacity leave (1 - 2r) / (1 - r) of it."
        ),
        raw={"refusal_us": [p.refusal_us for p in found], "answer_us": [p.answer_us for p in found]},
    )


def refusing(models_dir: Path) -> Server:
    """Return the service with a model that is always busy, and room for one request to wait."""
    server = service(BUSY, models_dir)
    return replace(server, environ={**server.environ, "ZTO_MAX_INSTANCES": "1", "ZTO_MAX_QUEUE_ROWS": "1"})


def _prices(busy: Running, free: Running, setting: Setting) -> Prices:
    bodies = pictures.bodies(64)
    headers = {"X-Request-Timeout-Ms": str(DEADLINE_MS)}
    # the busy model has to be busy all the time: a deadline would empty its queue
    refused = _load(busy, pictures.http_requests(f"/predict/{BUSY}", bodies), setting)
    answered = _load(free, with_headers(pictures.http_requests(f"/predict/{MODEL}", bodies), headers), setting)
    return Prices(refusal_us=refused[0], answer_us=answered[0], refused=1 - refused[1])


def _load(running: Running, requests: list[bytes], setting: Setting) -> tuple[float, float]:
    """Return the microseconds of a request, and the share of those answered with 200."""
    plan = ClosedLoop(clients=CLIENTS, measured_s=setting.seconds, warm_up_s=max(_SLEEP_S, setting.warm_up_s))
    result = run_load(Target(port=running.port), requests, plan, lambda: _processes.computed_s(running.pid))
    return result.metered / max(1, result.requests) * 1e6, result.answered / max(1, result.requests)


if __name__ == "__main__":
    sys.exit(_command.run(measure))
