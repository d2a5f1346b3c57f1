"""Serves golden requests in this process as the service does, without HTTP: decode, queue, batch, backend, encode."""

import asyncio
import dataclasses
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import orjson

from app import backends, tasks
from app.backends import Backend, Device
from app.bundle.golden import GoldenRows
from app.bundle.loader import Bundle
from app.bundle.manifest import Manifest
from app.bundle.tuning import Choice
from app.errors import BundleError
from app.serving.batcher import Batcher
from app.serving.catalog import LOOP_BATCH_S
from app.serving.proof import full_batch, promised, prove
from app.settings import Settings
from app.tensors import Tensors

FULL_BATCHES = 7
# a batch of a large model takes longer than a visit; two tell more than one
_LEAST_CALLS = 2
_DEADLINE_S = 600.0


class Bench:
    """One model with its golden requests.

    Args:
        bundle: Whose artifacts are measured.
        settings: Say what may be loaded, and on which device.
        clients: Requests in flight, each of one row.
        clock: Seconds.
    """

    def __init__(
        self, bundle: Bundle, settings: Settings, *, clients: int, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._bundle = bundle
        self._settings = settings
        self._clients = clients
        self._clock = clock
        limits = tasks.Limits(max_instances=settings.max_instances, max_image_pixels=settings.max_image_pixels)
        self._task = tasks.create(bundle, limits)
        self._options = self._task.parse_options({})
        requests = bundle.golden().requests
        self._bodies = [json.dumps({"instances": [request]}).encode() for request in requests]
        self._loaded: tuple[str, int, Backend] | None = None
        self._devices: dict[str, Device] = {}
        self._golden: dict[str, GoldenRows] = {}
        self._full_batch_s: dict[str, float] = {}

    def device_of(self, choice: Choice) -> Literal["cpu", "cuda"]:
        """Tell where a choice computes."""
        return backends.device_of(self._backend(choice))

    def prove(self, choice: Choice) -> None:
        """Replay the golden rows as this choice would; as the service, under ``auto`` on the CPU where the GPU fails.

        Raises:
            BundleError: It does not load, or is not proven.
        """
        try:
            self._prove(choice)
        except BundleError:
            if self._device(choice) != "auto" or self._loaded is None or self.device_of(choice) == "cpu":
                raise
            self._devices[choice.backend] = "cpu"  # for whatever is measured of it from here on
            self.close()
            self._prove(choice)

    def _prove(self, choice: Choice) -> None:
        manifest = self._manifest(choice)
        prove(promised(self._backend(choice).run, manifest), manifest, self._golden_of(choice), choice.backend)

    def full_batch_s(self, choice: Choice) -> float:
        """Return the seconds of a full batch: the fastest of some, as in the warm-up; the others tell of the load."""
        known = choice.model_copy(update={"run_on": "auto"}).model_dump_json()
        if known not in self._full_batch_s:
            backend = self._backend(choice)
            full = full_batch(self._golden_of(choice).inputs, choice.batching)
            backend.run(full)
            seconds: list[float] = []
            for _ in range(FULL_BATCHES):
                started_at = self._clock()
                backend.run(full)
                seconds.append(self._clock() - started_at)
            self._full_batch_s[known] = min(seconds)
        return self._full_batch_s[known]

    def runs_on(self, choice: Choice) -> Literal["loop", "thread"]:
        """Return where batches would run; ``auto`` as the service decides it."""
        if choice.run_on != "auto":
            return choice.run_on
        is_short = self.full_batch_s(choice) <= LOOP_BATCH_S
        return "loop" if is_short and self.device_of(choice) == "cpu" else "thread"

    async def rows_per_s(self, choice: Choice, seconds: float) -> float:
        """Answer golden requests for so long, and return how many a second.

        Raises:
            ServingError: The model fails on them.
        """
        manifest, backend = self._manifest(choice), self._backend(choice)
        run, calls = promised(backend.run, manifest), 0

        def counted(inputs: Tensors) -> Tensors:
            nonlocal calls
            calls += 1
            return run(inputs)

        executor = ThreadPoolExecutor(1) if self.runs_on(choice) == "thread" else None
        batcher = Batcher(
            counted,
            is_well=lambda: True,
            max_rows=manifest.batching.max_rows,
            max_queue_rows=self._clients,
            max_elements=manifest.batching.max_elements,
            inputs=manifest.inputs,
            length_buckets=self._settings.length_buckets,
            max_wait_s=manifest.batching.max_wait_ms / 1e3,
            executor=executor,
        )
        answered = 0

        async def client(first: int) -> None:
            nonlocal answered
            turn = first
            while True:
                body = self._bodies[turn % len(self._bodies)]
                turn += 1
                tensors = self._task.decode_fast(body)
                if tensors is None:
                    tensors = self._task.decode_json(json.loads(body))
                answer = await batcher.submit(tensors, deadline=time.monotonic() + _DEADLINE_S)
                orjson.dumps(self._task.encode(answer.outputs, self._options))
                answered += 1

        callers = [asyncio.ensure_future(client(first)) for first in range(self._clients)]
        try:
            started_at = self._clock()
            while (spent_s := self._clock() - started_at) < seconds or calls < _LEAST_CALLS or not answered:
                await asyncio.wait(callers, timeout=max(0.001, seconds - spent_s), return_when=asyncio.FIRST_EXCEPTION)
                for caller in callers:
                    if caller.done():
                        caller.result()
            return answered / spent_s
        finally:
            for caller in callers:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)
            if executor is not None:  # the batch that runs
                await asyncio.get_running_loop().run_in_executor(executor, lambda: None)
                executor.shutdown()

    def close(self) -> None:
        """Give back what the runtime holds."""
        if self._loaded is not None:
            self._loaded[2].close()
            self._loaded = None

    def _device(self, choice: Choice) -> Device:
        return self._devices.get(choice.backend, self._settings.device)

    def _manifest(self, choice: Choice) -> Manifest:
        return self._bundle.manifest.model_copy(update={"batching": choice.batching})

    def _golden_of(self, choice: Choice) -> GoldenRows:
        if choice.backend not in self._golden:
            self._golden[choice.backend] = self._bundle.golden(choice.backend)
        return self._golden[choice.backend]

    def _backend(self, choice: Choice) -> Backend:
        """Return a loaded backend; one at a time, since torch has one number of threads for all of its modules."""
        if self._loaded is None or self._loaded[:2] != (choice.backend, choice.threads):
            self.close()
            _, backend = backends.load(
                choice.backend,
                dataclasses.replace(self._bundle, manifest=self._manifest(choice)),
                threads=choice.threads,
                allowed=("torchscript",) if self._settings.allow_torchscript else (),
                device=self._device(choice),
            )
            self._loaded = (choice.backend, choice.threads, backend)
        return self._loaded[2]
