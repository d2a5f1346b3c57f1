"""Keys for services of the tests, made as the command makes them."""

from datetime import UTC, datetime
from pathlib import Path

from app.access import key_file
from app.access.key_file import KeyFile
from app.access.roles import Role


def make_key(
    path: Path, name: str, *roles: str, expires: datetime | None = None, rate: str | None = None
) -> str:  # fmt: skip
    """Add a key to a file, and return it."""
    key = key_file.new_key()
    entry = key_file.entry_of(
        key, name, tuple(map(Role, roles)), created=datetime.now(UTC), expires=expires, rate=rate
    )  # fmt: skip
    key_file.change(path, lambda old: KeyFile(keys=(*old.keys, entry)))
    return key
