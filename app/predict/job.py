"""A whole file through a model: begun, gone on with where it stopped, and brought to its end under its own name."""

import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.bundle.loader import MANIFEST_FILE, BundleRef
from app.predict import model as models
from app.predict import sinks, sources
from app.predict.columns import columns_of
from app.predict.errors import EXIT_SOME_REJECTED, BadUse, Stopped
from app.predict.fields import fields_of
from app.predict.journal import Growing, Journal, Progress, sync_folder
from app.predict.model import HowToRun, LocalModel
from app.predict.pipeline import Done, Pipeline
from app.predict.progress import Progress as Watched
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be done.

    Attributes:
        ref: The bundle.
        input: File or folder.
        output: File.
        input_format: None for what the suffix says.
        output_format: Likewise.
        id_column: See :class:`app.predict.sources.Reading`.
        keep: Likewise.
        delimiter: Likewise.
        query: Options of the task, as a request would have them.
        with_probabilities: Whether tables have the probability of each label.
        threads: None for all cores.
        batch_rows: None for what was tuned, or the manifest says.
        max_rejected: Rows, or their share of all, that may be set aside; None for any number.
        is_forced: Whether an output that is there may be replaced.
        is_restarted: Whether what was begun is thrown away.
        is_shown: Whether progress is told; None for on a terminal only.
    """

    ref: BundleRef
    input: Path
    output: Path
    input_format: str | None = None
    output_format: str | None = None
    id_column: str | None = None
    keep: tuple[str, ...] = ()
    delimiter: str | None = None
    query: Mapping[str, str]
    with_probabilities: bool = False
    threads: int | None = None
    batch_rows: int | None = None
    max_rejected: int | float | None = None
    is_forced: bool = False
    is_restarted: bool = False
    is_shown: bool | None = None


@dataclass(frozen=True, slots=True)
class Paths:
    """Where things lie: the output, and beside it what is there while it is made."""

    output: Path

    @property
    def partial(self) -> Path:
        """The answers so far."""
        return self.output.with_name(f"{self.output.name}.partial")

    @property
    def rejected(self) -> Path:
        """The rows that were set aside."""
        return self.output.with_name(f"{self.output.name}.rejected.jsonl")

    @property
    def rejected_partial(self) -> Path:
        """Those of them so far."""
        return self.output.with_name(f"{self.output.name}.rejected.jsonl.partial")

    @property
    def journal(self) -> Path:
        """How far it is."""
        return self.output.with_name(f"{self.output.name}.checkpoint")

    @property
    def growing(self) -> dict[str, Path]:
        """The files that grow, by the names that the journal has for them."""
        return {"output": self.partial, "rejected": self.rejected_partial}


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
    _expect_free(request, paths)
    head = {
        "input": sources.identity(request.input, kind),
        "bundle": _bundle_identity(request.ref),
        "options": _options(request, settings, out_kind),
    }
    with closing(Journal(paths.journal)) as journal, journal.unless_empty():
        before = _before(journal, head, paths, request)
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
                _remove(*paths.growing.values())
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
            _remove(self._paths.partial)
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
            _remove(paths.rejected_partial, paths.rejected)
    sync_folder(paths.output.absolute().parent)
    journal.remove()
    good = progress.rows - progress.rejected
    sys.stderr.write(f"{good} rows answered: {paths.output}\n")
    if progress.rejected:
        sys.stderr.write(f"{progress.rejected} rows rejected: {paths.rejected}\n")
    return EXIT_SOME_REJECTED if progress.rejected else 0


def _expect_free(request: Request, paths: Paths) -> None:
    """Refuse to write over what is there, or into what is not.

    Raises:
        BadUse: That is what was asked for.
    """
    folder = request.output.absolute().parent
    if not folder.is_dir():
        raise BadUse(f"{folder} is no folder")
    if request.output.is_dir():
        raise BadUse(f"{request.output} is a folder")
    if request.output.exists() and request.input.exists() and request.output.samefile(request.input):
        raise BadUse("input and output are the same file")
    own = (paths.partial, paths.rejected, paths.rejected_partial, paths.journal)
    if taken := [path for path in own if path.exists() and path.samefile(request.input)]:
        raise BadUse(f"{taken[0]} is the input, and would be written over; name another output")
    if request.is_restarted:
        return
    if request.output.exists() and not request.is_forced and not paths.journal.exists():
        raise BadUse(f"{request.output} is there already; replace it with --force")
    if paths.partial.exists() and not paths.journal.exists():
        raise BadUse(f"{paths.partial} is there without its checkpoint; begin anew with --restart")


def _before(journal: Journal, head: Mapping[str, Any], paths: Paths, request: Request) -> HowToRun | None:
    """Return how it ran when it was interrupted; None where it is to be begun.

    Raises:
        BadUse: What was begun is something else.
    """
    if request.is_restarted or journal.head is None:
        if request.output.exists() and not request.is_forced:
            raise BadUse(f"{request.output} is there already; replace it with --force")
        return None
    for what, now in head.items():
        was = journal.head.get(what)
        if was != json.loads(json.dumps(now)):
            raise BadUse(
                f"{paths.journal} was begun with another {what} ({_difference(was, now)}); give the same command to go "
                "on with it, or begin anew with --restart"
            )
    is_whole = journal.last is not None and journal.last.is_whole
    if request.output.exists() and not request.is_forced and not is_whole:
        raise BadUse(f"{request.output} is there already; replace it with --force")
    return models.parse_how(journal.head["how"])


def _difference(was: Any, now: Mapping[str, Any]) -> str:
    if not isinstance(was, dict):
        return "its checkpoint is damaged"
    names = [name for name in now if was.get(name) != json.loads(json.dumps(now[name]))]
    return ", ".join(f"{name} was {was.get(name)}, is {now[name]}" for name in names)


def _bundle_identity(ref: BundleRef) -> dict[str, Any]:
    try:
        manifest = (ref.folder / MANIFEST_FILE).read_bytes()
    except OSError as exc:
        raise BadUse(f"{ref.folder / MANIFEST_FILE} cannot be read: {exc.strerror or exc}") from exc
    return {"name": ref.name, "version": ref.version, "manifest_sha256": hashlib.sha256(manifest).hexdigest()}


def _options(request: Request, settings: Settings, out_kind: str) -> dict[str, Any]:
    """Return all that the output depends on, beside input and bundle."""
    return {
        "format": out_kind,
        "id": request.id_column,
        "keep": list(request.keep),
        "delimiter": request.delimiter,
        "query": dict(request.query),
        "probabilities": request.with_probabilities,
        "batch_rows": request.batch_rows,
        "max_row_bytes": settings.max_body_bytes,
        "max_image_pixels": settings.max_image_pixels,
    }


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


def _remove(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
