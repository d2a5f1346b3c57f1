"""The price of refusals, of a service that really refuses."""

from benchmarks.calm import Patience
from benchmarks.findings import Setting
from benchmarks.scenarios import refusals
from benchmarks.scenarios.refusals import Prices
from benchmarks.servers import two_cores


def test_goodput_is_left_by_the_share_that_a_refusal_costs() -> None:
    assert Prices(refusal_us=0, answer_us=100, refused=1).limit == 1
    assert Prices(refusal_us=50, answer_us=100, refused=1).limit == 0


def test_nearly_all_requests_to_the_busy_model_are_refused() -> None:
    server_core, load_core = two_cores()
    setting = Setting(
        rounds=1, seconds=0.5, warm_up_s=0.1, server_core=server_core, load_core=load_core, patience=Patience(0),
        tell=lambda line: None, is_quick=True,
    )  # fmt: skip
    found = refusals.measure(setting)
    assert len(found.raw["refusal_us"]) == 1
    assert min(found.raw["refusal_us"] + found.raw["answer_us"]) > 0
    refused = found.table_markdown.splitlines()[-1].split("|")[-2].strip()
    assert float(refused.rstrip("%")) > 90
