"""Servers asked in turn: what is counted, and what is made of it."""

from benchmarks import pictures
from benchmarks.calm import Patience
from benchmarks.findings import Setting
from benchmarks.scenarios import _alternate
from benchmarks.scenarios._alternate import Contender, Sample
from benchmarks.servers import Running, Server, floor_read, two_cores


def sample(requests_per_s: float, server_us: float = 1.0) -> Sample:
    return Sample(
        requests_per_s=requests_per_s, server_us=server_us, p50_ms=1.0, p99_ms=2.0, generator_busy=0.5, failures=1
    )


TURNS = [
    {"a": sample(100), "b": sample(50)},
    {"a": sample(10), "b": sample(20)},
    {"a": sample(30), "b": sample(10)},
]


def test_a_figure_is_the_median_of_all_turns() -> None:
    assert _alternate.middle(TURNS, "a", lambda one: one.requests_per_s) == 30


def test_a_ratio_is_taken_within_each_turn() -> None:
    # the ratio of the medians would be 1.5
    assert _alternate.ratio(TURNS, "a", "b", lambda one: one.requests_per_s) == 2


def test_failures_of_all_turns_are_told() -> None:
    assert dict(zip(_alternate.COLUMNS, _alternate.row(TURNS, "a"), strict=True))["failed"] == "3"


def test_servers_are_up_together_and_each_is_asked_in_every_turn() -> None:
    floor = floor_read()
    servers = [Server(name=name, arguments=floor.arguments, path=floor.path) for name in ("one", "other")]
    requests = pictures.http_requests(floor.path, pictures.bodies(2))
    server_core, load_core = two_cores()
    told: list[str] = []
    setting = Setting(
        rounds=2, seconds=0.1, warm_up_s=0.0, server_core=server_core, load_core=load_core, patience=Patience(0),
        tell=told.append, is_quick=True,
    )  # fmt: skip
    at_the_end: list[tuple[str, int]] = []

    def look(server: Server, running: Running) -> None:
        at_the_end.append((server.name, running.ask("GET", floor.path)[0]))

    contenders = [Contender(server=server, requests=requests) for server in servers]
    turns = _alternate.run(contenders, setting, clients=2, at_the_end=look)
    assert [sorted(turn) for turn in turns] == [["one", "other"]] * 2
    assert all(one.requests_per_s > 0 and not one.failures for turn in turns for one in turn.values())
    assert at_the_end == [("one", 200), ("other", 200)] * 2
    assert len(told) == 2
