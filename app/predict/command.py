"""``python -m app predict``: asks a model about some files, or answers a whole file of rows without a server.

With names of files, a running service is asked; ``--local`` loads the bundle instead. With ``--input`` and
``--output``, every row of a file is answered in full batches by the bundle itself. The same command goes on where it
was interrupted.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from app import logs
from app.access.caller import add_options, caller_of
from app.errors import BundleError, InvalidInput
from app.options.running import MAX_THREADS
from app.predict import ask, job, model, sinks, sources
from app.predict.errors import EXIT_BAD_USE, EXIT_FAILED, EXIT_INTERRUPTED, BadUse, PredictError
from app.predict.questions import body_of, read
from app.predict.request import Request
from app.settings import Settings

MAX_BATCH_ROWS = 65_536
MAX_TIMEOUT_S = 86_400.0
SHOWN_LABELS = 3


def main(argv: Sequence[str]) -> int:
    """Ask, or answer a whole file.

    Returns:
        0; 1 where there is no answer, or a file was not answered to its end; 2 where it cannot be begun; 3 where a file
        was answered and some of its rows are set aside; 130 where it was interrupted.
    """
    if sys.stderr is None:  # closed by who started it: nobody reads what is told, and the work is done all the same
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  it stays open as the standard error does
    options = _parse(argv)
    settings = Settings.from_environ(os.environ)
    logs.configure_tool("warning")
    # as Ctrl-C: what was computed is kept
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _expect_options(options)
        return _files(options, settings) if options.input is None else _whole(options, settings)
    except PredictError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return exc.status
    except (BundleError, InvalidInput) as exc:
        sys.stderr.write(f"error: {exc}\n")
        return EXIT_BAD_USE
    except BrokenPipeError:  # as of `| head`; what is still in the buffer shall not be written at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except OSError as exc:  # as a disk that is full
        sys.stderr.write(f"error: {exc}; what was computed is kept, and the same command goes on with it\n")
        return EXIT_FAILED
    except KeyboardInterrupt:
        told = "" if options.input is None else ": the same command goes on with it"
        sys.stderr.write(f"interrupted{told}\n")
        return EXIT_INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)


def _files(options: argparse.Namespace, settings: Settings) -> int:
    """Ask about each file; what is refused does not keep the others from being asked."""
    name, version = _name(options)
    query = _query(options)
    asked: ask.Asked
    if options.local:
        asked = ask.Local(model.find(name, version, settings), settings, query, threads=options.threads)
    else:
        asked = ask.Remote(
            options.url or _url_of(settings), name, version, query, caller_of(options, os.environ),
            timeout_s=options.timeout,
        )  # fmt: skip
    taken = asked.taken()
    status = 0
    for file in options.files:
        try:
            answer = asked.ask(body_of(read(file, settings.max_body_bytes), file, taken))
        except PredictError as exc:
            sys.stderr.write(f"error: {file}: {exc}\n")
            status = max(status, exc.status)
            continue
        if options.json:
            sys.stdout.buffer.write(answer.data + b"\n")
        else:
            most = options.top_k or SHOWN_LABELS
            sys.stdout.write(ask.readable(file, answer.document["predictions"], most=most) + "\n")
        sys.stdout.flush()
    return status


def _whole(options: argparse.Namespace, settings: Settings) -> int:
    name, version = _name(options)
    request = Request(
        ref=model.find(name, version, settings),
        input=options.input,
        output=options.output,
        input_format=options.input_format,
        output_format=options.format,
        id_column=options.id,
        keep=tuple(dict.fromkeys(part for part in options.keep.split(",") if part)),
        delimiter=options.delimiter,
        query=_query(options),
        with_probabilities=options.probabilities,
        threads=options.threads,
        batch_rows=options.batch_rows,
        max_rejected=_max_rejected(options.max_rejected),
        is_forced=options.force,
        is_restarted=options.restart,
        is_shown=options.progress,
    )
    return job.run(request, settings)


def _url_of(settings: Settings) -> str:
    """Return where the service of these settings listens; as ``python -m app health`` finds it."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104  compared, not bound
    scheme = "http" if settings.tls_cert is None else "https"
    return f"{scheme}://[{host}]:{settings.port}" if ":" in host else f"{scheme}://{host}:{settings.port}"


def _name(options: argparse.Namespace) -> tuple[str, str | None]:
    name, _, version = options.model.partition("/")
    if version and options.version is not None and version != options.version:
        raise BadUse(f"{options.model} and --version {options.version} are two versions")
    return name, options.version or version or None


def _query(options: argparse.Namespace) -> dict[str, str]:
    query = {} if options.top_k is None else {"top_k": str(options.top_k)}
    return query if options.outputs is None else {**query, "outputs": options.outputs}


def _max_rejected(text: str | None) -> int | float | None:
    if text is None:
        return None
    try:
        if text.endswith("%"):
            share = float(text[:-1]) / 100
            if 0 <= share <= 1:
                return share
        elif (count := int(text)) >= 0:
            return count
    except ValueError:
        pass
    raise BadUse(f"--max-rejected must be a number of rows or a share as 1%, got {text!r}")


def _expect_options(options: argparse.Namespace) -> None:
    if (options.input is None) != (options.output is None):
        raise BadUse("--input and --output belong together")
    if options.input is None:
        if not options.files:
            raise BadUse("name files to ask about, or --input FILE --output FILE")
        given = [name for name in _ONLY_WHOLE if getattr(options, name.replace("-", "_"))]
        if given:
            raise BadUse(f"--{given[0]} is for --input and --output")
    elif options.files or options.json or any(each is not None for each in (options.url, options.key_file, options.ca)):
        raise BadUse("--input is answered without a server: no other files, no --url, --key-file, --ca and no --json")
    if not 0 < options.timeout <= MAX_TIMEOUT_S:
        raise BadUse(f"--timeout must be above 0 and at most {MAX_TIMEOUT_S:g}, got {options.timeout:g}")
    for name, value, most in (
        ("--threads", options.threads, MAX_THREADS),
        ("--batch-rows", options.batch_rows, MAX_BATCH_ROWS),
    ):
        if value is not None and not 1 <= value <= most:
            raise BadUse(f"{name} must be between 1 and {most}, got {value}")
    if options.delimiter is not None and (len(options.delimiter) != 1 or options.delimiter in '"\r\n'):
        raise BadUse(f"--delimiter must be one character, got {options.delimiter!r}")


_ONLY_WHOLE = (
    "input-format", "format", "id", "keep", "delimiter", "probabilities", "batch-rows", "max-rejected", "force",
    "restart",
)  # fmt: skip


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m app predict", description=__doc__)
    parser.add_argument("model", help="its name, or NAME/VERSION")
    parser.add_argument(
        "files", nargs="*", help="to ask about: a picture, a text, JSON or numbers; - is standard input"
    )
    parser.add_argument(
        "--version", help="of the model (default: as the service's policy says; without a service the highest)"
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="the K most probable labels")
    parser.add_argument(
        "--outputs", metavar="A,B", help="members of the predictions, where the task lets them be chosen"
    )
    parser.add_argument(
        "--threads", type=int, help="that compute without a server (default: ZTO_THREADS, or the cores)"
    )
    few = parser.add_argument_group("some files")
    few.add_argument("--url", help="of the service (default: where ZTO_HOST and ZTO_PORT say)")
    add_options(few)
    few.add_argument("--local", action="store_true", help="without a service: load the bundle of ZTO_MODELS_DIR")
    few.add_argument("--json", action="store_true", help="print the answers as they came")
    few.add_argument("--timeout", type=float, default=60.0, metavar="S", help="seconds (default: %(default)s)")
    whole = parser.add_argument_group("a whole file, without a server")
    whole.add_argument("--input", type=Path, metavar="FILE", help="CSV, JSON Lines, Parquet, or a folder of pictures")
    whole.add_argument("--output", type=Path, metavar="FILE", help="CSV, JSON Lines or Parquet")
    whole.add_argument("--input-format", choices=sources.FORMATS, help="(default: by the suffix)")
    whole.add_argument("--format", choices=sinks.FORMATS, help="of the output (default: by the suffix)")
    whole.add_argument("--id", metavar="COLUMN", help="column that names a row; it is passed on as `id`")
    whole.add_argument("--keep", default="", metavar="A,B|all", help="columns of the input that are passed on")
    whole.add_argument("--delimiter", metavar="CHAR", help="between the cells of CSV (default: a comma; .tsv: a tab)")
    whole.add_argument("--probabilities", action="store_true", help="in tables, a column for each label's probability")
    whole.add_argument("--batch-rows", type=int, metavar="N", help="(default: as tuned, or as the manifest says)")
    whole.add_argument(
        "--max-rejected", metavar="ROWS|SHARE", help="end with status 1 beyond so many rows set aside, as 100 or 1%%"
    )
    whole.add_argument("--force", action="store_true", help="replace an output that is there")
    whole.add_argument("--restart", action="store_true", help="throw away what was begun")
    whole.add_argument(
        "--progress", action=argparse.BooleanOptionalAction, help="tell how far it is (default: on a terminal)"
    )
    # files may stand before and behind the options
    return parser.parse_intermixed_args(argv)
