"""What is to be done with a whole file, where its answers lie meanwhile, and what must not be written over."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.bundle.loader import BundleRef
from app.predict.errors import BadUse


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


def expect_free(request: Request, paths: Paths) -> None:
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


def remove(*paths: Path) -> None:
    """Remove files that may not be there."""
    for path in paths:
        path.unlink(missing_ok=True)
