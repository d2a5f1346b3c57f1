"""Chunks through several threads at once, written in the order of the input.

Each thread takes a chunk all the way: it reads the rows, decodes, computes and encodes. While one decodes, another
computes, since the runtimes let go of the interpreter; and nothing is handed from thread to thread in between. Only so
many chunks are on their way at once, which bounds memory however large the input is.
"""

import queue
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from app.predict.columns import Predictions
from app.predict.computing import Answers, compute
from app.predict.decoding import decode_block, decode_rows
from app.predict.model import LocalModel, Runner
from app.predict.rows import Block, Chunk, Rejection, Row
from app.predict.sinks import Answered, Sink
from app.predict.sources import Source
from app.tasks import Task
from app.tensors import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A chunk that went all the way.

    Attributes:
        chunk: It.
        output: What is appended to the output.
        rejections: Rows that were set aside, in the order of the input.
    """

    chunk: Chunk
    output: bytes
    rejections: list[Rejection]


class Pipeline:
    """One input, one model, one format of output.

    Args:
        model: Answers.
        source: Is read.
        sink: Encodes.
        query: Options of the task, as a request would have them.
        is_ragged: Whether rows may be of different shapes.
    """

    def __init__(
        self, model: LocalModel, source: Source, sink: Sink, query: Mapping[str, str], *, is_ragged: bool
    ) -> None:
        self._model = model
        self._source = source
        self._sink = sink
        self._options = model.task.parse_options(query)
        self._is_ragged = is_ragged
        self._free: queue.SimpleQueue[Runner] = queue.SimpleQueue()
        for runner in model.runners:
            self._free.put(runner)

    def run(self, position: Mapping[str, int]) -> Iterator[Done]:
        """Yield chunks from a position of the input on, in its order.

        Raises:
            Stopped: The input cannot be read any further, or the model fails on its own golden rows.
        """
        threads = len(self._model.runners)
        waiting: deque[Future[Done]] = deque()
        with ThreadPoolExecutor(threads, thread_name_prefix="predict") as pool:
            try:
                for chunk in self._source.chunks(position):
                    waiting.append(pool.submit(self._through, chunk))
                    # each thread at work has one more before it, and one that is written
                    while len(waiting) > 2 * threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _through(self, chunk: Chunk) -> Done:
        runner = self._free.get()
        try:
            return self._answer(chunk, runner)
        finally:
            self._free.put(runner)

    def _answer(self, chunk: Chunk, runner: Runner) -> Done:
        task, how = runner.task, self._model.how
        rows = self._source.rows(chunk, task)
        decoded = (
            decode_block(task, rows, chunk.first_row)
            if isinstance(rows, Block)
            else decode_rows(task, rows, chunk.first_row, is_ragged=self._is_ragged)
        )
        answers, failed = compute(
            decoded, runner.run, first_row=chunk.first_row, max_rows=how.max_rows, max_elements=how.max_elements
        )
        places = answers.rows_B.tolist()
        ids, kept = self._own(rows, places)
        output = b""
        if places:
            predictions = self._predictions(task, answers)
            output = self._sink.encode(
                Answered(rows_B=answers.rows_B + chunk.first_row, ids=ids, kept=kept, predictions=predictions)
            )
        rejections = decoded.rejections + [_with_row(each, rows, chunk.first_row) for each in failed]
        return Done(chunk=chunk, output=output, rejections=sorted(rejections, key=lambda each: each.row))

    def _predictions(self, task: Task, answers: Answers) -> Predictions:
        """Return predictions as arrays where the table is made of such; a document for each costs ten times as much."""
        if self._sink.columns is not None and len(answers.parts) == 1:
            members: dict[tuple[str, ...], Array] = {
                (name,): array for name, array in task.columns(answers.parts[0]).items()
            }
            if all(column.path in members for column in self._sink.columns):
                return Predictions(members)
        return Predictions({}, answers.predictions(lambda outputs: task.encode(outputs, self._options)))

    def _own(self, rows: list[Row] | Block, places: list[int]) -> tuple[list[Any] | None, dict[str, Any]]:
        """Return names and passed-on columns of some rows."""
        source = self._source
        if isinstance(rows, Block):
            ids = None if rows.ids is None else [rows.ids[place] for place in places]
            return ids, {name: [column[place] for place in places] for name, column in rows.kept.items()}
        ids = [rows[place].id for place in places] if source.has_ids else None
        return ids, {
            name: [rows[place].kept[index] for place in places] for index, name in enumerate(source.keep)
        }  # fmt: skip


def _with_row(rejection: Rejection, rows: list[Row] | Block, first_row: int) -> Rejection:
    """Return a rejection by the model, with what the input has of its row."""
    place = rejection.row - first_row
    if isinstance(rows, Block):
        id_ = None if rows.ids is None else rows.ids[place]
        return Rejection(row=rejection.row, code=rejection.code, message=rejection.message, id=id_)
    row = rows[place]
    return Rejection(
        row=rejection.row, code=rejection.code, message=rejection.message, line=row.line, id=row.id, text=row.text
    )
