"""The promises that the side-by-side can judge: this service held against its peers and against the floors."""

from collections.abc import Callable, Mapping

from benchmarks.comparison import Comparison
from benchmarks.findings import Bar
from benchmarks.markdown import listed, number
from benchmarks.recipes import BAR_PEERS
from benchmarks.servers import RAW_NAME, SERVICE_NAME

RAW_RATE, RAW_RATE_AIM = 10_000, 12_000


def bars(comparison: Comparison) -> list[Bar]:
    """Return the bars of a workload."""
    judges: Mapping[str, Callable[[Comparison], list[Bar]]] = {"cnn": _of_the_cnn, "transformer": _of_the_transformer}
    return judges[comparison.model](comparison) if comparison.model in judges else []


def _of_the_cnn(found: Comparison) -> list[Bar]:
    return [
        _rate_bar(found, 32, least=1.4, aim=1.8),
        _limit_bar(found),
        _rate_bar(found, 128, least=1.35, aim=1.8),
        _p99_under_theirs(found, 128),
        _latency_bar(found, 1, "p50_ms", most=0.8, aim=0.6),
        _latency_bar(found, 32, "p99_ms", most=0.8, aim=0.5),
        _raw_bar(found),
    ]


def _rate_bar(found: Comparison, clients: int, *, least: float, aim: float) -> Bar:
    ours = found.figure(SERVICE_NAME, clients, "requests_per_s")
    theirs = found.of_peers(clients, "requests_per_s", BAR_PEERS)
    what, bar = f"cnn, JSON, {clients} clients", f"{least:g} times the better of {listed(BAR_PEERS)}"
    if not theirs:
        return _unmeasured(what, bar, f"{aim:g} times")
    best = max(theirs, key=theirs.__getitem__)
    ratio = ours / theirs[best]
    return Bar(
        what=what,
        bar=bar,
        measured=f"{ours:,.0f} requests/s where {best} gives {theirs[best]:,.0f}: {ratio:.2f} times",
        is_met=ratio >= least,
        aim=f"{aim:g} times",
        is_aim_met=ratio >= aim,
    )


def _limit_bar(found: Comparison) -> Bar:
    limit = 1e6 / found.floor_us()
    ours = found.figure(SERVICE_NAME, 32, "requests_per_s")
    share = ours / limit
    return Bar(
        what="cnn, JSON, 32 clients",
        bar="0.65 of what the floors leave room for",
        measured=f"{ours:,.0f} of {limit:,.0f} requests/s: {share:.2f}",
        is_met=share >= 0.65,
        aim="0.9",
        is_aim_met=share >= 0.9,
    )


def _p99_under_theirs(found: Comparison, clients: int) -> Bar:
    ours, theirs = found.figure(SERVICE_NAME, clients, "p99_ms"), found.of_peers(clients, "p99_ms", BAR_PEERS)
    return Bar(
        what=f"cnn, JSON, {clients} clients, p99",
        bar=f"under that of {listed(BAR_PEERS)}",
        measured=f"{ours:.2f} ms, where they take {_told(theirs)}",
        is_met=bool(theirs) and ours < min(theirs.values()),
    )


def _latency_bar(found: Comparison, clients: int, key: str, *, most: float, aim: float) -> Bar:
    ours, theirs = found.figure(SERVICE_NAME, clients, key), found.of_peers(clients, key)
    what = f"cnn, JSON, {clients} client{'s' if clients > 1 else ''}, {key.removesuffix('_ms')}"
    bar = f"{most:g} of the best peer's or less"
    if not theirs:
        return _unmeasured(what, bar, f"{aim:g} of it")
    best = min(theirs, key=theirs.__getitem__)
    share = ours / theirs[best]
    return Bar(
        what=what,
        bar=bar,
        measured=f"{ours:.2f} ms where {best} takes {theirs[best]:.2f}: {share:.2f} of it",
        is_met=share <= most,
        aim=f"{aim:g} of it",
        is_aim_met=share <= aim,
    )


def _raw_bar(found: Comparison) -> Bar:
    what, bar, aim = "cnn, raw bytes, 32 clients", f"{RAW_RATE:,} requests/s", f"{RAW_RATE_AIM:,}"
    rate = found.figure(RAW_NAME, 32, "requests_per_s")
    if rate != rate:
        return _unmeasured(what, bar, aim)
    computed_us = found.figure(RAW_NAME, 32, "server_us")
    return Bar(
        what=what,
        bar=bar,
        measured=f"{rate:,.0f} requests/s, {computed_us:.0f} us of its core for each",
        is_met=rate >= RAW_RATE,
        aim=aim,
        is_aim_met=rate >= RAW_RATE_AIM,
    )


def _of_the_transformer(found: Comparison) -> list[Bar]:
    ours = found.figure(SERVICE_NAME, 32, "requests_per_s")
    theirs = found.of_peers(32, "requests_per_s", list(found.variants))
    return [
        Bar(
            what="transformer, texts of 5 to 300 tokens, 32 clients",
            bar="above every peer",
            measured=f"{ours:,.0f} requests/s, where they give {_told(theirs, ',.0f')}",
            is_met=bool(theirs) and ours > max(theirs.values()),
        )
    ]


def _told(figures: Mapping[str, float], form: str = ".2f") -> str:
    return listed([f"{number(value, form)} ({peer})" for peer, value in figures.items()]) if figures else "nothing"


def _unmeasured(what: str, bar: str, aim: str) -> Bar:
    return Bar(what=what, bar=bar, measured="not measured", is_met=False, aim=aim)
