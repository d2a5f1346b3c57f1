"""The command line of the trainer: ``python -m training COMMAND``."""

import argparse
import sys
from collections.abc import Callable, Sequence

from training import commands
from training.errors import Interrupted, TrainingError

EXIT_USER_ERROR, EXIT_INTERRUPTED = 2, 130
# imported here and not in main(), so that a missing library is told in one line, whatever the command
_COMMANDS = commands.modules()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 or its own, 2 for a mistake of the caller, 130 when interrupted."""
    args = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int | None] = args.run
    try:
        return command(args) or 0
    except Interrupted as exc:
        _complain(str(exc))
        return EXIT_INTERRUPTED
    except KeyboardInterrupt:
        _complain("interrupted")
        return EXIT_INTERRUPTED
    except TrainingError as exc:
        _complain(str(exc))
        return EXIT_USER_ERROR
    except OSError as exc:
        _complain(f"{exc.filename}: {exc.strerror}" if exc.filename and exc.strerror else str(exc))
        return EXIT_USER_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Train networks and write bundles.")
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, module in _COMMANDS.items():
        text = (module.__doc__ or name).splitlines()[0].replace("``", "")
        command = subparsers.add_parser(name, help=text[0].lower() + text[1:].rstrip("."), description=text)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def _complain(text: str) -> None:
    sys.stderr.write(f"error: {text}\n")
