"""What has to be said, and what was found once it was."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from training.errors import SettingsMissing
from training.package.kind import Kind
from training.package.source import Steps


class Asked:
    """What is missing, all of it, with an example of each."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}

    def need(self, key: str, example: str, why: str) -> None:
        """Note that a key has to be said."""
        self._lines.setdefault(key, f"{example}  # {why}")

    def expect_nothing(self) -> None:
        """Raise where something is missing.

        Raises:
            SettingsMissing: Something is; the message is a TOML file that would say it.
        """
        if self._lines:
            count = "one thing is" if len(self._lines) == 1 else f"{len(self._lines)} things are"
            raise SettingsMissing(
                f"{count} missing: {', '.join(self._lines)}; say it by options (--{next(iter(self._lines))} ...) or "
                "write it into a file and say --config package.toml, as in this example:\n"
                # in TOML, tables come last
                + "\n".join(sorted(self._lines.values(), key=lambda line: line.startswith("[")))
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one kind of task makes of a model.

    Attributes:
        kind: With the settings of this model.
        steps: That become part of the graph.
        files: Further files of the bundle, by path.
        max_elements: Most rows times padded length of a batch.
    """

    kind: Kind
    steps: Steps
    files: Mapping[str, bytes] = field(default_factory=dict)
    max_elements: int | None = None
