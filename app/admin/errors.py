"""What ends the command, with a message for people and an exit status for scripts.

::

    AdminError
    ├── BadUse      what was asked for cannot be asked (2)
    └── Refused     the service does not do it, or cannot be reached (1)
"""

from typing import ClassVar


class AdminError(Exception):
    """Root of the tree; ``str(error)`` is for people."""

    status: ClassVar[int] = 1


class BadUse(AdminError):
    """What was asked for cannot be asked."""

    status = 2


class Refused(AdminError):
    """The service does not do it, or cannot be reached; the message says why."""
