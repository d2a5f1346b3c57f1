"""Bars and tables, of figures made up here."""

import pytest

from benchmarks import page, report, servers
from benchmarks.rounds import Plan, Sample, Visit


def visit(
    requests_per_s: float,
    *,
    ready_s: float = 1.0,
    resident_mb: float = 100.0,
    failures: int = 0,
    other_cores: float = 0.0,
) -> Visit:
    sample = Sample(
        requests_per_s=requests_per_s,
        p50_ms=1.0,
        p90_ms=2.0,
        p99_ms=3.0,
        server_us=25.0,
        generator_busy=0.25,
        failures=failures,
    )
    samples = dict.fromkeys((1, 32), sample)
    return Visit(
        ready_s=ready_s,
        resident_ready_mb=90.0,
        resident_loaded_mb=resident_mb,
        samples=samples,
        other_cores=other_cores,
    )


def run_of(*ours: Visit, model: str = "cnn") -> report.Run:
    plan = Plan(rounds=len(ours), clients=(1, 32), seconds=1, warm_up_s=1, server_core=0, load_core=1)
    return report.Run(
        model=model,
        models=("cnn", "mlp"),
        plan=plan,
        visits={
            servers.SERVICE_NAME: ours,
            servers.FASTAPI_NAMES[0]: [visit(1000)],
            servers.FASTAPI_NAMES[1]: [visit(800)],
            servers.FLOOR_NAME: [visit(20_000)],
        },
        floors_us={"JSON to float32, unchecked": 15.0, "the model, one row": 77.0, "each of 32 rows": 60.0},
        machine={"processor": "a slide rule"},
    )


def test_rate_is_the_median_of_the_rounds_and_held_against_the_faster_fastapi() -> None:
    (rate, *_) = report.bars(run_of(visit(1000), visit(2000), visit(9000)))
    assert "2.00 times" in rate.measured
    assert rate.is_met


def test_rate_below_the_bar_is_told() -> None:
    (rate, *_) = report.bars(run_of(visit(1500)))
    assert not rate.is_met


def test_memory_counts_by_its_worst_round_and_start_by_the_median() -> None:
    _, memory, ready = report.bars(
        run_of(visit(1, ready_s=1), visit(1, ready_s=1.5, resident_mb=130.5), visit(1, ready_s=9))
    )
    assert (memory.measured, memory.is_met) == ("130.5 MB", False)
    assert (ready.measured, ready.is_met) == ("1.50 s", True)


def test_the_rate_of_another_model_has_no_bar() -> None:
    assert len(report.bars(run_of(visit(1), model="mlp"))) == 2


def test_the_sum_of_floors_counts_each_piece_of_work_once() -> None:
    assert report.one_core_us(run_of(visit(1))) == 25 + 15 + 60


def test_failures_stand_in_the_table() -> None:
    (line,) = [
        line
        for line in report.tables(run_of(visit(1000, failures=2), visit(1000))).splitlines()
        if line.startswith(f"| {servers.SERVICE_NAME} | 1,000") and line.endswith("| 2 |")
    ][:1]
    assert "| 0.05 |" in line


@pytest.mark.parametrize(("other_cores", "words"), [(0.05, "was calm"), (0.5, "was not calm")])
def test_the_page_says_whether_the_machine_was_calm(other_cores: float, words: str) -> None:
    assert words in page.render(run_of(visit(1000), visit(1000, other_cores=other_cores)))


def test_the_page_fits_its_lines_but_for_tables_and_lists_its_items() -> None:
    lines = page.render(run_of(visit(1000))).splitlines()
    assert all(len(line) <= 120 for line in lines if not line.startswith("|"))
    assert "- processor: a slide rule" in lines
