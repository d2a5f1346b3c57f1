"""A runtime of known behavior, for tests and drills: it answers by arithmetic, and fails exactly as it is told to.

Its artifact is a JSON file, :class:`Behavior`. The outputs of a row depend on that row alone: output ``k`` is
``sum(row) * (k + 1) / 1000`` for logits, their softmax for ``probabilities``.

A drill breaks a model that runs already, and mends it: where the behavior says ``heeds_faults``, every call first looks
for ``<version>.faults.json`` beside the bundle's folder, a :class:`Fault`. Without that file nothing is wrong. Whoever
writes it writes another one and renames it, so that no call reads half of it.
"""

import os
import threading
import time
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.bundle.loader import Bundle
from app.bundle.manifest import TensorSpec
from app.errors import BundleError
from app.tensors import Array, Tensors, num_rows

# of the process, where it was told to end
EXIT_STATUS = 13
# what calls that hang wait for; nobody sets it but a test that wants its threads back
NEVER = threading.Event()


class Behavior(BaseModel):
    """What the dummy does.

    Attributes:
        sleep_s: Seconds that every call takes.
        raise_on: The call raises where any input value equals this.
        panics_on: So, with what is no Exception, as a Rust extension does.
        hangs_on: The call never returns where any input value equals this.
        exits_on: The process ends at once, without any cleanup, where any input value equals this, as it does when a
            runtime crashes or the kernel takes its memory back; with status 13.
        nan_on: The rows where any input value equals this come out as NaN.
        reverses_on: The rows where any input value equals this come out with the numbers of each output in reverse, as
            another network would answer.
        extra_rows: Rows returned beyond those that went in; negative for fewer.
        fails_after_calls: From this call on, every one raises; None for never.
        heeds_faults: Whether calls look for the file of a fault.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sleep_s: Annotated[float, Field(ge=0)] = 0.0
    raise_on: float | None = None
    panics_on: float | None = None
    hangs_on: float | None = None
    exits_on: float | None = None
    nan_on: float | None = None
    reverses_on: float | None = None
    extra_rows: int = 0
    fails_after_calls: Annotated[int, Field(ge=0)] | None = None
    heeds_faults: bool = False


class Fault(BaseModel):
    """What is wrong with the dummy for now.

    Attributes:
        fault: ``hang`` never returns, whatever becomes of the file; ``raise`` raises; ``wrong`` answers numbers of the
            right shape that are not the model's; ``nan`` answers NaN, and ``rows`` one row too many; ``leak`` answers
            rightly, and keeps memory; ``slow`` answers rightly, and late; ``exit`` ends the process with status 13.
        pid: The process that has it; None for every one.
        leak_bytes: What a call keeps.
        sleep_s: Seconds that a slow call takes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: Literal["hang", "raise", "wrong", "nan", "rows", "leak", "slow", "exit"]
    pid: int | None = None
    leak_bytes: Annotated[int, Field(ge=0)] = 2**20
    sleep_s: Annotated[float, Field(ge=0)] = 1.0


class Panic(BaseException):
    """What PyO3's ``PanicException`` is to Python: not an Exception."""


class DummyBackend:
    """Arithmetic with faults on demand; counts its calls and the rows of each.

    Args:
        behavior: What it does.
        outputs: Of the manifest.
        faults_file: Where a call looks for its fault; None for nowhere.
    """

    def __init__(self, behavior: Behavior, outputs: tuple[TensorSpec, ...], *, faults_file: Path | None = None) -> None:
        self._behavior = behavior
        self._outputs = outputs
        self._faults_file = faults_file
        self._leaked: list[Array] = []
        self.rows_per_call: list[int] = []
        self.is_closed = False
        self.settled_on: Tensors | None = None

    def run(self, inputs: Tensors) -> Tensors:
        """Answer, late, wrongly or not at all; see :class:`app.backends.Backend`."""
        behavior = self._behavior
        self.rows_per_call.append(num_rows(inputs))
        if behavior.sleep_s:
            time.sleep(behavior.sleep_s)
        self._misbehave(inputs)
        fault = self._fault()
        if fault is not None:
            self._suffer(fault)
        sums_B = np.sum([array.reshape(len(array), -1).sum(axis=1, dtype=np.float64) for array in inputs.values()], 0)
        if behavior.nan_on is not None:
            for array in inputs.values():
                sums_B[(array == behavior.nan_on).reshape(len(array), -1).any(axis=1)] = np.nan
        if behavior.extra_rows > 0:
            sums_B = np.concatenate([sums_B, np.zeros(behavior.extra_rows)])
        elif behavior.extra_rows < 0:
            sums_B = sums_B[: behavior.extra_rows]
        if fault is not None:
            sums_B = _spoiled(sums_B, fault)
        outputs = {spec.name: _output(spec, sums_B) for spec in self._outputs}
        return outputs if behavior.reverses_on is None else _reversed(outputs, inputs, behavior.reverses_on)

    def _misbehave(self, inputs: Tensors) -> None:
        behavior = self._behavior
        if behavior.fails_after_calls is not None and len(self.rows_per_call) > behavior.fails_after_calls:
            raise RuntimeError("the dummy was told to fail from now on")
        if _holds(inputs, behavior.raise_on):
            raise RuntimeError(f"the dummy was told to raise on {behavior.raise_on}")
        if _holds(inputs, behavior.panics_on):
            raise Panic(f"the dummy was told to panic on {behavior.panics_on}")
        if _holds(inputs, behavior.exits_on):
            os._exit(EXIT_STATUS)
        if _holds(inputs, behavior.hangs_on):
            NEVER.wait()

    def _fault(self) -> Fault | None:
        """Return what is wrong now, if anything is."""
        if self._faults_file is None:
            return None
        try:
            text = self._faults_file.read_bytes()
        except FileNotFoundError:
            return None
        try:
            fault = Fault.model_validate_json(text)
        except ValidationError:  # whose message would show what the file holds
            raise RuntimeError(f"{self._faults_file.name} holds no fault") from None
        return fault if fault.pid in (None, os.getpid()) else None

    def _suffer(self, fault: Fault) -> None:
        match fault.fault:
            case "hang":
                NEVER.wait()
            case "raise":
                raise RuntimeError("the dummy was told to raise")
            case "exit":
                os._exit(EXIT_STATUS)
            case "leak":
                self._leaked.append(np.ones(fault.leak_bytes, np.uint8))  # written to, or no page of it would be there
            case "slow":
                time.sleep(fault.sleep_s)

    def settle(self, row: Tensors) -> None:
        """Note the row: nothing is kept that could be given back; see :class:`app.backends.Backend`."""
        self.settled_on = row

    def close(self) -> None:
        """Note that it was closed."""
        self.is_closed = True


def _spoiled(sums_B: Array, fault: Fault) -> Array:
    """Return the sums that lead to what a fault answers."""
    match fault.fault:
        case "wrong":
            return sums_B + 1000.0
        case "nan":
            return np.full_like(sums_B, np.nan)
        case "rows":
            return np.concatenate([sums_B, np.zeros(1)])
    return sums_B


def _holds(inputs: Tensors, value: float | None) -> bool:
    return value is not None and any(bool((array == value).any()) for array in inputs.values())


def _output(spec: TensorSpec, sums_B: Array) -> Array:
    shape = tuple(axis for axis in spec.shape[1:] if isinstance(axis, int))
    factors = np.arange(1, int(np.prod(shape)) + 1) / 1000
    scores_BC = sums_B[:, None] * factors
    if spec.name == "probabilities":
        exponentials_BC = np.exp(scores_BC - scores_BC.max(axis=1, keepdims=True))
        scores_BC = exponentials_BC / exponentials_BC.sum(axis=1, keepdims=True)
    return scores_BC.reshape(len(sums_B), *shape).astype(spec.dtype)


def _reversed(outputs: Tensors, inputs: Tensors, value: float) -> Tensors:
    rows_B = np.any([(array == value).reshape(len(array), -1).any(axis=1) for array in inputs.values()], axis=0)
    for array in outputs.values():
        array[rows_B] = array[rows_B, ::-1] if array.ndim > 1 else -array[rows_B]
    return outputs


def load(bundle: Bundle, *, key: str = "dummy", threads: int) -> DummyBackend:
    """Read the behavior from the ``dummy`` artifact; see :class:`app.backends.BackendModule`."""
    del threads  # arithmetic on a few numbers
    try:
        behavior = Behavior.model_validate_json(bundle.read(bundle.artifact(key)))
    except ValidationError as exc:
        raise BundleError(f"the dummy's behavior is not valid: {exc}") from exc
    faults_file = bundle.folder.with_name(f"{bundle.folder.name}.faults.json") if behavior.heeds_faults else None
    return DummyBackend(behavior, bundle.manifest.outputs, faults_file=faults_file)
