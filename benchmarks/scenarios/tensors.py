"""The same numbers through every door: JSON and bytes, predict door and Open Inference Protocol, HTTP and gRPC."""

import contextlib
import dataclasses
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks import calm, load
from benchmarks.findings import Bar, Finding, Setting
from benchmarks.load import Load
from benchmarks.scenarios import _alternate, _bundles, _command, _grpc_load, _picture_bundle, _processes
from benchmarks.scenarios._ways import (
    CLIENTS,
    CNN,
    GRPC,
    NAMES,
    PICTURE,
    PREDICT_BYTES,
    PREDICT_JSON,
    TITLES,
    V2_BYTES,
    V2_JSON,
    Case,
    Way,
    cases,
    ways,
)
from benchmarks.servers import Running, Server, pinned, service, start

TITLE = "Tensors: bytes and JSON, door by door"
# bytes against JSON, by the requests/s of the protocol's two forms over HTTP
LEAST_TIMES: Mapping[str, float] = {CNN: 1.1, PICTURE: 2.0}
# what the protocol may cost beyond the predict door
MOST_DEARER = 1.1
PAIRS = ((V2_BYTES, PREDICT_BYTES), (V2_JSON, PREDICT_JSON))
# there are ten loads in every turn
_TURNS = 3
_SECONDS_SHARE = 0.5
_TOLERANCE = 1e-5
_POLL_S, _IDLE_POLLS, _IDLE_TIMEOUT_S = 0.05, 3, 15.0

Asked = Sequence[tuple[Case, Sequence[Way]]]


def measure(setting: Setting) -> Finding:
    """Ask one service of two models in every form, in turn.

    Raises:
        ValueError: A form is refused, or answered otherwise than the others.
    """
    setting = dataclasses.replace(
        setting, seconds=setting.seconds * _SECONDS_SHARE, warm_up_s=setting.warm_up_s * _SECONDS_SHARE
    )
    asked = [(case, ways(case)) for case in cases()]
    turns: list[_alternate.Turn] = []
    others: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        models_dir = Path(folder) / "models"
        _bundles.link([CNN], models_dir)
        _picture_bundle.write(models_dir)
        for number in range(1, setting.rounds + 1):
            for turn, other_cores in _round(server(models_dir), asked, setting):
                turns.append(turn)
                others.append(other_cores)
            setting.tell(f"tensors, round {number} of {setting.rounds}: {_told(turns[-1])}")
    return report(turns, others)


def server(models_dir: Path) -> Server:
    """Return the service with gRPC on."""
    one = service(CNN, models_dir)
    return dataclasses.replace(one, environ={**one.environ, "ZTO_GRPC_PORT": "{port_1}"})


def _round(asked_server: Server, asked: Asked, setting: Setting) -> list[tuple[_alternate.Turn, float]]:
    """Start the service, and put it under each load in turn; with each turn, how many cores others kept busy."""
    turns = []
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(start(asked_server, setting.server_core))
        stack.enter_context(pinned(setting.load_core))
        loads = [(case, way) for case, found in asked for way in found]
        for case, found in asked:
            expect_same_answers(running, case, found)
        for number in range(1 if setting.is_quick else _TURNS):
            shift = number * len(NAMES) // _TURNS  # nobody is always the first
            in_turn = loads[shift:] + loads[:shift]

            def turn(in_turn: Sequence[tuple[Case, Way]] = in_turn) -> _alternate.Turn:
                return {key(case.model, way.name): ask(running, case, way, setting) for case, way in in_turn}

            turns.append(setting.patience.measure(turn))
    return turns


def key(model: str, way: str) -> str:
    """Return the name of a load."""
    return f"{model}: {way}"


def ask(running: Running, case: Case, way: Way, setting: Setting) -> _alternate.Sample:
    """Put the service under one load, closed loop, once it has done with the one before."""
    _wait_until_idle(running)
    if not way.is_grpc:
        return _alternate.ask(running, way.requests, setting, case.clients)
    shape = Load(clients=case.clients, warm_up_s=setting.warm_up_s, measured_s=setting.seconds)
    return _alternate.sample(
        _grpc_load.run(running.ports[1], way.requests, shape, lambda: _processes.computed_s(running.pid))
    )


def _wait_until_idle(running: Running) -> None:
    """Wait while the service reads large bodies whose clients have hung up: that would count for the next load."""
    until = time.monotonic() + _IDLE_TIMEOUT_S
    computed_s = running.computed_s()
    idle = 0
    while idle < _IDLE_POLLS and time.monotonic() < until:
        time.sleep(_POLL_S)
        before_s, computed_s = computed_s, running.computed_s()
        idle = idle + 1 if computed_s == before_s else 0


def expect_same_answers(running: Running, case: Case, found: Sequence[Way]) -> None:
    """Ask for the first row in every form.

    Raises:
        ValueError: A form is refused, or the scores differ.
    """
    answers = {}
    for way in found:
        if way.is_grpc:
            body = _grpc_load.ask(running.ports[1], way.requests[0])
        else:
            status, body = load.ask(running.port, way.requests[0])
            if status != 200:
                raise ValueError(f"{case.model}, {way.name}: answered {status}: {body[:300]!r}")
        answers[way.name] = way.read(body).ravel()
    for name, scores in answers.items():
        expected = answers[PREDICT_JSON]
        if scores.shape != expected.shape or not np.allclose(scores, expected, rtol=_TOLERANCE, atol=_TOLERANCE):
            raise ValueError(f"{case.model}: {PREDICT_JSON} is answered {expected}, {name} {scores}")


def report(turns: Sequence[_alternate.Turn], others: Sequence[float] = ()) -> Finding:
    """Return what was found, as a section of the page.

    Args:
        turns: Of all rounds.
        others: How many cores other work kept busy, turn by turn.
    """
    lines = [
        [title, name, *_alternate.row(turns, key(model, name))[1:]]
        for model, title in TITLES.items()
        for name in NAMES
        if key(model, name) in turns[0]
    ]
    failures = sum(sample.failures for turn in turns for sample in turn.values())
    return Finding(
        title=TITLE,
        bars=(
            *(bytes_bar(turns, model, least) for model, least in LEAST_TIMES.items()),
            *(door_bar(turns, model, ours, theirs) for model in LEAST_TIMES for ours, theirs in PAIRS),
        ),
        table_markdown=_command.table(("model", "form", *_alternate.COLUMNS[1:]), lines),
        notes=(
            "One service, asked for the same rows in every form, in turn: nested numbers and plain bytes at the "
            "predict door; over the Open Inference Protocol one list of numbers, bytes behind the JSON both ways, and "
            "raw bytes over gRPC. JSON is as short as it can be for the same float32, which is the best case for JSON. "
            "All ask for the same scores, and their first answers are held against each other. "
            f"{CLIENTS[CNN]} clients of the cnn, and {CLIENTS[PICTURE]} of the other, whose model is one convolution "
            "of patches, a mean and a dense layer, so that reading is most of what a request costs. Medians over all "
            "turns, and of the ratios within each turn. The load over gRPC is made in Python too; where the generator "
            "is busy all the time, it is the limit and not the server."
            + ("" if key(CNN, GRPC) in turns[0] else " gRPC is not installed here.")
            + (f" {failures} requests failed." if failures else "")
            + calm.told(others)
        ),
        raw={"turns": _alternate.raw(turns)},
    )


def bytes_bar(turns: Sequence[_alternate.Turn], model: str, least: float) -> Bar:
    """Return what is promised of bytes against JSON, over the protocol."""
    in_bytes, in_json = key(model, V2_BYTES), key(model, V2_JSON)
    turns = _answered(turns, in_bytes, in_json)
    ratio = _alternate.ratio(turns, in_bytes, in_json, lambda sample: sample.requests_per_s)
    rates = [
        f"{_alternate.middle(turns, name, lambda sample: sample.requests_per_s):,.0f}" for name in (in_bytes, in_json)
    ]
    return Bar(
        what=f"{TITLES[model]}, V2 over HTTP: tensors as bytes against JSON",
        bar=f"{least:g} times the requests/s",
        measured=f"{ratio:.2f} times ({rates[0]} against {rates[1]} requests/s)",
        is_met=ratio >= least,
    )


def door_bar(turns: Sequence[_alternate.Turn], model: str, ours: str, theirs: str) -> Bar:
    """Return what is promised of the protocol's cost beside the predict door, in the same form."""
    names = key(model, ours), key(model, theirs)
    turns = _answered(turns, *names)
    dearer = _alternate.ratio(turns, *names, lambda sample: sample.server_us)
    slower = 1 / _alternate.ratio(turns, *names, lambda sample: sample.requests_per_s)
    cost = [f"{_alternate.middle(turns, name, lambda sample: sample.server_us):,.1f}" for name in names]
    return Bar(
        what=f"{TITLES[model]}: {ours} against {theirs}",
        bar=f"at most {MOST_DEARER - 1:.0%} dearer, by CPU time and by requests/s",
        measured=f"{dearer - 1:+.1%} CPU time ({cost[0]} against {cost[1]} us), {slower - 1:+.1%} time by requests/s",
        is_met=max(dearer, slower) <= MOST_DEARER,
    )


def _answered(turns: Sequence[_alternate.Turn], *names: str) -> list[_alternate.Turn]:
    """Return the turns in which the loads of these names were answered.

    Raises:
        ValueError: There is none.
    """
    found = [turn for turn in turns if all(turn[name].requests_per_s for name in names)]
    if not found:
        raise ValueError(f"no turn in which {' and '.join(names)} were answered")
    return found


def _told(turn: _alternate.Turn) -> str:
    return ", ".join(
        f"{name} {sample.requests_per_s:,.0f}/s {sample.server_us:.0f} us" for name, sample in turn.items()
    )


if __name__ == "__main__":
    sys.exit(_command.run(measure))
