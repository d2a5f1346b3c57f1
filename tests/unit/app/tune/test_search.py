"""The search with figures that are written down, and with a backend whose cost is known."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from app import backends
from app.backends import Device
from app.backends.dummy import Behavior, DummyBackend
from app.bundle.loader import Bundle
from app.bundle.tuning import Choice
from app.errors import BackendFailed, BundleError, BundleNotProven
from app.serving.batcher import Batcher
from app.settings import Settings
from app.tensors import Tensors
from app.tune import measure
from app.tune.candidates import Bounds
from app.tune.command import _words
from app.tune.measure import Bench
from app.tune.search import Found, Search, is_faster
from tests.support.bundles import dummy_bundle, edit_manifest, open_folder

Rate = Callable[[Choice], float]


class Written(Bench):
    """Tells rates and costs of batches that are written down, with some noise of the first visits."""

    def __init__(self, rate: Rate, batch_ms: Rate = lambda choice: 1.0, refused: dict[str, Exception] | None = None):
        self._rate = rate
        self._batch_ms = batch_ms
        self._refused = refused or {}
        self._visits = 0

    def device_of(self, choice: Choice) -> Literal["cpu", "cuda"]:
        return "cpu"

    def prove(self, choice: Choice) -> None:
        if choice.backend in self._refused:
            raise self._refused[choice.backend]

    def full_batch_s(self, choice: Choice) -> float:
        return self._batch_ms(choice) / 1e3

    async def rows_per_s(self, choice: Choice, seconds: float) -> float:
        self._visits += 1
        return self._rate(choice) * (1 + 0.01 * (self._visits % 3 - 1))


def search(bench: Bench, folder: Path, keys: list[str], **bounds: float) -> Found:
    manifest = open_folder(folder).manifest
    made = Search(bench, Bounds(clients=32, **bounds), time_budget_s=1)  # type: ignore[arg-type]
    return asyncio.run(made.run(manifest, keys, threads=1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return dummy_bundle(tmp_path, max_rows=8)


def test_what_is_no_faster_beyond_the_noise_replaces_nothing(folder: Path) -> None:
    found = search(Written(lambda choice: 100 + choice.batching.max_rows / 32), folder, ["onnx", "onnx-int8"])
    assert found.choice == Choice(backend="onnx", threads=1, batching=open_folder(folder).manifest.batching)
    assert found.gain == 1.0
    assert {m.verdict for m in found.candidates} == {"stays", "not taken: not faster beyond the noise"}


def test_the_fastest_of_each_question_is_taken_and_wins_once_more(folder: Path) -> None:
    def rate(choice: Choice) -> float:
        return (
            (2 if choice.backend == "onnx-int8" else 1)
            * choice.batching.max_rows
            * (1.5 if choice.run_on == "thread" else 1)
        )

    found = search(Written(rate), folder, ["onnx", "onnx-int8"])
    assert found.choice.backend == "onnx-int8"
    assert found.choice.batching.max_rows == 32
    assert found.choice.run_on == "thread"
    assert found.gain == pytest.approx(2 * 4 * 1.5, rel=0.05)
    assert [m.step for m in found.candidates][-2:] == ["once more", "once more"]
    assert all(len(m.rows_per_s) == 5 for m in found.candidates)


def test_not_to_batch_is_taken_where_it_wins(folder: Path) -> None:
    assert search(Written(lambda c: 100 / c.batching.max_rows), folder, ["onnx"]).choice.batching.max_rows == 1


def test_waiting_is_taken_where_it_wins(folder: Path) -> None:
    found = search(Written(lambda c: 200 if c.batching.max_wait_ms else 100), folder, ["onnx"])
    assert found.choice.batching.max_wait_ms == 1


def test_a_batch_that_takes_too_long_is_not_taken_however_fast_it_is(folder: Path) -> None:
    bench = Written(lambda c: c.batching.max_rows, lambda c: c.batching.max_rows)
    found = search(bench, folder, ["onnx"], max_batch_ms=20)
    assert found.choice.batching.max_rows == 16
    assert any(m.verdict == "left out: a full batch takes longer than 20 ms" for m in found.candidates)


def test_a_default_whose_batch_takes_too_long_gives_way_to_a_slower_one(folder: Path) -> None:
    bench = Written(lambda c: c.batching.max_rows, lambda c: c.batching.max_rows)
    found = search(bench, folder, ["onnx"], max_batch_ms=5)
    assert found.choice.batching.max_rows == 4
    assert found.gain == pytest.approx(0.5, rel=0.05)


def test_where_even_one_row_takes_too_long_rows_run_alone(folder: Path) -> None:
    found = search(Written(lambda c: 1.0, lambda c: 100.0), folder, ["onnx"], max_batch_ms=5)
    assert found.choice.batching.max_rows == 1


def test_the_event_loop_is_not_offered_batches_that_would_hold_it_up(folder: Path) -> None:
    slow = search(Written(lambda c: 1e9 if c.run_on == "loop" else 1.0, lambda c: 20.0), folder, ["onnx"])
    assert slow.choice.run_on == "auto"


def test_an_artifact_that_is_not_proven_is_left_out_with_its_reason(folder: Path) -> None:
    bench = Written(lambda c: 1.0, refused={"onnx": BundleNotProven("golden replay: 1.0 is not 2.0")})
    found = search(bench, folder, ["onnx", "state_dict"])
    assert found.choice.backend == "state_dict"
    assert found.candidates[0].verdict == "left out: golden replay: 1.0 is not 2.0"


def test_where_no_artifact_is_left_it_is_an_error_with_every_reason(folder: Path) -> None:
    bench = Written(lambda c: 1.0, refused={"onnx": BundleError("broken"), "state_dict": BundleError("no torch")})
    with pytest.raises(BundleError, match="onnx: left out: broken; state_dict: left out: no torch"):
        search(bench, folder, ["onnx", "state_dict"])


def test_a_candidate_that_fails_while_it_is_measured_is_left_out(folder: Path) -> None:
    def rate(choice: Choice) -> float:
        if choice.batching.max_rows == 32:
            raise BackendFailed("out of memory")
        return 100.0

    found = search(Written(rate), folder, ["onnx"])
    assert found.choice.batching.max_rows == 8
    assert "left out: fails: out of memory" in {m.verdict for m in found.candidates}


def test_a_default_that_fails_in_the_last_step_is_replaced_without_a_figure(folder: Path) -> None:
    visits = 0

    def rate(choice: Choice) -> float:
        nonlocal visits
        if choice.batching.max_rows == 8 and choice.run_on == "auto":
            visits += 1
            if visits > 5:  # those of the first step in which it is measured
                raise BackendFailed("out of memory")
        return choice.batching.max_rows

    found = search(Written(rate), folder, ["onnx"])
    assert (found.choice.batching.max_rows, found.gain, found.replaces) == (32, 1.0, True)
    assert found.candidates[-2].verdict == "left out: fails: out of memory"
    assert _words(found) == "taken, since the manifest's own settings failed in the last step"


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_an_artifact_that_the_gpu_does_not_prove_is_measured_on_the_cpu_unless_the_gpu_is_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, device: Device
) -> None:
    class Inexact(DummyBackend):
        """A GPU that adds up in another order."""

        device = "cuda"

        def run(self, inputs: Tensors) -> Tensors:
            return {name: array * (1 + 1e-3 * len(array)) for name, array in super().run(inputs).items()}

    load = backends.load

    def load_somewhere(key: str, bundle: Bundle, *, device: Device, **rest: Any) -> tuple[str, backends.Backend]:
        name, backend = load(key, bundle, **rest)
        return name, backend if device == "cpu" else Inexact(Behavior(), bundle.manifest.outputs)

    monkeypatch.setattr(backends, "load", load_somewhere)
    bench = Bench(open_folder(folder), Settings(device=device), clients=4)
    choice = Choice(backend="dummy", threads=1, batching=open_folder(folder).manifest.batching)
    if device == "cuda":
        with pytest.raises(BundleNotProven):
            bench.prove(choice)
    else:
        bench.prove(choice)
        assert bench.device_of(choice) == bench.device_of(choice.model_copy(update={"threads": 2})) == "cpu"
    bench.close()


@pytest.mark.parametrize("length_buckets", [True, False])
def test_batches_are_made_as_the_settings_say(
    folder: Path, monkeypatch: pytest.MonkeyPatch, length_buckets: bool
) -> None:
    made: list[bool] = []

    class Watched(Batcher):
        def __init__(self, *arguments: Any, length_buckets: bool, **more: Any) -> None:
            made.append(length_buckets)
            super().__init__(*arguments, length_buckets=length_buckets, **more)

    monkeypatch.setattr(measure, "Batcher", Watched)
    bench = Bench(open_folder(folder), Settings(length_buckets=length_buckets), clients=4)
    choice = Choice(backend="dummy", threads=1, batching=open_folder(folder).manifest.batching)
    assert asyncio.run(bench.rows_per_s(choice, 0.01)) > 0
    bench.close()
    assert made == [length_buckets]


def test_a_bound_on_elements_is_asked_after(tmp_path: Path) -> None:
    from tests.support.ragged import series_bundle

    folder = series_bundle(tmp_path, [4, 1, 6], max_rows=4, max_elements=40)
    assert isinstance(folder, Path)
    found = search(Written(lambda c: c.batching.max_elements or 0), folder, ["onnx"])
    assert found.choice.batching.max_elements == 160


@pytest.mark.parametrize(
    ("rates", "than", "faster"),
    [
        ([110, 111, 109, 112, 110], [100, 100, 100, 100, 100], True),
        ([102, 102, 102, 102, 102], [100, 100, 100, 100, 100], False),  # by less than is worth a change
        ([150, 90, 150, 150, 150], [100, 100, 100, 100, 100], False),  # one round says otherwise
        ([110, 11, 150, 150, 150], [100, 10, 100, 100, 100], True),  # a slow round is slow for both
        ([110], [100], True),
        ([99], [100], False),
    ],
)
def test_faster_means_in_the_median_and_in_every_round(rates: list[float], than: list[float], faster: bool) -> None:
    assert is_faster(rates, than) is faster


def test_a_real_backend_that_sleeps_is_found_to_gain_from_larger_batches(tmp_path: Path) -> None:
    """A call takes 4 ms however many rows it has, so 32 rows a call answer many times more than 1."""
    folder = dummy_bundle(tmp_path, behavior={"sleep_s": 0.004}, max_rows=1)
    edit_manifest(folder, lambda manifest: manifest["golden"].update(rows=16))
    bench = Bench(open_folder(folder), Settings(), clients=32)
    try:
        found = asyncio.run(
            Search(bench, Bounds(clients=32), time_budget_s=2, rounds=3).run(
                open_folder(folder).manifest, ["dummy"], threads=1
            )
        )
    finally:
        bench.close()
    assert found.choice.batching.max_rows >= 8
    assert found.gain > 2


def test_a_real_backend_that_fails_on_golden_rows_is_an_error(tmp_path: Path) -> None:
    folder = dummy_bundle(tmp_path, behavior={"fails_after_calls": 0})
    bench = Bench(open_folder(folder), Settings(), clients=4)
    with pytest.raises(BundleError, match="told to fail"):
        search(bench, folder, ["dummy"])
