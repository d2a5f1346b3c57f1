"""What the tool said is told load by load; the service has to get to the end of all of them."""

from benchmarks import recipes, workloads
from benchmarks.scenarios import perf_analyzer
from benchmarks.scenarios.perf_analyzer import CLIENTS, MODEL, PROTOCOLS, Key, Sample
from benchmarks.servers import SERVICE_NAME

SLOWER, FASTER = "Triton, batches of 4", "Triton, batches of 8"


def sample(rate: float) -> Sample:
    return Sample(requests_per_s=rate, p50_ms=1.0, p99_ms=2.0, server_us=100.0, tool_busy=0.25)


def found() -> dict[Key, list[Sample]]:
    return {
        (protocol, clients, name): [sample(rate), sample(rate + 100)]
        for protocol in PROTOCOLS
        for clients in CLIENTS
        for name, rate in ((SERVICE_NAME, 4000.0), (SLOWER, 1000.0), (FASTER, 1950.0))
    }


def test_each_load_is_told_beside_the_better_setting_of_the_peer() -> None:
    finding = perf_analyzer.report(found(), "")
    lines = finding.table_markdown.splitlines()[2:]
    assert len(lines) == len(PROTOCOLS) * len(CLIENTS)
    assert "4,050" in lines[-1]
    assert "2,000" in lines[-1]
    assert lines[-1].endswith("| 2.02 times |")
    (bar,) = finding.bars
    assert bar.is_met
    assert "24 of 24 runs" in bar.measured
    assert "grpc, 32 in flight: 2.02 times" in bar.measured


def test_one_run_that_breaks_off_fails_the_bar_and_says_why() -> None:
    samples = found()
    samples["grpc", 8, SERVICE_NAME][1] = Sample(failure="unable to get model metadata")
    (bar,) = perf_analyzer.report(samples, "").bars
    assert not bar.is_met
    assert "23 of 24 runs; unable to get model metadata" in bar.measured


def test_a_load_that_was_left_out_fails_the_bar() -> None:
    samples = found()
    del samples["grpc", 16, SERVICE_NAME]
    assert not perf_analyzer.bars(samples)[0].is_met


def test_a_peer_that_is_absent_leaves_the_service_by_itself() -> None:
    samples = {key: value for key, value in found().items() if key[2] == SERVICE_NAME}
    finding = perf_analyzer.report(samples, "could not be installed: no such wheel")
    assert all(line.endswith("| - | - | - | - | - |") for line in finding.table_markdown.splitlines()[2:])
    assert "Triton was not measured: it could not be installed: no such wheel." in finding.notes
    assert finding.bars[0].is_met


def test_after_the_first_round_the_peer_is_asked_in_its_better_setting() -> None:
    samples = found()
    worth = [name for name in (SERVICE_NAME, SLOWER, FASTER) if perf_analyzer._is_worth(samples, ("http", 1), name)]
    assert worth == [SERVICE_NAME, FASTER]
    assert perf_analyzer._is_worth({}, ("http", 1), SLOWER)


def test_a_setting_that_was_left_out_does_not_stand_for_the_peer() -> None:
    samples = found()
    for protocol in PROTOCOLS:
        samples[protocol, 32, SLOWER] = [sample(9000.0)]  # in a calm round, and never again
    assert "2.02 times" in perf_analyzer.bars(samples)[0].measured


def test_both_servers_answer_grpc_and_give_the_same_outputs() -> None:
    workload = workloads.load(MODEL)
    ours, *theirs = perf_analyzer.contenders(workload, [recipes.peer("Triton")])
    assert ours.server.environ["ZTO_GRPC_PORT"] == "{port_1}"
    assert len(theirs) == 2
    for contender in theirs:
        assert contender.server.environ["BENCH_GRPC_PORT"] == "{port_1}"
        assert contender.server.environ["BENCH_OUTPUTS"] == "logits,probabilities"


def test_pictures_are_sent_as_floats() -> None:
    rows = perf_analyzer.rows(workloads.load(MODEL))
    shape, content = rows[0]["image"]
    assert shape == [28, 28]
    assert len(content) == 784
    assert {type(value) for value in content} == {float}  # whole numbers would be refused by the tool
