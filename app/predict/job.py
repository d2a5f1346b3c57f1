"""A whole file through a model: begun, gone on with where it stopped, and brought to its end under its own name."""

import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from app.bundle.files import sync_folder
from app.predict import model as models
from app.predict import sinks, sources
from app.predict.columns import columns_of
from app.predict.errors import EXIT_SOME_REJECTED, Stopped
from app.predict.fields import fields_of
from app.predict.journal import Growing, Journal, Progress
from app.predict.model import LocalModel
from app.predict.pipeline import Done, Pipeline
from app.predict.progress import Progress as Watched
from app.predict.request import Paths, Request, expect_free, remove
from app.predict.resuming import head_of, how_before
from app.predict.sources import Reading, Source
from app.settings import Settings

# how much may be lost when the process is killed, and how much when the machine is
NOTE_EVERY_S = 0.2
SYNC_EVERY_S = 10.0
# a chunk is large enough that what a chunk costs does not count, and small enough that a few fit any memory
CHUNK_ROWS = 1024
CHUNK_BYTES = 16 * 2**20
# threads that decode let go of the interpreter so often: another that has finished a batch waits no longer
SWITCH_INTERVAL_S = 0.0005


def run(request: Request, settings: Settings) -> int:
    """Answer a whole input; return 0, or 3 where rows were set aside.

    Raises:
        BadUse: It cannot be begun, or gone on with.
        Stopped: It cannot be brought to its end; the same command goes on with it.
        BundleError: The bundle cannot be loaded, or is not proven.
    """
    paths = Paths(request.output)
    kind = sources.format_of(request.input, request.input_format)
    out_kind = sinks.format_of(request.output, request.output_format)
    expect_free(request, paths)
    head = head_of(request, settings, kind=kind, out_kind=out_kind)
    with closing(Journal(paths.journal)) as journal, journal.unless_empty():
        before = how_before(journal, head, paths, request)
        if before is not None and journal.last is not None and journal.last.is_whole and not paths.partial.exists():
            # it was killed between the last rename and the removal of the journal
            return _conclude(journal, paths, journal.last)
        model = models.load(
            request.ref,
            settings,
            threads=request.threads,
            batch_rows=request.batch_rows,
            max_instances=max(CHUNK_ROWS, request.batch_rows or 0),
            as_before=before,
        )
        for note in model.notes:
            sys.stderr.write(f"note: {note}\n")
        with _opened(request, kind, settings, model) as source:
            todo = _Job(request, paths, journal, model, source, out_kind)
            # only now: what cannot be begun leaves no checkpoint that the mended command would stumble over
            if before is None:
                remove(*paths.growing.values())
                journal.begin({**head, "how": dataclasses.asdict(model.how)})
            return todo.run()


class _Job:
    def __init__(
        self, request: Request, paths: Paths, journal: Journal, model: LocalModel, source: Source, out_kind: str
    ) -> None:
        self._request = request
        self._paths = paths
        self._journal = journal
        self._source = source
        task = model.task
        # whatever top_k leaves out, a table has a column for every label
        whole = {name: value for name, value in request.query.items() if name != "top_k"}
        (sample,) = task.encode(model.sample, task.parse_options(whole))
        self._sink = sinks.open_sink(
            out_kind,
            columns_of(sample, with_probabilities=request.with_probabilities or "top_k" in request.query),
            has_ids=source.has_ids,
            keep=source.keep,
            wide_floats=sinks.is_wide([spec.dtype for spec in model.manifest.outputs]),
        )
        is_ragged = any(isinstance(axis, str) for spec in model.manifest.inputs for axis in spec.shape[1:])
        self._pipeline = Pipeline(model, source, self._sink, request.query, is_ragged=is_ragged)

    def run(self) -> int:
        """Go on from where the files and the journal agree, to the end."""
        progress = self._journal.agree(self._paths.growing)
        self._expect_few_rejected(progress)
        if not progress.is_whole:
            progress = self._grow(progress)
        made = self._sink.finish(self._paths.partial, self._request.output)
        if made != self._paths.partial:
            with made.open("rb+") as file:
                Growing.sync_file(file)
            made.replace(self._request.output)
            remove(self._paths.partial)
        else:
            made.replace(self._request.output)
        return _conclude(self._journal, self._paths, progress)

    def _grow(self, progress: Progress) -> Progress:
        files = {
            name: Growing(path, *progress.files.get(name, (0, 0))) for name, path in self._paths.growing.items()
        }  # fmt: skip
        if progress.rows:
            sys.stderr.write(f"going on after row {progress.rows - 1}\n")
        if not files["output"].size:
            files["output"].write(self._sink.head())
        try:
            return self._append(progress, files)
        finally:
            for file in files.values():
                file.close()

    def _append(self, progress: Progress, files: dict[str, Growing]) -> Progress:
        noted_at = synced_at = time.monotonic()
        noted = progress
        before_s = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        try:
            with self._watched(progress) as watched:
                for done in self._pipeline.run(progress.position):
                    progress = _grown(progress, done, files)
                    watched.tell(done.chunk.done, done.chunk.num_rows, progress.rejected)
                    self._expect_few_rejected(progress)
                    if time.monotonic() - noted_at >= NOTE_EVERY_S:
                        self._journal.add(progress)
                        noted, noted_at = progress, time.monotonic()
                    if time.monotonic() - synced_at >= SYNC_EVERY_S:
                        self._sync(files)
                        synced_at = time.monotonic()
            progress = dataclasses.replace(progress, files=_sizes(files), is_whole=True)
        finally:
            sys.setswitchinterval(before_s)
            if progress is not noted:  # on an error and on Ctrl-C too
                self._journal.add(progress)
            self._sync(files)
        self._expect_few_rejected(progress)
        return progress

    def _watched(self, progress: Progress) -> Watched:
        source = self._source
        done = progress.position.get("byte" if source.unit == "B" else "row", 0)
        return Watched(is_shown=self._request.is_shown, total=source.total, done=done, unit=source.unit)

    def _sync(self, files: dict[str, Growing]) -> None:
        for file in files.values():
            file.sync()
        self._journal.sync()

    def _expect_few_rejected(self, progress: Progress) -> None:
        most = self._request.max_rejected
        if most is None:
            return
        if isinstance(most, int):
            is_beyond = progress.rejected > most
        else:  # of a share, nothing can be said before the end
            is_beyond = progress.is_whole and progress.rejected > most * progress.rows
        if is_beyond:
            told = f"{most}" if isinstance(most, int) else f"{most:.4g} of all"
            raise Stopped(
                f"{progress.rejected} of {progress.rows} rows are rejected, more than --max-rejected allows ({told}); "
                f"the reasons are in {self._paths.rejected_partial}"
            )


def _grown(progress: Progress, done: Done, files: dict[str, Growing]) -> Progress:
    files["output"].write(done.output)
    files["rejected"].write(
        b"".join(json.dumps(each.as_json(), default=str).encode() + b"\n" for each in done.rejections)
    )
    return Progress(
        position=done.chunk.end,
        rows=progress.rows + done.chunk.num_rows,
        rejected=progress.rejected + len(done.rejections),
        files=_sizes(files),
    )


def _sizes(files: dict[str, Growing]) -> dict[str, tuple[int, int]]:
    return {name: (file.size, file.crc) for name, file in files.items()}


def _conclude(journal: Journal, paths: Paths, progress: Progress) -> int:
    """Give the rejected rows their name, and forget the journal; may be called again where it was cut off."""
    if paths.rejected_partial.exists():
        if progress.rejected:
            paths.rejected_partial.replace(paths.rejected)
        else:
            remove(paths.rejected_partial, paths.rejected)
    sync_folder(paths.output.absolute().parent)
    journal.remove()
    good = progress.rows - progress.rejected
    sys.stderr.write(f"{good} rows answered: {paths.output}\n")
    if progress.rejected:
        sys.stderr.write(f"{progress.rejected} rows rejected: {paths.rejected}\n")
    return EXIT_SOME_REJECTED if progress.rejected else 0


@contextmanager
def _opened(request: Request, kind: str, settings: Settings, model: LocalModel) -> Iterator[Source]:
    reading = Reading(
        fields=fields_of(model.task),
        id_column=request.id_column,
        keep=request.keep,
        delimiter=request.delimiter,
        chunk_rows=chunk_rows(model.how.max_rows, _row_bytes(model)),
        chunk_bytes=CHUNK_BYTES,
        max_row_bytes=settings.max_body_bytes,
    )
    source = sources.open_source(request.input, kind, reading)
    try:
        yield source
    finally:
        source.close()


def chunk_rows(max_rows: int, row_bytes: int) -> int:
    """Return the rows of a chunk: full batches to its last, and of large rows no more than fit."""
    most = min(CHUNK_ROWS, CHUNK_BYTES // max(1, row_bytes))
    return max(1, most // max_rows) * max_rows


def _row_bytes(model: LocalModel) -> int:
    """Return the bytes of a row of the inputs, as far as their shapes tell."""
    raw = model.task.raw
    if raw is None or raw.row_shape is None:
        return 0
    size = raw.dtype.itemsize
    for axis in raw.row_shape:
        size *= axis
    return size
