"""Whose turn it is: first come, first served, until more waits than one batch holds; then fair between clients.

What fits the next batch goes with it whatever its order, so it stands in one line, and fairness costs nothing. Beyond
that each client has a lane of its own, and the lanes are served by start-time fair queueing (Goyal, Vin and Cheng,
"Start-time Fair Queueing", SIGCOMM 1996): a lane carries a start tag, the rows that it had been served with when its
head came to the front, and the lowest tag is served. While two clients both wait in lanes, the rows served to them
differ by no more than one piece of each, whatever the others do and however fast the model is (theorem 1 there, with
equal weights). A piece is what one batch takes of a request. Rows that were canceled, are late, or were put out cost
their client nothing.

A lane that is new, or comes back, starts one row after the tag that is served, not at it: so time passes however many
new clients come, and whoever was served before waits behind those who stand there already, and nobody who comes later.

When the queue is full, its fair share is what each client may hold: whoever holds less is let in, and the newest
requests of whoever holds the most are put out for it; those that were run in part only when no others are left.
"""

import itertools
from collections import deque
from collections.abc import Iterator
from heapq import heapify, heappop, heappush, heapreplace

from app.serving.jobs import Job

# lanes of clients who are gone are looked for when there are twice as many as after the last look, and so many more
_SPARE_LANES = 64


class _Lane:
    """The jobs of one client.

    Attributes:
        start: The tag of its head; without jobs, the tag that its next one starts from, unless time has passed it.
        rows: That wait in it.
    """

    __slots__ = ("jobs", "rows", "start")

    def __init__(self, start: int) -> None:
        self.jobs: deque[Job] = deque()
        self.rows = 0
        self.start = start

    def pop_newest(self) -> Job:
        """Take out the job that came last; one that was run in part stands at the end too, but came before."""
        jobs = self.jobs
        back = next((back for back, job in enumerate(reversed(jobs), 1) if not job.taken_rows), 1)
        job = jobs[-back]
        del jobs[-back]
        self.rows -= job.rows - job.taken_rows
        return job


class FairOrder:
    """Jobs that wait, and which of them is next.

    Args:
        sure_rows: Rows that the next batch holds for sure.

    Attributes:
        sure_rows: As given; whoever knows better may lower it.
        waiting_rows: Rows that wait, those of callers who left meanwhile included.
        waiting_elements: The sum of their lengths, where rows have any.
        window_rows: Those of them that have left the order, and still wait for rows that suit them.
        taken_units: Of the batch that was taken last, what its cost grows with: rows times padded length, or rows.
        late: Jobs whose deadline had passed when their turn came. Whoever takes a batch answers them, and clears the
            list, when the queue is in order: the callback of a job may queue the next.
    """

    __slots__ = (
        "_heap",
        "_lanes",
        "_line",
        "_line_rows",
        "_now",
        "_prune_at",
        "_tie",
        "late",
        "sure_rows",
        "taken_units",
        "waiting_elements",
        "waiting_rows",
        "window_rows",
    )

    def __init__(self, sure_rows: int) -> None:
        self.sure_rows = sure_rows
        self._line: deque[Job] = deque()
        self._line_rows = 0
        self._lanes: dict[str, _Lane] = {}
        self._prune_at = _SPARE_LANES  # so many lanes
        # lanes with jobs, by start tag; a tie goes to whoever has not been served for longer
        self._heap: list[tuple[int, int, _Lane]] = []
        self._tie = itertools.count()
        self._now = 0  # virtual time: the start tag that is served
        self.waiting_rows = 0
        self.waiting_elements = 0
        self.window_rows = 0
        self.taken_units = 0
        self.late: list[Job] = []

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return bool(self._line) or bool(self._heap)

    def __iter__(self) -> Iterator[Job]:
        return itertools.chain(self._line, *(lane.jobs for _, _, lane in self._heap))

    @property
    def first(self) -> Job:
        """The job whose turn is next."""
        return self._head()

    def push(self, job: Job) -> None:
        """Queue a job up behind the others of its client."""
        rows = job.rows
        self.waiting_rows += rows
        if not self._heap and self._line_rows + rows <= self.sure_rows:
            self._line.append(job)
            self._line_rows += rows
        else:
            self._place(job)

    def clear(self) -> list[Job]:
        """Take out all jobs at once."""
        jobs = list(self)
        self._line.clear()
        self._reset()
        self.waiting_rows = self.waiting_elements = 0
        return jobs

    def drop_answered(self) -> None:
        """Forget the jobs that wait for nobody any more; a look at all that waits."""
        gone = [job for job in self._line if job.is_done]
        if gone:
            self._line = deque(job for job in self._line if not job.is_done)
            self._line_rows = sum(job.rows - job.taken_rows for job in self._line)
        for _, _, lane in self._heap:
            left = [job for job in lane.jobs if job.is_done]
            if left:
                gone += left
                lane.jobs = deque(job for job in lane.jobs if not job.is_done)
                lane.rows -= sum(job.rows - job.taken_rows for job in left)
        self._heap = [entry for entry in self._heap if entry[2].jobs]
        heapify(self._heap)
        if not self._heap:
            self._reset()
        for job in gone:
            self._forget(job)

    def rows_ahead(self, client: str) -> int:
        """Estimate how many of the waiting rows would be served before the next request of a client."""
        lanes = len(self._heap)
        soon = self._line_rows + self.window_rows
        if not lanes:
            return soon
        lane = self._lanes.get(client)
        behind = 0  # how far its tag would be behind that of a new lane
        if lane is not None:
            lanes += not lane.jobs
            behind = max(0, lane.start - self._fresh) + lane.rows
        else:
            lanes += 1
        # each lane is served up to that tag; a lane that is not there yet, and its equals, have one row each before it
        return soon + min(self.waiting_rows - soon, behind * lanes + lanes - 1)

    def may_put_out(self, rows: int, client: str, limit: int) -> bool:
        """Tell whether a client would hold no more than its fair share of a full queue.

        Args:
            rows: That would come.
            client: Whose they are.
            limit: Most rows that may wait.
        """
        lane = self._lanes.get(client)
        held = lane.rows if lane is not None else 0
        return held + rows <= self._share(limit, is_new=not held)

    def put_out(self, rows: int, client: str, limit: int) -> list[Job]:
        """Make room for a client that may put out others, and return their jobs, for whoever calls to answer."""
        share = self._share(limit, is_new=client not in self._lanes or not self._lanes[client].jobs)
        out: list[Job] = []
        while self.waiting_rows + rows > limit:
            greedy = max((entry[2] for entry in self._heap), key=lambda lane: lane.rows)
            assert greedy.rows > share, "if nobody held more than a fair share, all would fit"
            job = greedy.pop_newest()
            out.append(job)
            self._forget(job)
            if not greedy.jobs:
                self._heap = [entry for entry in self._heap if entry[2] is not greedy]
                heapify(self._heap)
        return out

    def _share(self, limit: int, *, is_new: bool) -> float:
        # what is in no lane is served next, and is not put out
        return (limit - self._line_rows - self.window_rows) / (len(self._heap) + is_new)

    @property
    def _fresh(self) -> int:
        """The tag of a new lane."""
        return self._now + 1

    def _head(self) -> Job:
        return self._line[0] if self._line else self._heap[0][2].jobs[0]

    def _place(self, job: Job) -> None:
        rows = job.rows - job.taken_rows
        if not self._heap and self._line_rows + rows <= self.sure_rows:
            self._line.append(job)
            self._line_rows += rows
            return
        lane = self._lanes.get(job.client)
        if lane is None:
            lane = self._lanes[job.client] = _Lane(self._fresh)
        if not lane.jobs:
            lane.start = max(lane.start, self._fresh)
            heappush(self._heap, (lane.start, next(self._tie), lane))
        lane.jobs.append(job)
        lane.rows += rows

    def _advance(self, rows: int) -> None:
        """Serve rows of the first job; what is left of it queues up behind the others of its client."""
        if self._line:
            job = self._line.popleft()
            self._line_rows -= job.rows - job.taken_rows
            job.taken_rows += rows
        else:
            lane = self._heap[0][2]
            job = lane.jobs.popleft()
            lane.rows -= job.rows - job.taken_rows
            job.taken_rows += rows
            if job.taken_rows < job.rows:
                lane.jobs.append(job)
                lane.rows += job.rows - job.taken_rows
            self._charge(lane, rows)
            return
        if job.taken_rows < job.rows:
            self._place(job)

    def _drop_first(self) -> None:
        """Take the first job out, unserved."""
        if self._line:
            job = self._line.popleft()
            self._line_rows -= job.rows - job.taken_rows
        else:
            lane = self._heap[0][2]
            job = lane.jobs.popleft()
            lane.rows -= job.rows - job.taken_rows
            if not lane.jobs:
                self._charge(lane, 0)
        self._forget(job)
        if not job.is_done:
            self.late.append(job)

    def _charge(self, lane: _Lane, rows: int) -> None:
        self._now = lane.start
        lane.start += rows
        if lane.jobs:
            heapreplace(self._heap, (lane.start, next(self._tie), lane))
            return
        heappop(self._heap)
        if not self._heap:
            self._reset()
        elif len(self._lanes) >= self._prune_at:  # forget clients who are gone, and have nothing to make up for
            self._lanes = {
                client: lane for client, lane in self._lanes.items() if lane.jobs or lane.start > self._fresh
            }  # fmt: skip
            self._prune_at = 2 * len(self._lanes) + _SPARE_LANES

    def _forget(self, job: Job) -> None:
        self.waiting_rows -= job.rows - job.taken_rows
        self.waiting_elements -= job.elements

    def _reset(self) -> None:
        self._lanes, self._heap, self._now = {}, [], 0
        self._prune_at = _SPARE_LANES
        self._line_rows = sum(job.rows - job.taken_rows for job in self._line)
