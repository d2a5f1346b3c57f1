"""What is wished of each model, and the file that it is kept in: ``control.json`` in ``ZTO_STATE_DIR``.

The file outlives restarts, so that what an operator has rolled back stays rolled back. It is written whole, to a file
beside it that takes its place, and brought to the disk before anybody is told that it is kept. One that cannot be read
keeps no service down: it is set aside, and told.
"""

import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.bundle.files import sync_folder
from app.errors import NothingToRollBack
from app.serving.policy import Policy

logger = logging.getLogger("app.control")

STATE_FILE = "control.json"
SET_ASIDE = "control.json.bad"
SCHEMA_VERSION = 1
# how far one can roll back
MAX_HISTORY = 16
# no good one comes near it
_MAX_BYTES = 16 * 2**20


class Desired(BaseModel):
    """What is wished of one model.

    Attributes:
        loaded: Whether it is to serve at all.
        policy: By which its versions answer.
        begun_with: What the settings said when an operator last changed something; where they say something else at
            a later start, they are the newer wish.
        history: The policies before, the last one at the end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    loaded: bool = True
    policy: Policy = Policy()
    begun_with: Policy = Policy()
    history: tuple[Policy, ...] = Field(default=(), max_length=MAX_HISTORY)

    @classmethod
    def at_start(cls, policy: Policy) -> "Desired":
        """Return what is wished where nobody has said anything but the settings."""
        return cls(policy=policy, begun_with=policy)

    def with_policy(self, policy: Policy) -> "Desired":
        """Return it with another policy; the one before can be rolled back to."""
        if policy == self.policy:
            return self
        return self.model_copy(update={"policy": policy}).remembering(self.policy)

    def remembering(self, policy: Policy) -> "Desired":
        """Return it with one more policy that can be rolled back to; the oldest is forgotten where there are many."""
        return self.model_copy(update={"history": (*self.history, policy)[-MAX_HISTORY:]})

    def rolled_back(self) -> "Desired":
        """Return it with the policy before.

        Raises:
            NothingToRollBack: There was none.
        """
        if not self.history:
            raise NothingToRollBack("there is no policy before this one; PUT the policy that you want")
        *earlier, last = self.history
        return self.model_copy(update={"policy": last, "history": tuple(earlier)})


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1]
    models: dict[str, Desired]


class StateFile:
    """The file of the desired state.

    Args:
        folder: ``ZTO_STATE_DIR``; None where there is none, and nothing outlives a restart.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def read(self) -> dict[str, Desired]:
        """Return what was wished when the file was last written, by model; nothing where there is no good file."""
        if self._folder is None:
            return {}
        path = self._folder / STATE_FILE
        try:
            with path.open("rb") as file:
                text = file.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            return {}
        except OSError as exc:
            logger.error("%s cannot be read, and is not heeded: %s", path, exc.strerror or exc)
            return {}
        try:
            if len(text) > _MAX_BYTES:
                raise ValueError(f"it has more than {_MAX_BYTES} bytes")
            return dict(_File.model_validate_json(text).models)
        except ValueError as exc:
            logger.error("%s is not heeded: %s; %s", path, _faults(exc), self._set_aside(path))
            return {}

    @property
    def lasts_because(self) -> str | None:
        """Why nothing is kept, as far as the settings say."""
        return "ZTO_STATE_DIR is not set" if self._folder is None else None

    def write(self, models: Mapping[str, Desired]) -> str | None:
        """Keep what is wished; return None, or why it lasts until the restart only."""
        if self._folder is None:
            return self.lasts_because
        text = _File(schema_version=SCHEMA_VERSION, models=dict(models)).model_dump_json(indent=2)
        path = self._folder / STATE_FILE
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            number, name = tempfile.mkstemp(prefix=f".{STATE_FILE}.", dir=self._folder)
            try:
                with open(number, "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(number)
                Path(name).replace(path)
            finally:
                Path(name).unlink(missing_ok=True)
            sync_folder(self._folder)
        except OSError as exc:
            logger.error("%s cannot be written; what is wished lasts until the restart: %s", path, exc)
            return f"{STATE_FILE} cannot be written in ZTO_STATE_DIR: {exc.strerror or exc}"
        return None

    def _set_aside(self, path: Path) -> str:
        try:
            path.replace(path.with_name(SET_ASIDE))
        except OSError as exc:
            return f"it cannot be set aside: {exc.strerror or exc}"
        return f"it is set aside as {SET_ASIDE}"


def _faults(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc']) or 'document'}: {fault['msg']}"
        for fault in error.errors(include_url=False)[:5]
    )
