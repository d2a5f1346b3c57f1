"""Calls over gRPC at a steady rate, in a process of its own, until a line comes on stdin.

``python -m tests.drills.soak_grpc TARGET RATE`` prints ``running`` after its first answer and, in the end, how many
calls it made and how many failed.
"""

import asyncio
import sys
import time

import grpc
import uvloop

from benchmarks.scenarios._grpc_load import INFER
from tests.drills import doors
from tests.drills.soak import pause

_TIMEOUT_S = 30.0


async def _call_on(target: str, rate: float) -> tuple[int, int]:
    loop, messages = asyncio.get_running_loop(), doors.messages()
    stopping = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), stopping.set)
    called = failed = 0
    async with grpc.aio.insecure_channel(target) as channel:
        infer = channel.unary_unary(INFER, None, None)
        begun_at = time.monotonic()
        while not stopping.is_set():
            await asyncio.sleep(pause(begun_at, called, rate))
            try:
                await infer(messages[called % len(messages)], timeout=_TIMEOUT_S)
            except grpc.aio.AioRpcError as exc:
                sys.stderr.write(f"{exc.code()}: {exc.details()}\n")
                failed += 1
            called += 1
            if called == 1:
                sys.stdout.write("running\n")
                sys.stdout.flush()
    loop.remove_reader(sys.stdin.fileno())
    return called, failed


def main() -> None:
    """Call until told to stop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        called, failed = runner.run(_call_on(sys.argv[1], float(sys.argv[2])))
    sys.stdout.write(f"{called} {failed}\n")


if __name__ == "__main__":
    main()
