"""Bars, tables and the page, of figures made up here."""

import dataclasses

import pytest

from benchmarks import bars, page, recipes, report
from benchmarks.findings import Bar, Finding
from benchmarks.servers import RAW_NAME, SERVICE_NAME
from tests.unit.benchmarks.made_up import comparison, record, sample, visit, visits


def test_rate_is_the_median_of_the_rounds_and_held_against_the_better_peer() -> None:
    rate = bars.bars(comparison((1000, 8000, 90_000), mosec=(4000,), triton=(5000,)))[0]
    assert "Triton gives 5,000: 1.60 times" in rate.measured
    assert (rate.is_met, rate.is_aim_met) == (True, False)


def test_rate_below_the_bar_is_told() -> None:
    rate = bars.bars(comparison((6900,)))[0]
    assert not rate.is_met
    assert "**no**" in report.bars_table([rate])


def test_the_sum_of_floors_counts_each_piece_of_work_once() -> None:
    assert comparison().floor_us() == 25 + 15 + 60


def test_the_limit_is_the_inverse_of_the_sum() -> None:
    limit = bars.bars(comparison((6600,)))[1]
    assert "6,600 of 10,000 requests/s: 0.66" in limit.measured
    assert (limit.is_met, limit.is_aim_met) == (True, False)


def test_p50_is_held_against_the_swiftest_peer() -> None:
    swift = bars.bars(comparison((10_000,), mosec=(8000,), triton=(5000,)))[4]
    assert "0.10 ms where mosec takes 0.12: 0.80 of it" in swift.measured
    assert swift.is_met


def test_a_raw_door_that_was_not_measured_is_no_bar_met() -> None:
    *_, raw = bars.bars(comparison())
    assert (raw.measured, raw.is_met) == ("not measured", False)


def test_raw_bytes_have_a_rate_of_their_own() -> None:
    found = comparison()
    found.visits[RAW_NAME] = visits(12_500, clients=(32,))
    *_, raw = bars.bars(found)
    assert (raw.is_met, raw.is_aim_met) == (True, True)


def test_the_transformer_has_to_be_above_every_peer_also_tuned_ones() -> None:
    found = comparison((5000,), model="transformer", mosec=(4000,), triton=(4500,))
    (above,) = bars.bars(found)
    assert above.is_met
    tuned = recipes.TUNED_PEERS[0]
    beaten = dataclasses.replace(
        found,
        variants=found.variants | {tuned: (f"{tuned}, unbatched",)},
        visits=found.visits | {f"{tuned}, unbatched": visits(5001)},
    )
    (above,) = bars.bars(beaten)
    assert not above.is_met


def test_the_better_variant_of_a_peer_stands_in_the_table_load_by_load() -> None:
    found = comparison()
    found.visits["mosec, unbatched"] = [visit({1: sample(900, p50_ms=0.1), 32: sample(1000), 128: sample(1000)})]
    lines = {clients: report.load_table(found, clients) for clients in (1, 32)}
    assert "| mosec | unbatched | 900" in lines[1]
    assert "| mosec | batches | 5,000" in lines[32]


def test_a_variant_that_fails_is_not_the_better_one() -> None:
    found = comparison()
    found.visits["mosec, batches"] = [visit({32: sample(5000, failures=500)})]
    assert found.best("mosec", 32) == "mosec, unbatched"


def test_failures_stand_in_the_table_with_what_they_were() -> None:
    found = comparison()
    found.visits["Triton, unbatched"] = [visit({32: sample(4000, failures=2)}), visit({32: sample(4000)})]
    assert "| 2 (2 x 503) |" in report.load_table(found, 32)


def test_a_peer_that_could_not_be_measured_is_in_the_table_and_named_with_the_reason() -> None:
    found = comparison(absent={"Triton": "could not be installed: no wheel"})
    del found.visits["Triton, unbatched"]
    assert "| Triton | - | not measured |" in report.load_table(found, 32)
    assert "- Triton: could not be installed: no wheel" in report.section(found)


def test_where_a_peer_wins_the_page_says_so() -> None:
    won = report.wins(comparison((4000,), mosec=(5000,)))
    assert "**mosec wins** with 1 client 5,000 requests/s (this service 4,000)" in won
    assert "No peer wins" in report.wins(comparison((9000,)).__class__(**_beyond(comparison((9000,)))))


def _beyond(found: object) -> dict[str, object]:
    """Return the fields of a comparison in which this service is also the one with the least p99."""
    fields = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}  # type: ignore[arg-type]
    fast = [visit({count: sample(9000, p50_ms=0.1, p99_ms=0.2) for count in (1, 32, 128)})]
    return fields | {"visits": fields["visits"] | {SERVICE_NAME: fast}}


@pytest.mark.parametrize(("other_cores", "words"), [(0.05, "was calm"), (0.5, "was not calm")])
def test_the_page_says_whether_the_machine_was_calm(other_cores: float, words: str) -> None:
    found = comparison()
    found.visits["Triton, unbatched"] = [
        dataclasses.replace(one, other_cores=other_cores) for one in found.visits["Triton, unbatched"]
    ]
    assert words in page.render({"cnn": record(found)})


def test_the_page_fits_its_lines_but_for_tables_and_lists_its_items() -> None:
    lines = page.render({"cnn": record(comparison())}).splitlines()
    assert all(len(line) <= 120 for line in lines if not line.startswith("|"))
    assert "- processor: a slide rule" in lines


def test_the_page_names_the_parts_that_are_missing() -> None:
    text = page.render({"cnn": record(comparison())})
    assert "**Not measured in this run**: transformer" in text


def test_parts_of_several_days_or_machines_are_told_apart() -> None:
    records = {
        "cnn": record(comparison()),
        "transformer": record(comparison(model="transformer"), date="2026-12-01", processor="an abacus"),
    }
    text = page.render(records)
    assert "not measured under the same circumstances" in text
    assert "2026-12-01: transformer" in text


def test_bars_of_scenarios_stand_among_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page.scenarios, "names", lambda: ("patience",))
    bar = Bar(what="patience", bar="1 s", measured="2 s", is_met=False)
    finding = Finding(title="Patience", bars=(bar,), table_markdown="| a |\n| --- |\n| b |", notes="It took long.")
    kept = dataclasses.replace(record(comparison()), part="patience", comparison=None, finding=finding)
    text = page.render({"patience": kept})
    assert "| patience | 1 s | - | 2 s | **no** |" in text
    assert "## Patience\n\n| a |\n| --- |\n| b |\n\nIt took long." in text


def test_a_page_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing was measured yet"):
        page.render({})


def test_tuned_peers_are_told_beside_the_bars_and_not_in_them() -> None:
    tuned = recipes.TUNED_PEERS[0]
    found = comparison((9000,), mosec=(5000,))
    found.variants[tuned] = (f"{tuned}, unbatched",)
    found.visits[f"{tuned}, unbatched"] = visits(7500)
    assert "5,000: 1.80 times" in bars.bars(found)[0].measured
    assert (
        f"- cnn, against {tuned}: 1.20 times with 1, 1.20 times with 32 and 1.20 times with 128 clients."
        in page.render({"cnn": record(found)})
    )
