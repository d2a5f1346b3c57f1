"""``python -m app verify``: tells whether bundles are signed by a key, and hold what was signed; loads none of them."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from app.bundle.loader import BundleRef, find_bundles, open_bundle
from app.bundle.signing import PublicKeys, read_keys
from app.errors import BundleError
from app.settings import Settings

EXIT_NOT_VERIFIED = 1
EXIT_BAD_USE = 2


def main(argv: Sequence[str]) -> int:
    """Verify bundles.

    Returns:
        0; 1 where one is not signed, or not what was signed; 2 where there is no key, or no such bundle.
    """
    options = _parse(argv)
    settings = Settings.from_environ(os.environ)
    keys = read_keys(options.key or settings.signing_key)
    try:
        if keys is None:
            raise BundleError("no key: name the file of the public key with --key, or with ZTO_SIGNING_KEY")
        refs = _chosen(find_bundles(settings.models_dir), options.models, settings.models_dir)
    except BundleError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return EXIT_BAD_USE
    verified = [_verify(ref, keys) for ref in refs]
    return 0 if all(verified) else EXIT_NOT_VERIFIED


def _verify(ref: BundleRef, keys: PublicKeys) -> bool:
    label = f"{ref.name}/{ref.version}"
    try:
        bundle = open_bundle(ref, keys)
        bundle.expect_as_signed()
    except BundleError as exc:
        sys.stderr.write(f"{label}: {exc}\n")
        return False
    sys.stdout.write(f"{label}: signed, and as it was signed: {len(bundle.signed or ())} files\n")
    return True


def _chosen(refs: list[BundleRef], names: Sequence[str], models_dir: Path) -> list[BundleRef]:
    """Return the bundles that names like ``cnn`` or ``cnn/2`` mean; without any name, all."""
    if not names:
        if not refs:  # nothing is found to be wrong with no bundle; a folder that is mistyped must not pass
            raise BundleError(f"there is no bundle in {models_dir}; set ZTO_MODELS_DIR")
        return refs
    chosen: list[BundleRef] = []
    for name in names:
        found = [ref for ref in refs if name in (ref.name, f"{ref.name}/{ref.version}")]
        if not found:
            have = ", ".join(f"{ref.name}/{ref.version}" for ref in refs) or "none"
            raise BundleError(f"no bundle {name!r} in {models_dir}; there are: {have}")
        chosen += found
    return chosen


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m app verify", description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="name, or name/version (default: all of MODELS_DIR)")
    parser.add_argument("--key", type=Path, help="file of the public keys, PEM (default: ZTO_SIGNING_KEY)")
    return parser.parse_args(argv)
