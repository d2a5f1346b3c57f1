"""Figures made up here, for tests of what is made of them."""

from collections.abc import Sequence

from benchmarks.comparison import Comparison
from benchmarks.floors import Step
from benchmarks.results import Record
from benchmarks.samples import Sample, Visit
from benchmarks.servers import FLOOR_NAME, SERVICE_NAME


def sample(requests_per_s: float, *, p50_ms: float = 1.0, p99_ms: float = 3.0, failures: int = 0) -> Sample:
    return Sample(
        requests=round(requests_per_s),
        requests_per_s=requests_per_s,
        p50_ms=p50_ms,
        p90_ms=2.0,
        p99_ms=p99_ms,
        server_us=25.0,
        generator_busy=0.25,
        failures=failures,
        faults=f"{failures} x 503" if failures else "",
    )


def visit(samples: dict[int, Sample], *, other_cores: float = 0.0) -> Visit:
    return Visit(
        ready_s=1.0, resident_ready_mb=90.0, resident_loaded_mb=100.0, samples=samples, other_cores=other_cores
    )


def visits(*rates: float, clients: Sequence[int] = (1, 32, 128)) -> list[Visit]:
    """Return a visit for each rate, the same with all clients."""
    return [visit({count: sample(rate, p50_ms=1e3 / rate) for count in clients}) for rate in rates]


def comparison(
    ours: Sequence[float] = (8000,),
    *,
    model: str = "cnn",
    mosec: Sequence[float] = (5000,),
    triton: Sequence[float] = (4000,),
    absent: dict[str, str] | None = None,
) -> Comparison:
    return Comparison(
        model=model,
        title=f"{model}: something in, something out",
        clients=(1, 32, 128),
        visits={
            SERVICE_NAME: visits(*ours),
            "mosec, unbatched": visits(1000),
            "mosec, batches": visits(*mosec),
            "Triton, unbatched": visits(*triton),
            FLOOR_NAME: visits(20_000),
        },
        variants={"mosec": ("mosec, unbatched", "mosec, batches"), "Triton": ("Triton, unbatched",)},
        absent=absent or {},
        floors=(
            Step(name="JSON to float32, unchecked", us=15.0, counts=True),
            Step(name="the model, one row", us=77.0, counts=False),
            Step(name="each of 32 rows", us=60.0, counts=True),
        ),
    )


def record(found: Comparison, *, date: str = "2026-11-30", processor: str = "a slide rule") -> Record:
    return Record(
        part=found.model,
        date=date,
        machine={"processor": processor},
        rounds=3,
        seconds=2.0,
        warm_up_s=0.5,
        is_one_core=False,
        comparison=found,
    )
