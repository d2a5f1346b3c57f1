"""What can go wrong in training through no fault of the code; each message stands alone, in one line.

::

    TrainingError
    ├── DataError       the data set is missing, damaged or another one
    ├── NonFiniteLoss   the loss became NaN or infinite
    ├── Interrupted     stopped before there was anything worth keeping
    ├── NotExportable   the network cannot be written in a format
    ├── NotProven       an exported artifact does not answer as the trained network does
    └── VersionExists   a bundle of that version is there already
"""


class TrainingError(Exception):
    """Root of the tree; ``str(error)`` is for people."""


class DataError(TrainingError):
    """The data set is missing, damaged or another one."""


class NonFiniteLoss(TrainingError):
    """The loss became NaN or infinite, so the weights are worth nothing from here on."""


class Interrupted(TrainingError):
    """Training was stopped before its first epoch was done."""


class NotExportable(TrainingError):
    """The network cannot be written in a format; the message says why."""


class NotProven(TrainingError):
    """An exported artifact does not answer as the trained network does."""


class VersionExists(TrainingError):
    """A bundle of that version is there already, and versions are immutable."""
