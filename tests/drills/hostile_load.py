"""The hostile crowd, in a process of its own: so many cases a second, and what each of them was answered, as JSON.

``python -m tests.drills.hostile_load PORT GRPC_PORT SEED FIRST COUNT RATE good|hostile`` prints ``running`` and, when
all is over, what became of the cases. Whatever no client may ever cause is saved below build/drills/.
"""

import asyncio
import contextlib
import json
import os
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import grpc
import uvloop

from benchmarks.scenarios._grpc_load import INFER
from tests.drills import doors
from tests.drills.crowd import HOST
from tests.drills.drill import saved
from tests.drills.hostile_cases import Case, Cases

# 501 is for CONNECT, 503 says that and when to come again, 504 that the caller's own deadline has passed
ALLOWED_5XX = {"501", "503", "504"}
ALLOWED_CALLS = {
    "OK", "CANCELLED", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "UNIMPLEMENTED",
    "FAILED_PRECONDITION", "DEADLINE_EXCEEDED",
}  # fmt: skip
# those that wait for no answer look for one all the same
_GLANCE_S = 0.25
_ANSWER_S = 15.0
_MOST_AT_ONCE = 256
_MOST_FAULTS = 100
_MOST_IDLE = 8
_NICE = 5  # the good traffic has its core when it needs it
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_CODE = re.compile(rb'"code": ?"(\w+)"')


@dataclass
class Report:
    """What came of the cases.

    Attributes:
        sent: Cases.
        answers: By kind and by status; ``hung up`` and the like where there was none.
        faults: What no client may cause: kind, what, and where its bytes are saved.
        seconds: From the first case to the last.
    """

    sent: int = 0
    answers: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[tuple[str, str, str]] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, case: Case, what: str, number: int, *, is_fault: bool = False) -> None:
        """Count an answer, or its absence."""
        self.answers.setdefault(case.kind, Counter())[what] += 1
        if is_fault or (what.startswith("5") and what[:3] not in ALLOWED_5XX):
            if len(self.faults) == _MOST_FAULTS:  # enough to know
                return
            path = saved(f"hostile-{number}-{what.replace(' ', '-')}.bin", b"".join(case.parts))
            self.faults.append((case.kind, what, path))


class Load:
    """Sends cases at a steady rate.

    Args:
        port: Of HTTP.
        grpc_port: Of gRPC.
    """

    def __init__(self, port: int, grpc_port: int) -> None:
        self.report = Report()
        self._port, self._grpc_port = port, grpc_port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._room = asyncio.Semaphore(_MOST_AT_ONCE)

    async def send(self, cases: Cases, first: int, count: int, rate: float, *, is_hostile: bool) -> None:
        """Send so many, and return when all have come to an end."""
        begun_at = time.monotonic()
        async with grpc.aio.insecure_channel(f"{HOST}:{self._grpc_port}") as channel, asyncio.TaskGroup() as group:
            self._call = channel.unary_unary(INFER, None, None)
            for number in range(first, first + count):
                case = cases.case(number) if is_hostile else cases.good(number)
                wait_s = begun_at + (number - first) / rate - time.monotonic()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                await self._room.acquire()
                group.create_task(self._one(case, number))
        for _, writer in self._idle:
            writer.close()
        self.report.seconds = time.monotonic() - begun_at

    async def _one(self, case: Case, number: int) -> None:
        self.report.sent += 1
        try:
            if case.kind == "gRPC message":
                await self._message(case, number)
            elif case.answers > 0:
                await self._expecting(case, number)
            else:
                await self._glancing(case, number)
        except TimeoutError:
            self.report.count(case, "no answer in time", number, is_fault=True)
        except OSError as exc:
            self.report.count(case, type(exc).__name__, number, is_fault=isinstance(exc, ConnectionRefusedError))
        finally:
            self._room.release()

    async def _message(self, case: Case, number: int) -> None:
        try:
            await self._call(case.parts[0], timeout=_ANSWER_S)
            code = "OK"
        except grpc.aio.AioRpcError as exc:
            code = exc.code().name
        self.report.count(case, code, number, is_fault=code not in ALLOWED_CALLS)

    async def _expecting(self, case: Case, number: int) -> None:
        """Wait for every answer; one that does not come is a fault, unless the connection was told to close."""
        reader, writer = (self._take_idle() if case.is_kept else None) or await asyncio.open_connection(
            HOST, self._port
        )
        is_open = True
        try:
            async with asyncio.timeout(_ANSWER_S):
                for part in case.parts:
                    if writer.transport.is_closing():  # it may have been answered before its end
                        break
                    writer.write(part)
                    with contextlib.suppress(ConnectionError):
                        await writer.drain()
                for _ in range(case.answers):
                    status, is_open = await _answer(reader)
                    self.report.count(case, status, number)
                    if not is_open:
                        break
        except (asyncio.IncompleteReadError, ConnectionError):
            self.report.count(case, "no answer", number, is_fault=case.kind != "oversized")
            is_open = False
        finally:
            if is_open and case.is_kept and sys.exc_info()[0] is None:
                self._idle.append((reader, writer))
            else:
                writer.close()

    def _take_idle(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """Return a connection that was used a moment ago; those that were not, the service closes by and by."""
        for _, writer in self._idle[:-_MOST_IDLE]:
            writer.close()
        del self._idle[:-_MOST_IDLE]
        return self._idle.pop() if self._idle else None

    async def _glancing(self, case: Case, number: int) -> None:
        """Write, look for a moment whether something is answered, and hang up."""
        port = self._grpc_port if case.kind == "gRPC bytes" else self._port
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            for place, part in enumerate(case.parts):
                if place and case.rest_s:
                    await asyncio.sleep(case.rest_s)
                if writer.transport.is_closing():
                    break
                writer.write(part)
            found = b""
            if case.answers == 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_GLANCE_S):
                        while piece := await reader.read(65_536):
                            found += piece
            else:  # deaf
                await asyncio.sleep(_GLANCE_S)
            statuses = [status.decode() for status in _STATUS.findall(found)] or ["silence"]
            for status in statuses:
                self.report.count(case, status, number)
        finally:
            writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[str, bool]:
    """Return the status of a whole answer, of a 503 with its code, and whether the connection goes on."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = head[9:12].decode()
    length = re.search(rb"\r\ncontent-length: *(\d+)", head)
    if length is not None:
        body = await reader.readexactly(int(length[1]))
        code = _CODE.search(body) if status == "503" else None
        status += f" {code[1].decode()}" if code is not None else ""
    elif b"\r\ntransfer-encoding: chunked" in head:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(size + 2)
        await reader.readexactly(2)
    return status, b"\r\nconnection: close" not in head


def main() -> None:
    """Do what the arguments say."""
    port, grpc_port, seed, first, count = map(int, sys.argv[1:6])
    rate, is_hostile = float(sys.argv[6]), sys.argv[7] == "hostile"
    os.nice(_NICE)
    cases = Cases(doors.asks(), doors.messages(), seed)

    async def send() -> Report:
        load = Load(port, grpc_port)
        sys.stdout.write("running\n")
        sys.stdout.flush()
        await load.send(cases, first, count, rate, is_hostile=is_hostile)
        return load.report

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(send())
    sys.stdout.write(json.dumps(vars(report)) + "\n")


if __name__ == "__main__":
    main()
