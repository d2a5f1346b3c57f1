"""A closed loop of callers over gRPC: messages are bytes made beforehand, and answers are not read."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import grpc
import numpy as np
import uvloop

from benchmarks.load import HOST, Load, Meter, Result

INFER = "/inference.GRPCInferenceService/ModelInfer"
_TIMEOUT_S = 30.0


def ask(port: int, message: bytes) -> bytes:
    """Call once; return the answer as it came.

    Raises:
        ValueError: The server refuses; the message says why.
    """
    with grpc.insecure_channel(f"{HOST}:{port}") as channel:
        try:
            answer: bytes = channel.unary_unary(INFER, None, None)(message, timeout=_TIMEOUT_S)
        except grpc.RpcError as exc:
            raise ValueError(f"gRPC is answered {exc}") from exc
        return answer


def run(port: int, messages: Sequence[bytes], load: Load, meter: Meter = lambda: 0.0) -> Result:
    """Put a server on the loopback under load; see :func:`benchmarks.load.drive`, of which this is the twin."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_drive(port, messages, load, meter))


async def _drive(port: int, messages: Sequence[bytes], load: Load, meter: Meter) -> Result:
    latencies_s: list[float] = []
    failures: Counter[str] = Counter()
    async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
        infer = channel.unary_unary(INFER, None, None)  # bytes as they are

        async def call_on(first: int) -> None:
            number = first
            while True:
                sent_at = time.perf_counter()
                try:
                    await infer(messages[number % len(messages)], timeout=_TIMEOUT_S)
                    latencies_s.append(time.perf_counter() - sent_at)
                except grpc.RpcError as exc:
                    failures[str(exc.code())] += 1
                number += 1

        callers = [asyncio.create_task(call_on(first)) for first in range(load.clients)]
        try:
            await asyncio.sleep(load.warm_up_s)
            latencies_s.clear()
            failures.clear()
            before = time.perf_counter(), time.process_time(), meter()
            await asyncio.sleep(load.measured_s)
            after = time.perf_counter(), time.process_time(), meter()
            found, failed = np.array(latencies_s), Counter(failures)
        finally:
            for caller in callers:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)
    seconds, computed_s, metered = (late - early for early, late in zip(before, after, strict=True))
    return Result(latencies_s=found, failures=failed, seconds=seconds, busy=computed_s / seconds, metered=metered)
