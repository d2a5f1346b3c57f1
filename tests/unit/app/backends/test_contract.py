"""What every backend owes, held against every bundle that has its artifact: committed ones, the dummy, other forms."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from app import backends
from app.backends import Backend
from app.bundle.golden import GoldenRows, expect_close
from app.bundle.loader import Bundle, find_bundles, open_bundle
from app.bundle.manifest import Tolerance
from app.serving.proof import prove
from app.tensors import Tensors, take
from tests.support.bundles import dummy_bundle, open_folder
from tests.support.exported import exported_bundle, series_bundle

MODELS = Path(__file__).resolve().parents[4] / "models"

# what may load programs; here they are our own
ALLOWED = ("torchscript",)

Opener = Callable[[Path], Bundle]


class Loaded(NamedTuple):
    backend: Backend
    bundle: Bundle
    golden: GoldenRows
    key: str

    @property
    def tolerances(self) -> dict[str, Tolerance]:
        golden = self.bundle.manifest.golden
        return {name: golden.tolerance_of(self.key, name) for name in self.golden.outputs}


def cases() -> Iterator[Any]:
    """Yield an artifact's key and how to open a bundle that has it."""

    def case(key: str, opener: Opener, bundle: str) -> Any:
        return pytest.param((key, opener), id=f"{key}-{bundle}")

    yield case("dummy", lambda folder: open_folder(dummy_bundle(folder)), "dummy")
    for fmt in ("torchscript", "torch_export"):
        for name in ("mlp", "cnn", "numpy_regression"):
            yield case(fmt, lambda folder, fmt=fmt, name=name: open_folder(exported_bundle(folder, name, fmt)), name)
    yield case("torch_export", lambda folder: open_folder(series_bundle(folder)), "series")
    for ref in find_bundles(MODELS):
        bundle = open_bundle(ref)
        for artifact in bundle.manifest.artifacts:
            if artifact.format in backends.names():
                yield case(artifact.key, lambda _, bundle=bundle: bundle, f"{ref.name}-{ref.version}")


CASES = list(cases())


@pytest.fixture(params=CASES)
def loaded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Loaded]:
    key, opener = request.param
    bundle: Bundle = opener(tmp_path)
    found, backend = backends.load(key, bundle, threads=1, allowed=ALLOWED)
    assert found == key
    yield Loaded(backend, bundle, bundle.golden(key), key)
    backend.close()


def copy(tensors: Tensors) -> Tensors:
    return {name: array.copy() for name, array in tensors.items()}


def test_every_backend_is_held_to_this_contract() -> None:
    assert {case.values[0][0].partition("-")[0] for case in CASES} == set(backends.names())


def test_it_is_proven(loaded: Loaded) -> None:
    prove(loaded.backend.run, loaded.bundle.manifest, loaded.golden, loaded.key)


def test_it_returns_the_tensors_of_the_manifest(loaded: Loaded) -> None:
    for rows in (1, 2, len(loaded.golden)):
        outputs = loaded.backend.run(take(loaded.golden.inputs, 0, rows))
        assert set(outputs) == {spec.name for spec in loaded.bundle.manifest.outputs}
        for spec in loaded.bundle.manifest.outputs:
            assert spec.describes(outputs[spec.name])
            assert len(outputs[spec.name]) == rows


def test_its_rows_come_out_in_the_order_in_which_they_went_in(loaded: Loaded) -> None:
    backwards = {name: array[::-1].copy() for name, array in loaded.golden.inputs.items()}
    outputs = {name: array[::-1] for name, array in loaded.backend.run(backwards).items()}
    expect_close(outputs, loaded.golden.outputs, loaded.tolerances, what="backwards")


def test_it_leaves_its_inputs_as_they_were(loaded: Loaded) -> None:
    inputs = copy(loaded.golden.inputs)
    loaded.backend.run(inputs)
    assert all(np.array_equal(inputs[name], array) for name, array in loaded.golden.inputs.items())


def test_it_takes_arrays_that_may_not_be_written_to(loaded: Loaded) -> None:
    inputs = copy(loaded.golden.inputs)
    expected = loaded.backend.run(inputs)
    for array in inputs.values():
        array.flags.writeable = False
    expect_close(loaded.backend.run(inputs), expected, Tolerance(atol=1e-6), what="read-only")


def test_it_takes_rows_of_a_larger_array(loaded: Loaded) -> None:
    """A batch is often a view; one whose rows lie apart in memory is legal too."""
    doubled = {name: np.repeat(array, 2, axis=0)[::2] for name, array in loaded.golden.inputs.items()}
    assert not any(array.flags.c_contiguous for array in doubled.values() if array.size > 1)
    expect_close(loaded.backend.run(doubled), loaded.golden.outputs, loaded.tolerances, what="strided")


def test_what_it_returns_belongs_to_the_caller(loaded: Loaded) -> None:
    inputs = loaded.golden.inputs
    first = loaded.backend.run(inputs)
    kept = copy(first)
    second = loaded.backend.run(inputs)
    for name, array in first.items():
        assert not any(np.shares_memory(array, given) for given in inputs.values())
        assert not any(np.shares_memory(array, other) for other in second.values())
        array[...] = 0
        assert np.array_equal(second[name], kept[name])
    third = loaded.backend.run(inputs)
    assert all(np.array_equal(third[name], kept[name]) for name in kept)


def test_a_call_that_fails_leaves_it_well(loaded: Loaded) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011  a runtime raises what it likes
        loaded.backend.run({"no such input": np.zeros((1, 1), "U1")})
    prove(loaded.backend.run, loaded.bundle.manifest, loaded.golden, loaded.key)


def test_two_of_one_bundle_are_independent(loaded: Loaded) -> None:
    _, other = backends.load(loaded.key, loaded.bundle, threads=1, allowed=ALLOWED)
    other.close()
    prove(loaded.backend.run, loaded.bundle.manifest, loaded.golden, loaded.key)
