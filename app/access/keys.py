"""Who holds a key, and what it is good for; read again when its file changes.

What an attacker could learn from the time that a look-up takes:

- A key that was good before is found in a table by the very bytes of its header. Such a look-up compares hashes, and
  bytes only where all 64 bits of two hashes agree; Python's hash of bytes is SipHash with a secret of this process, so
  a guess that shares its beginning with a key shares nothing with its hash, and no prefix can be found out one byte at
  a time. Keys that are not good are never in that table.
- Any other key is looked up by its SHA-256. To learn something of a stored digest from the time of the look-up, one
  would have to choose the digest of what one sends, which is to invert SHA-256; and it would be the digest, not the
  key. What is found is compared with :func:`hmac.compare_digest` all the same, and so is the admin key.
"""

import hmac
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.access import key_file
from app.access.key_file import KeyEntry, digest_of
from app.access.roles import Role
from app.errors import NotAllowed, SettingsError, WrongKey

logger = logging.getLogger("app.access")

# headers of good keys, which clients send again and again; each client writes its own in one way
MAX_KNOWN = 4096
# as ZTO_ADMIN_KEY is called in logs, metrics and errors
ADMIN_NAME = "ZTO_ADMIN_KEY"
_HOW = "send it as Authorization: Bearer KEY, or as X-API-Key: KEY"
# a holder of a key is told the roles in this order
_ALL = tuple(Role)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Holder:
    """Whoever holds a key.

    Attributes:
        name: Of the key.
        digest: Its SHA-256.
        roles: What it is good for.
        expires_at: When it is good for nothing any more; seconds since the epoch.
        rate: Its own; None for the one of all.
    """

    name: str
    digest: bytes
    roles: frozenset[Role]
    expires_at: float = float("inf")
    rate: str | None = None


class Keys:
    """All keys of the service.

    Args:
        file: Of :mod:`app.access.key_file`; None where predictions need no key.
        admin_key: One more key, good for everything; None where there is none.
        clock: Seconds since the epoch.

    Attributes:
        are_needed: Whether predictions and reading need a key; what operators do always does.
        reads: How often the file was read anew, by ``ok`` and ``broken``.

    Raises:
        SettingsError: The file cannot be read.
    """

    def __init__(
        self, file: Path | None = None, admin_key: bytes | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._file = file
        self._clock = clock
        self._admin = (
            None if admin_key is None else Holder(name=ADMIN_NAME, digest=digest_of(admin_key), roles=frozenset(_ALL))
        )
        self.are_needed = file is not None
        self._stamp: object = None
        self._holders: dict[bytes, Holder] = {}
        self._known_bearers: dict[bytes, Holder] = {}
        self._known_keys: dict[bytes, Holder] = {}
        if file is not None:
            self._stamp = _stamp_of(file)
            self._take(key_file.read(file).keys)

    def __bool__(self) -> bool:
        return bool(self._holders) or self._admin is not None

    def holder(self, authorization: bytes, api_key: bytes) -> Holder:
        """Return who holds the key of a request.

        Where both headers are there, ``X-API-Key`` counts: ``Authorization`` may be a proxy's or a platform's own. Two
        good keys of different holders are refused, since nobody could tell who asks.

        Args:
            authorization: The header; empty where there is none.
            api_key: The header ``X-API-Key``; empty where there is none.

        Raises:
            WrongKey: There is none, or none that is good.
        """
        found = self._find_bearer(authorization) if authorization else None
        if api_key:
            beside, found = found, self._find(api_key, api_key.strip(), self._known_keys)
            if found is not None and beside is not None and found is not beside:
                raise WrongKey("X-API-Key and Authorization have the keys of two holders; send one of them")
        if found is not None:
            return found
        if not authorization and not api_key:
            raise WrongKey(f"this needs a key; {_HOW}")
        raise WrongKey(f"the key is wrong, expired or revoked; {_HOW}")

    def expect(self, role: Role, authorization: bytes, api_key: bytes) -> Holder | None:
        """Return who asks for something, if it may; None where anybody may.

        Raises:
            WrongKey: There is no key, or none that is good.
            NotAllowed: The key is not good for this, or no key of this service is.
        """
        if not api_key:  # nearly always: a bearer who has asked before, as in holder(), without its calls
            found = self._known_bearers.get(authorization)
            if found is not None and role in found.roles and found.expires_at > self._clock():
                return found
        if not self.are_needed:
            if role is not Role.ADMIN:
                return None
            if self._admin is None:
                raise NotAllowed(
                    "this service has no admin key; set ZTO_ADMIN_KEY, or ZTO_API_KEYS_FILE with a key of the role "
                    f"admin, and {_HOW}"
                )
        holder = self.holder(authorization, api_key)
        if role not in holder.roles:
            has = ", ".join(each for each in _ALL if each in holder.roles)
            raise NotAllowed(f"this needs a key of the role {role}; the key {holder.name!r} has: {has}")
        return holder

    def refresh(self) -> bool | None:
        """Read the file again where it has changed. One that cannot be read changes nothing: the old keys stay good.

        Returns:
            Whether it was read; None where it has not changed.
        """
        if self._file is None or (stamp := _stamp_of(self._file)) == self._stamp:
            return None
        self._stamp = stamp  # what is broken is told once, and read again when it changes again
        try:
            entries = key_file.read(self._file).keys
        except SettingsError as exc:
            logger.error("%s; the keys that were read before stay good", exc)
            return False
        self._take(entries)
        logger.info("%d keys were read anew", len(entries))
        return True

    def _take(self, entries: tuple[KeyEntry, ...]) -> None:
        self._holders = {holder.digest: holder for holder in map(_holder_of, entries)}
        self._known_bearers.clear()
        self._known_keys.clear()

    def _find_bearer(self, header: bytes) -> Holder | None:
        found = self._known_bearers.get(header)  # nearly always, and nothing needs to be taken apart
        if found is not None and found.expires_at > self._clock():
            return found
        scheme, _, key = header.partition(b" ")
        return self._find(header, key.strip(), self._known_bearers) if scheme.lower() == b"bearer" else None

    def _find(self, header: bytes, key: bytes, known: dict[bytes, Holder]) -> Holder | None:
        found = known.get(header)
        if found is None:
            digest = digest_of(key)
            found = self._holders.get(digest, self._admin)
            if found is None or not hmac.compare_digest(found.digest, digest):
                return None
            if len(known) >= MAX_KNOWN:
                known.clear()
            known[header] = found
        return found if found.expires_at > self._clock() else None


def _holder_of(entry: KeyEntry) -> Holder:
    return Holder(
        name=entry.name,
        digest=bytes.fromhex(entry.sha256),
        roles=frozenset(_ALL if Role.ADMIN in entry.roles else entry.roles),
        expires_at=float("inf") if entry.expires is None else entry.expires.timestamp(),
        rate=entry.rate,
    )


def _stamp_of(file: Path) -> object:
    """Return what changes with a file: of a mounted secret, the file that its link leads to."""
    try:
        stat = os.stat(file)
    except OSError as exc:
        return exc.errno
    # the time of its change too: one that could not be read, and now can, has the same content as before
    return stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size
