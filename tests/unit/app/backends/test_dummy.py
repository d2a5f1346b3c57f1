import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.backends.dummy import EXIT_STATUS, Behavior, DummyBackend, load
from app.bundle.manifest import Manifest
from app.errors import BundleError
from app.tensors import Tensors
from tests.support.bundles import (
    ARTIFACT_FILE,
    dummy_bundle,
    dummy_outputs,
    fault,
    manifest_document,
    open_folder,
    write_file_with_digest,
)

IMAGES_BHW = np.arange(18, dtype=np.float32).reshape(3, 2, 3)
OUTPUTS = Manifest.model_validate(manifest_document()).outputs


def dummy(**behavior: Any) -> DummyBackend:
    return DummyBackend(Behavior(**behavior), OUTPUTS)


def run(backend: DummyBackend, images_BHW: Any = IMAGES_BHW) -> Tensors:
    return backend.run({"image": images_BHW})


@given(arrays(np.float32, st.tuples(st.integers(1, 5), st.just(2), st.just(3)), elements=st.floats(0, 255, width=32)))
def test_outputs_are_the_documented_arithmetic(images_BHW: Any) -> None:
    outputs, expected = run(dummy(), images_BHW), dummy_outputs(images_BHW, 3)
    assert outputs.keys() == expected.keys()
    for name in expected:
        assert (outputs[name].dtype, outputs[name].shape) == (np.float32, (len(images_BHW), 3))
        assert np.allclose(outputs[name], expected[name], rtol=1e-6, atol=1e-6)


def test_a_row_does_not_depend_on_its_neighbors() -> None:
    together = run(dummy())
    for row in range(3):
        alone = run(dummy(), IMAGES_BHW[row : row + 1])
        assert all(np.array_equal(alone[name][0], together[name][row]) for name in together)


def test_it_raises_on_the_value_that_it_was_told() -> None:
    backend = dummy(raise_on=7.0)
    with pytest.raises(RuntimeError, match=r"raise on 7\.0"):
        run(backend)
    assert run(backend, IMAGES_BHW[2:])["logits"].shape == (1, 3)


def test_it_ends_the_process_on_the_value_that_it_was_told() -> None:
    process = multiprocessing.get_context("spawn").Process(target=run, args=(dummy(exits_on=7.0),))
    process.start()
    process.join(60)
    assert process.exitcode == EXIT_STATUS
    assert run(dummy(exits_on=7.0), IMAGES_BHW[2:])["logits"].shape == (1, 3)


def test_nan_comes_out_of_the_rows_that_hold_the_value_and_of_no_other() -> None:
    outputs = run(dummy(nan_on=7.0))
    for array_BC in outputs.values():
        assert np.isnan(array_BC).all(axis=1).tolist() == [False, True, False]
        assert np.isnan(array_BC).any(axis=1).tolist() == [False, True, False]


@pytest.mark.parametrize(("extra_rows", "rows"), [(0, 3), (2, 5), (-1, 2), (-3, 0)])
def test_rows_are_added_or_lost_as_told(extra_rows: int, rows: int) -> None:
    outputs = run(dummy(extra_rows=extra_rows))
    assert {len(array) for array in outputs.values()} == {rows}


def test_it_fails_for_good_after_as_many_calls_as_told() -> None:
    backend = dummy(fails_after_calls=2)
    run(backend)
    run(backend)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="told to fail from now on"):
            run(backend)


def test_it_takes_the_time_that_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    slept_s: list[float] = []
    monkeypatch.setattr(time, "sleep", slept_s.append)
    backend = dummy(sleep_s=0.02)
    for _ in range(2):
        run(backend)
    assert slept_s == [0.02, 0.02]


def test_it_counts_calls_and_rows_the_failed_ones_too() -> None:
    backend = dummy(raise_on=7.0)
    run(backend, IMAGES_BHW[:1])
    with pytest.raises(RuntimeError):
        run(backend)
    assert backend.rows_per_call == [1, 3]


def test_the_behavior_comes_from_the_artifact(tmp_path: Path) -> None:
    folder = dummy_bundle(tmp_path, behavior={"raise_on": 7.0})
    backend = load(open_folder(folder), threads=1)
    with pytest.raises(RuntimeError, match="raise on"):
        run(backend)
    assert not backend.is_closed
    backend.close()
    assert backend.is_closed


def test_faults_come_and_go_with_their_file(tmp_path: Path) -> None:
    folder = dummy_bundle(tmp_path, behavior={"heeds_faults": True})
    backend = load(open_folder(folder), threads=1)
    well = run(backend)
    with fault(folder, fault="raise"), pytest.raises(RuntimeError, match="told to raise"):
        run(backend)
    with fault(folder, fault="wrong"):
        wrong = run(backend)
    assert wrong["logits"].shape == well["logits"].shape
    assert not np.allclose(wrong["logits"], well["logits"], rtol=1e-3)
    with fault(folder, fault="nan"):
        assert all(np.isnan(array_BC).all() for array_BC in run(backend).values())
    with fault(folder, fault="rows"):
        assert len(run(backend)["logits"]) == 4
    with fault(folder, fault="leak", leak_bytes=64):
        assert np.array_equal(run(backend)["logits"], well["logits"])
    assert np.array_equal(run(backend)["logits"], well["logits"])


def test_a_fault_is_that_of_its_process_alone(tmp_path: Path) -> None:
    folder = dummy_bundle(tmp_path, behavior={"heeds_faults": True})
    backend = load(open_folder(folder), threads=1)
    with fault(folder, fault="raise", pid=os.getpid() + 1):
        run(backend)
    with fault(folder, fault="raise", pid=os.getpid()), pytest.raises(RuntimeError, match="told to raise"):
        run(backend)


def test_a_file_that_is_no_fault_is_told_without_what_it_holds(tmp_path: Path) -> None:
    folder = dummy_bundle(tmp_path, behavior={"heeds_faults": True})
    backend = load(open_folder(folder), threads=1)
    with fault(folder, secret="hush"), pytest.raises(RuntimeError, match=r"1\.faults\.json holds no fault") as told:
        run(backend)
    assert "hush" not in str(told.value)


def test_a_dummy_that_was_not_told_to_heed_faults_heeds_none(tmp_path: Path) -> None:
    folder = dummy_bundle(tmp_path)
    backend = load(open_folder(folder), threads=1)
    with fault(folder, fault="raise"):
        run(backend)


@pytest.mark.parametrize(
    "behavior",
    [b"", b"[]", b"{", {"sleep_s": -1}, {"raise_on": "x"}, {"unknown": 1}, {"fails_after_calls": -1}],
    ids=str,
)
def test_an_impossible_behavior_is_refused(tmp_path: Path, behavior: Any) -> None:
    folder = dummy_bundle(tmp_path, rows=1)
    data = behavior if isinstance(behavior, bytes) else json.dumps(behavior).encode()
    write_file_with_digest(folder, ARTIFACT_FILE, data or b" ")
    with pytest.raises(BundleError, match="the dummy's behavior is not valid"):
        load(open_folder(folder), threads=1)
