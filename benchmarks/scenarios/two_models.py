"""A model of 2 ms beside one of 200 ms in one process: what the slow one costs those who ask the fast one."""

import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import uvloop

from benchmarks import load, pictures
from benchmarks.findings import Bar, Finding, Setting
from benchmarks.scenarios import _bundles, _command
from benchmarks.scenarios._texts import Texts
from benchmarks.servers import Running, Server, pinned, service, start

FAST_S, SLOW_S = 0.002, 0.2
FAST_CLIENTS = SLOW_CLIENTS = 2
BAR_RISE_MS = 5.0
AIM_RISE_MS = 0.5  # "none", within what a p99 moves by itself
FAST, SLOW, COMPUTING = "fast", "slow", "computing"
# the transformer with batches of this many texts of the greatest length: tenths of a second of arithmetic
COMPUTING_MODEL = "transformer"
COMPUTING_ROWS = 32
_PARTS = 4  # of a round: alone, together, alone, together


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The fast model for a while, alone or beside a slow one.

    Attributes:
        p50_ms: Latency of the fast model that half of the answers did not exceed.
        p99_ms: Likewise, of 99 in 100.
        requests: Answers of the fast model.
        slow_requests: Answers of the slow model meanwhile.
        slow_p50_ms: Their median latency; NaN where there were none.
        failures: Of either model.
    """

    p50_ms: float
    p99_ms: float
    requests: int
    slow_requests: int
    slow_p50_ms: float
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The fast model before, and beside, a slow one; one for every time that both were measured."""

    alone: Sample
    together: Sample

    @property
    def rise_ms(self) -> float:
        """How much greater the p99 of the fast model was."""
        return self.together.p99_ms - self.alone.p99_ms


def measure(setting: Setting) -> Finding:
    """Measure the fast model alone, and beside a slow one that sleeps, and one that computes."""
    found: dict[str, list[Pair]] = {SLOW: [], COMPUTING: []}
    with tempfile.TemporaryDirectory() as folder:
        models_dir = Path(folder) / "models"
        write_models(models_dir)
        fast_requests = _requests(FAST, [_picture_body()])
        slow_requests = {
            SLOW: _requests(SLOW, [_picture_body()]),
            COMPUTING: _requests(COMPUTING, [_texts_body()]),
        }
        for number in range(1, setting.rounds + 1):
            with start(service_of(models_dir), setting.server_core) as running, pinned(setting.load_core):
                for name, pairs in found.items():
                    for _ in range(_PARTS // 2):
                        pair, _ = setting.patience.measure(
                            lambda name=name, running=running: _pair(  # type: ignore[misc]
                                running, fast_requests, slow_requests[name], setting
                            )
                        )
                        pairs.append(pair)
            setting.tell(
                f"round {number} of {setting.rounds}: "
                + ", ".join(f"beside {name} p99 rises by {pairs[-1].rise_ms:.2f} ms" for name, pairs in found.items())
            )
    return Finding(
        title="A fast and a slow model in one process",
        bars=tuple(_bar(name, pairs) for name, pairs in found.items()),
        table_markdown=_command.table(
            ("the slow model", "p50 ms alone", "beside it", "p99 ms alone", "beside it", "p99 rises by ms",
             "answers of the slow model", "its p50 ms", "failed"),
            list(_rows(found)),
        ),
        notes=(
            f"The fast model takes {FAST_S * 1e3:.0f} ms for a batch, and {FAST_CLIENTS} clients ask it, closed loop; "
            f"{SLOW_CLIENTS} more ask the slow one. {SLOW!r} sleeps for {SLOW_S * 1e3:.0f} ms; {COMPUTING!r} is the "
            f"{COMPUTING_MODEL} on {COMPUTING_ROWS} texts of the greatest length, and the two share one core: what "
            "the kernel gives to the one, the other waits for. Medians over all pairs of a while alone and a while "
            "beside it."
        ),
        raw={name: [asdict(pair) for pair in pairs] for name, pairs in found.items()},
    )  # fmt: skip


def write_models(models_dir: Path) -> None:
    """Write the three models."""
    _bundles.write_dummy(models_dir, FAST, sleep_s=FAST_S)
    _bundles.write_dummy(models_dir, SLOW, sleep_s=SLOW_S)
    _bundles.copy_unbounded(COMPUTING_MODEL, models_dir, max_rows=COMPUTING_ROWS, name=COMPUTING)


def service_of(models_dir: Path) -> Server:
    """Return the service with these models."""
    return service(FAST, models_dir)


def _pair(running: Running, fast: Sequence[bytes], slow: Sequence[bytes], setting: Setting) -> Pair:
    return Pair(alone=_sample(running, fast, None, setting), together=_sample(running, fast, slow, setting))


def _sample(running: Running, fast: Sequence[bytes], slow: Sequence[bytes] | None, setting: Setting) -> Sample:
    async def both() -> list[load.Result]:
        loads = [load.drive(running.port, fast, _shape(FAST_CLIENTS, setting))]
        if slow is not None:
            loads.append(load.drive(running.port, slow, _shape(SLOW_CLIENTS, setting)))
        return list(await asyncio.gather(*loads))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        quick, *others = runner.run(both())
    return Sample(
        p50_ms=quick.percentile_ms(50),
        p99_ms=quick.percentile_ms(99),
        requests=quick.requests,
        slow_requests=sum(other.requests for other in others),
        slow_p50_ms=others[0].percentile_ms(50) if others else float("nan"),
        # the last answers of a slow model come when the while is over
        failures=sum(result.failures.total() - result.failures["no answer"] for result in (quick, *others)),
    )


def _shape(clients: int, setting: Setting) -> load.Load:
    return load.Load(clients=clients, warm_up_s=max(SLOW_S, setting.warm_up_s), measured_s=setting.seconds)


def _requests(name: str, bodies: Sequence[bytes]) -> list[bytes]:
    return pictures.http_requests(f"/predict/{name}", bodies)


def _picture_body() -> bytes:
    return json.dumps({"instances": [{"image": [[1] * _bundles.WIDTH] * _bundles.HEIGHT}]}).encode()


def _texts_body() -> bytes:
    texts = Texts(_bundles.newest(COMPUTING_MODEL), seed=0)
    return json.dumps(
        {"instances": [{"text": texts.of_length(texts.max_tokens)} for _ in range(COMPUTING_ROWS)]}
    ).encode()


def _bar(name: str, pairs: Sequence[Pair]) -> Bar:
    rise_ms = median(pair.rise_ms for pair in pairs)
    kind = (
        "200 ms of sleep" if name == SLOW else f"{median(p.together.slow_p50_ms for p in pairs):,.0f} ms of arithmetic"
    )
    is_loaded = all(pair.together.slow_requests for pair in pairs)
    return Bar(
        what=f"a 2 ms model beside one under load in the same process ({kind})",
        bar=f"p99 rises by less than {BAR_RISE_MS:.0f} ms",
        aim="none",
        measured=f"by {rise_ms:.2f} ms" + ("" if is_loaded else "; the slow model answered nobody"),
        is_met=rise_ms < BAR_RISE_MS and is_loaded,
        is_aim_met=rise_ms < AIM_RISE_MS and is_loaded,
    )


def _rows(found: dict[str, list[Pair]]) -> Iterator[list[str]]:
    for name, pairs in found.items():
        alone, together = [pair.alone for pair in pairs], [pair.together for pair in pairs]
        yield [
            name,
            f"{median(s.p50_ms for s in alone):.2f}",
            f"{median(s.p50_ms for s in together):.2f}",
            f"{median(s.p99_ms for s in alone):.2f}",
            f"{median(s.p99_ms for s in together):.2f}",
            f"{median(pair.rise_ms for pair in pairs):.2f}",
            str(sum(s.slow_requests for s in together)),
            f"{median(s.slow_p50_ms for s in together):.0f}",
            str(sum(s.failures for s in (*alone, *together))),
        ]


if __name__ == "__main__":
    sys.exit(_command.run(measure))
