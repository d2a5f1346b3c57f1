"""What ends a command of this folder, with a message for people and an exit status for scripts.

::

    PredictError
    ├── BadUse      what was asked for cannot be done: nothing has been computed (2)
    └── Stopped     it was begun, and cannot be brought to its end (1)
"""

from typing import ClassVar

EXIT_FAILED = 1
EXIT_BAD_USE = 2
# done, and some rows are in the file of rejected rows
EXIT_SOME_REJECTED = 3
EXIT_INTERRUPTED = 130


class PredictError(Exception):
    """Root of the tree; ``str(error)`` is for people."""

    status: ClassVar[int] = EXIT_FAILED


class BadUse(PredictError):
    """What was asked for cannot be done."""

    status = EXIT_BAD_USE


class Stopped(PredictError):
    """What was begun cannot be brought to its end."""
