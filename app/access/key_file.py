"""The file of keys: what it says, and how it is written. Keys themselves are nowhere in it.

A key is made here, of 192 random bits, and the file has its SHA-256 alone. A slow hash with a salt is for secrets that
people think up and that can be guessed; of this one nobody guesses any, so the fast hash gives nothing away.
"""

import contextlib
import fcntl
import hashlib
import hmac
import os
import re
import secrets
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from app.access.roles import Role
from app.errors import SettingsError

PREFIX = "zto_"
_RANDOM_BYTES = 24
# some 10,000 keys; a file of another kind is not read whole
MAX_FILE_BYTES = 4 * 2**20
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_NEW_FILE_MODE = 0o600


class KeyEntry(BaseModel):
    """One key, as the file has it.

    Attributes:
        name: Of whoever holds it, for logs and metrics.
        sha256: Of the key, in hexadecimal digits.
        roles: What it is good for.
        created: When it was made.
        expires: When it is good for nothing any more; None for never.
        rate: Its own, in place of the one for all, as ``100/second;2000/minute``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=rf"^{NAME}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    roles: Annotated[tuple[Role, ...], Field(min_length=1)]
    created: AwareDatetime | None = None
    expires: AwareDatetime | None = None
    rate: str | None = None

    @field_validator("sha256")
    @classmethod
    def _key_is_not_empty(cls, sha256: str) -> str:
        if hmac.compare_digest(sha256, digest_of(b"").hex()):  # as a script writes it whose variable was not set
            raise ValueError("this is the SHA-256 of nothing, so everybody would have the key")
        return sha256

    @field_validator("rate")
    @classmethod
    def _rate_can_be_read(cls, rate: str | None) -> str | None:
        if rate is not None:
            from app.access.rates import parse

            parse(rate)
        return rate


class KeyFile(BaseModel):
    """All keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[KeyEntry, ...] = ()

    @model_validator(mode="after")
    def _each_is_there_once(self) -> Self:
        for what in ("name", "sha256"):
            counts = Counter(getattr(entry, what) for entry in self.keys)  # 20,000 keys are read while others wait
            if twice := sorted(value for value, count in counts.items() if count > 1):
                raise ValueError(f"two keys have the {what} {twice[0]!r}; each is there once")
        return self


def digest_of(key: bytes) -> bytes:
    """Return the SHA-256 of a key."""
    return hashlib.sha256(key).digest()


def new_key() -> str:
    """Return a key that nobody has."""
    return PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def entry_of(
    key: str, name: str, roles: tuple[Role, ...], *, created: datetime, expires: datetime | None, rate: str | None
) -> KeyEntry:
    """Return what the file says of a key.

    Raises:
        SettingsError: Name or rate cannot be.
    """
    try:
        return KeyEntry(
            name=name, sha256=digest_of(key.encode()).hex(), roles=roles, created=created, expires=expires, rate=rate
        )  # fmt: skip
    except ValidationError as exc:
        raise SettingsError(_told(exc)) from exc


def read(path: Path) -> KeyFile:
    """Return what a file says.

    Raises:
        SettingsError: It cannot be read, or is no such file.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise SettingsError(f"the keys of ZTO_API_KEYS_FILE cannot be read: {exc}") from exc
    if len(text) > MAX_FILE_BYTES:
        raise SettingsError(f"{path} has more than the {MAX_FILE_BYTES} bytes that a file of keys may have")
    try:
        return KeyFile.model_validate_json(text)
    except ValidationError as exc:
        raise SettingsError(f"{path} is no file of keys: {_told(exc)}") from exc


def change(path: Path, edit: Callable[[KeyFile], KeyFile]) -> KeyFile:
    """Write a file anew, in one step, so that whoever reads it has the old one or the new one. One writer at a time.

    Args:
        path: Of the file; it need not be there.
        edit: Makes the new content of the old.

    Raises:
        SettingsError: The old one cannot be read.
        OSError: The new one cannot be written.
    """
    path = path.resolve()  # a link stays one, and whoever reads the file that it leads to has the new content too
    with _alone_in(path.parent) as folder:
        new = edit(read(path) if path.exists() else KeyFile())
        text = new.model_dump_json(indent=2, exclude_none=True).encode() + b"\n"
        file, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(file, "wb") as written:
                written.write(text)
                _own_like(path, file)
                written.flush()
                os.fsync(file)
            Path(name).replace(path)
            os.fsync(folder)  # or a key that was taken back may be good again after a loss of power
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    return new


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[int]:
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def _own_like(path: Path, file: int) -> None:
    """Let a new file be for whom the old one was; where there is none, for its owner alone."""
    try:
        old = path.stat()
    except FileNotFoundError:
        os.fchmod(file, _NEW_FILE_MODE)
        return
    os.fchmod(file, old.st_mode & 0o777)
    with contextlib.suppress(PermissionError):  # only root may give a file away; others own the old one themselves
        os.fchown(file, old.st_uid, old.st_gid)


def _told(exc: ValidationError) -> str:
    """Return the first faults, without what was found there: it might be a key."""
    faults = exc.errors(include_input=False, include_url=False)
    places = (".".join(map(str, fault["loc"])) for fault in faults[:3])
    messages = (fault["msg"].removeprefix("Value error, ") for fault in faults[:3])
    return re.sub(r"\s+", " ", "; ".join(f"{place}: {told}" if place else told
                                         for place, told in zip(places, messages, strict=True)))  # fmt: skip
