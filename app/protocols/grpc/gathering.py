"""Calls that come at once go on together.

gRPC's server for asyncio takes one call off its wire with each turn of the event loop. A model that computes on the
loop would start with the first of them, and again with the next: a batch for each call, however many wait. So a call
waits until the loop has turned idly for a while, microseconds, which is when no other is on its way.
"""

import asyncio

# of the loop, without another call: where calls come one by one, and where several have come together lately
ALONE_TURNS, TOGETHER_TURNS = 1, 20
# groups of one in a row before calls count as coming one by one
MAX_LONE_GROUPS = 16


class Gathering:
    """Lets calls on in groups."""

    def __init__(self) -> None:
        self._group: list[asyncio.Future[None]] = []
        self._turns_left = 0
        self._lone_groups = MAX_LONE_GROUPS

    def join(self) -> "asyncio.Future[None]":
        """Return what is done once nobody else is waited for."""
        loop = asyncio.get_running_loop()
        self._turns_left = TOGETHER_TURNS if self._lone_groups < MAX_LONE_GROUPS else ALONE_TURNS
        if not self._group:
            loop.call_soon(self._look)
        joined = loop.create_future()
        self._group.append(joined)
        return joined

    def _look(self) -> None:
        if self._turns_left:
            self._turns_left -= 1
            asyncio.get_running_loop().call_soon(self._look)
            return
        group, self._group = self._group, []
        self._lone_groups = 0 if len(group) > 1 else self._lone_groups + 1
        for joined in group:
            if not joined.done():  # its caller may have given up
                joined.set_result(None)
