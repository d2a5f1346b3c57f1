"""``python -m app keys``: makes keys, lists them, and takes them back. A running service heeds it within a second."""

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.access import key_file
from app.access.key_file import KeyEntry, KeyFile
from app.access.roles import Role
from app.errors import SettingsError
from app.settings import EXIT_BAD_SETTINGS, Settings


def main(argv: Sequence[str]) -> int:
    """Run one command; return the exit status: 0, or 2 where it cannot be done.

    Raises:
        SettingsError: The file is not one of keys, or none is named.
    """
    options = _parse(argv)
    file: Path | None = options.file or Settings.from_environ(os.environ).api_keys_file
    if file is None:
        raise SettingsError("no file of keys is named: set ZTO_API_KEYS_FILE, or say --file FILE")
    try:
        return {"new": _new, "list": _list, "revoke": _revoke}[options.command](file, options)
    except OSError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return EXIT_BAD_SETTINGS


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m app keys", description=__doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--file", type=Path, help="where the keys are; default: ZTO_API_KEYS_FILE")
    commands = parser.add_subparsers(dest="command", required=True)
    new = commands.add_parser("new", parents=[common], help="make a key, and print it: it is shown this once")
    new.add_argument("name", help="of whoever will hold it; for logs and metrics")
    new.add_argument(
        "--roles", default="predict,read", type=_roles, help="by comma: predict, read, admin; default: predict,read"
    )
    new.add_argument("--days", type=_days, help="how long it is good for; default: until it is revoked")
    new.add_argument("--rate", help="its own, as '100/second;2000/minute'; default: ZTO_RATE_LIMIT")
    commands.add_parser("list", parents=[common], help="show all keys, but none of their secrets")
    revoke = commands.add_parser("revoke", parents=[common], help="take a key back")
    revoke.add_argument("name", help="of the key")
    return parser.parse_args(argv)


def _roles(text: str) -> tuple[Role, ...]:
    try:
        return tuple(dict.fromkeys(Role(part.strip()) for part in text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected some of {', '.join(Role)}, by comma") from None


def _days(text: str) -> timedelta:
    try:
        days = timedelta(days=float(text))
        datetime.now(UTC) + days  # years beyond the calendar overflow
    except (ValueError, OverflowError):
        days = timedelta(0)
    if days <= timedelta(0):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of days above 0")
    return days


def _new(file: Path, options: argparse.Namespace) -> int:
    key, now = key_file.new_key(), datetime.now(UTC).replace(microsecond=0)
    expires = None if options.days is None else now + options.days
    entry = key_file.entry_of(key, options.name, options.roles, created=now, expires=expires, rate=options.rate)

    def add(old: KeyFile) -> KeyFile:
        if any(each.name == entry.name for each in old.keys):
            raise SettingsError(f"a key named {entry.name!r} is there already; revoke it first, or take another name")
        return KeyFile(keys=(*old.keys, entry))

    key_file.change(file, add)
    sys.stdout.write(f"{key}\n")
    return 0


def _list(file: Path, options: argparse.Namespace) -> int:
    del options
    rows = [("NAME", "ROLES", "CREATED", "EXPIRES", "RATE"), *map(_row, key_file.read(file).keys)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")
    return 0


def _row(entry: KeyEntry) -> tuple[str, ...]:
    created, expires = _told(entry.created), _told(entry.expires)
    if entry.expires is not None and entry.expires <= datetime.now(UTC):
        expires += " (over)"
    return entry.name, ",".join(entry.roles), created, expires or "never", entry.rate or ""


def _told(at: datetime | None) -> str:
    if at is None:
        return ""
    try:
        return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}Z"
    except OverflowError:  # at the ends of the calendar, another zone may have a year that UTC has not
        return at.isoformat(" ", "minutes")


def _revoke(file: Path, options: argparse.Namespace) -> int:
    def remove(old: KeyFile) -> KeyFile:
        left = tuple(each for each in old.keys if each.name != options.name)
        if len(left) == len(old.keys):
            raise SettingsError(f"no key is named {options.name!r}; there are: {_names(old)}")
        return KeyFile(keys=left)

    key_file.change(file, remove)
    return 0


def _names(keys: KeyFile) -> str:
    return ", ".join(entry.name for entry in keys.keys) or "none"
