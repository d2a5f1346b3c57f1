"""What can go wrong in training through no fault of the code; each message stands alone, in one line.

::

    TrainingError
    ├── DataError       the data set is missing, damaged or another one
    │   └── DataMissing     it is not where it was looked for
    ├── ConfigError     a config has an unknown name or an impossible value, or does not fit its data
    ├── FetchFailed     a package manager did not bring the data set
    ├── NonFiniteLoss   the loss became NaN or infinite
    ├── CheckpointError a checkpoint is damaged, of another run, or cannot be written
    ├── Interrupted     stopped before there was anything worth keeping
    ├── PrivateVocabulary  a tokenizer's vocabulary tells an address or a name
    ├── NotExportable   the network cannot be written in a format
    ├── PackageRefused  a model of somebody's own cannot be made into a bundle
    │   └── SettingsMissing  what its file does not tell has not been said
    ├── NotProven       an exported artifact does not answer as the trained network does
    ├── VersionExists   a bundle of that version is there already
    └── NotSigned       a bundle cannot be signed, or not with this key
"""


class TrainingError(Exception):
    """Root of the tree; ``str(error)`` is for people."""


class DataError(TrainingError):
    """The data set is missing, damaged or another one."""


class DataMissing(DataError):
    """The data set, or a file of it, is not where it was looked for."""


class ConfigError(TrainingError, ValueError):
    """A config has an unknown name or an impossible value, or does not fit its data."""


class FetchFailed(TrainingError):
    """A package manager is missing, failed, or brought something else than the data set."""


class NonFiniteLoss(TrainingError):
    """The loss became NaN or infinite, so the weights are worth nothing from here on."""


class CheckpointError(TrainingError):
    """A checkpoint is damaged, of another run, or cannot be written."""


class Interrupted(TrainingError):
    """Training was stopped before its first epoch was done."""


class PrivateVocabulary(TrainingError):
    """A tokenizer's vocabulary tells an address or a name of somebody."""


class NotExportable(TrainingError):
    """The network cannot be written in a format; the message says why."""


class PackageRefused(TrainingError):
    """A model of somebody's own cannot be made into a bundle; the message says why, and what would help."""


class SettingsMissing(PackageRefused):
    """What the file of a model does not tell has not been said either; the message names all of it."""


class NotProven(TrainingError):
    """An exported artifact does not answer as the trained network does."""


class VersionExists(TrainingError):
    """A bundle of that version is there already, and versions are immutable."""


class NotSigned(TrainingError):
    """A bundle cannot be signed: the key, the folder or what signs it is not as it should be."""
