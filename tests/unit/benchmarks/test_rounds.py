"""Which settings of a peer are worth more rounds, and what a first round that fails comes to."""

import pytest

from benchmarks import rounds, workloads
from benchmarks.calm import Patience
from benchmarks.findings import Setting
from benchmarks.samples import merit
from benchmarks.servers import Server
from tests.unit.benchmarks.made_up import sample, visit, visits

FAST = Server(name="peer, fast", peer="peer", arguments=(), path="/")
SLOW = Server(name="peer, slow", peer="peer", arguments=(), path="/")
ALONE = Server(name="alone", arguments=(), path="/")


def test_variants_that_came_near_the_best_go_on_and_others_do_not() -> None:
    found = {
        FAST.name: [visit({1: sample(1, p50_ms=1.0), 32: sample(1000)})],
        SLOW.name: [visit({1: sample(1, p50_ms=0.5), 32: sample(950)})],
        ALONE.name: visits(1, clients=(1, 32)),
    }
    loads = rounds.worth_more_rounds([FAST, SLOW, ALONE], found, (1, 32))
    assert loads == {FAST.name: (32,), SLOW.name: (1, 32), ALONE.name: (1, 32)}


def test_a_variant_that_could_not_be_started_does_not_go_on() -> None:
    loads = rounds.worth_more_rounds([FAST, SLOW], {FAST.name: visits(5), SLOW.name: []}, (1,))
    assert loads == {FAST.name: (1,), SLOW.name: ()}


def test_merit_is_nothing_where_nothing_was_answered() -> None:
    nan = float("nan")
    assert merit([visit({1: sample(0, p50_ms=nan)})], 1) == 0
    assert merit([], 1) == 0


@pytest.mark.slow
def test_a_peer_that_ends_at_once_is_named_with_its_last_words() -> None:
    setting = Setting(
        rounds=1, seconds=0.1, warm_up_s=0.0, server_core=0, load_core=0, patience=Patience(0), tell=lambda line: None
    )
    workload = workloads.load("cnn")
    ours = Server(
        name="ours",
        arguments=("-m", "uvicorn", "benchmarks.peers.plain_fastapi.server:async_app", "--factory", "--port=0"),
        environ={"BENCH_BUNDLE": str(workload.bundle)},
        path="/predict",
    )
    dead = Server(name="dead", arguments=("-c", "raise SystemExit('no such engine')"), path="/")
    found = rounds.run([ours, dead], workload, setting)
    assert found.absent == {"dead": "no such engine"}
    assert found.visits["ours"][0].samples[32].requests > 0
