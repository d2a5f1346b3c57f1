"""Sign bundles with a private key, so that services that hold the public one take them and no others."""

import argparse
from pathlib import Path

from training.commands._shared import say
from training.errors import NotSigned
from training.signing import signer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("folders", type=Path, nargs="+", help="of versions, as models/cnn/2", metavar="FOLDER")
    add_key(parser, "--key", required=True)


def add_key(parser: argparse.ArgumentParser, option: str, *, required: bool) -> None:
    """Add the options of the private key."""
    parser.add_argument(
        option, type=Path, required=required, metavar="FILE", dest="sign_key",
        help="the private key, PEM, on the curve P-256, P-384 or P-521",
    )  # fmt: skip
    parser.add_argument(
        f"{option}-password-file", type=Path, metavar="FILE", dest="sign_key_password_file",
        help="holds the password of an encrypted key in its first line",
    )  # fmt: skip


def password_of(args: argparse.Namespace) -> bytes | None:
    """Return the password of the key; None where no file of it is named."""
    path: Path | None = args.sign_key_password_file
    if path is None:
        return None
    lines = path.read_bytes().splitlines()
    if not lines:
        raise NotSigned(f"{path} is empty; the password of the key stands in its first line")
    return lines[0]


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    sign = signer(args.sign_key, password_of(args))
    for folder in args.folders:
        say(f"wrote {sign(folder)}")
