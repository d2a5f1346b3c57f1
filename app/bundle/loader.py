"""Reads bundles from disk, and believes nothing that it has not checked.

Every file is read once, whole, and its digest is taken of the very bytes that are handed on: what was checked is what
is used, even when the folder changes in between. Where a signature is asked for, it says which manifest is the right
one, and the manifest says it of the other files.
"""

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from app.bundle.files import read_bounded
from app.bundle.golden import GoldenRows, parse_golden
from app.bundle.manifest import NAME_PATTERN, Artifact, FileRef, Manifest, is_version
from app.bundle.signing import PublicKeys, expect_same_files, read_signature
from app.errors import BundleError, BundleNotSigned, quoted

logger = logging.getLogger("app.bundle")

MANIFEST_FILE = "manifest.json"
# those of this repository have some 20 KB, and one of a thousand labels has 30
MAX_MANIFEST_BYTES = 16 * 2**20
# of a manifest, that are told
MAX_FAULTS = 64
MAX_FAULT_CHARS = 512


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class BundleRef:
    """Where a bundle lies; nothing of it has been read."""

    name: str
    version: int
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle whose manifest is valid. Its files are checked as they are read.

    Attributes:
        folder: Where it lies.
        manifest: As it was read, from the very bytes that were signed where a signature is asked for.
        signed: What was signed: digests by path. None where no signature is asked for.
    """

    folder: Path
    manifest: Manifest
    signed: Mapping[str, str] | None = None

    def expect_as_signed(self) -> None:
        """Hold every file of the folder against the signature, where one is asked for; reads all of them.

        Raises:
            BundleNotSigned: Files were altered, added or taken away; the message names them.
        """
        if self.signed is not None:
            expect_same_files(self.folder, self.signed)

    def read(self, file: FileRef) -> bytes:
        """Return the bytes of a file of the bundle.

        Raises:
            BundleError: It is missing, lies outside the folder (through a link), or has another size or digest.
        """
        root = self.folder.resolve()
        try:
            path = (root / file.path).resolve()
            if not path.is_relative_to(root):
                raise BundleError(f"{file.path} leads out of the bundle folder")
            data = read_bounded(path, file.size_bytes)
        except OSError as exc:
            raise BundleError(f"{file.path} cannot be read: {exc.strerror or exc}") from exc
        except RuntimeError as exc:  # before Python 3.13, links that lead in a circle
            raise BundleError(f"{file.path} cannot be read: {exc}") from exc
        if len(data) > file.size_bytes:
            raise BundleError(
                f"{file.path} is not the file that the manifest describes: it has more than {file.size_bytes} bytes"
            )
        digest = hashlib.sha256(data).hexdigest()
        if len(data) != file.size_bytes or digest != file.sha256:
            raise BundleError(
                f"{file.path} is not the file that the manifest describes: it has {len(data)} bytes and SHA-256 "
                f"{digest}, the manifest says {file.size_bytes} bytes and {file.sha256}"
            )
        return data

    def artifact(self, key: str) -> Artifact:
        """Return the artifact of a key, as ``onnx`` or ``onnx-int8``.

        Raises:
            BundleError: The bundle has none.
        """
        artifact = self.manifest.artifact(key)
        if artifact is None:
            have = ", ".join(a.key for a in self.manifest.artifacts)
            raise BundleError(f"the bundle has no {key!r} artifact, it has: {have}")
        return artifact

    def golden(self, key: str | None = None) -> GoldenRows:
        """Return the golden rows: those that the artifact of a key has of its own, or those of the bundle.

        Raises:
            BundleError: The file is damaged, or its rows and arrays are not those of the manifest.
        """
        own = None if key is None else self.artifact(key).golden
        golden = parse_golden(self.read(own or self.manifest.golden))
        if len(golden) != self.manifest.golden.rows:
            raise BundleError(
                f"the golden file holds {len(golden)} rows, the manifest says {self.manifest.golden.rows}"
            )
        # an output without golden values would be served unproven
        for specs, arrays in ((self.manifest.inputs, golden.inputs), (self.manifest.outputs, golden.outputs)):
            for spec in specs:
                if spec.name not in arrays or not spec.describes(arrays[spec.name]):
                    raise BundleError(
                        f"the golden file holds no {spec.name!r} of {spec.dtype} and shape {list(spec.shape)}"
                    )
        return golden


def find_bundles(models_dir: Path) -> list[BundleRef]:
    """List the bundles below a folder, ``<name>/<version>/manifest.json``, by name and rising version.

    A version's folder without a manifest is listed too: it is a damaged bundle, not none. Hidden folders (a bundle
    that is being written is one) and names that are no version are passed over. So are, with a warning, folders whose
    name no bundle can have, and folders that cannot be read: ``lost+found`` stands on every ext4 volume.

    Raises:
        BundleError: The models folder itself is missing or unreadable.
    """
    try:
        paths = [path for path in models_dir.iterdir() if not path.name.startswith(".")]
    except OSError as exc:
        raise BundleError(f"the models folder {models_dir} cannot be read: {exc.strerror or exc}") from exc
    return sorted(ref for path in paths for ref in find_versions(path))


def find_versions(folder: Path) -> list[BundleRef]:
    """List the versions below the folder of a name, as :func:`find_bundles` does, in any order."""
    try:
        if not folder.is_dir():
            return []
        if not re.fullmatch(NAME_PATTERN, folder.name):
            logger.warning("passed over the folder %r: no bundle can have that name", folder.name)
            return []
        return [
            BundleRef(name=folder.name, version=int(version.name), folder=version)
            for version in folder.iterdir()
            if is_version(version.name) and version.is_dir()
        ]
    except OSError as exc:
        logger.warning("passed over the folder %r: it cannot be read: %s", folder.name, exc.strerror or exc)
        return []


def open_bundle(ref: BundleRef, keys: PublicKeys | None = None) -> Bundle:
    """Read and validate the manifest of a bundle.

    Args:
        ref: Where it lies.
        keys: Somebody who has one of them must have signed it; None asks for no signature.

    Raises:
        BundleNotSigned: Its signature is missing or not valid, or its manifest is not the one that was signed.
        BundleError: The manifest is missing, no JSON, not valid (up to 64 faults are named), or that of another bundle.
    """
    signed = None if keys is None else read_signature(ref.folder, keys)
    try:
        text = read_bounded(ref.folder / MANIFEST_FILE, MAX_MANIFEST_BYTES)
    except OSError as exc:
        raise BundleError(f"{MANIFEST_FILE} cannot be read: {exc.strerror or exc}") from exc
    if len(text) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{MANIFEST_FILE} has more than {MAX_MANIFEST_BYTES} bytes, which no manifest has")
    if signed is not None and signed.get(MANIFEST_FILE) != hashlib.sha256(text).hexdigest():
        raise BundleNotSigned(f"{MANIFEST_FILE} is not what was signed")
    try:
        manifest = Manifest.model_validate_json(text, strict=True)
    except ValidationError as exc:
        raise BundleError(f"{MANIFEST_FILE} is not valid: {_told(exc)}") from exc
    if (manifest.name, manifest.version) != (ref.name, ref.version):
        raise BundleError(
            f"{MANIFEST_FILE} is that of {manifest.name}/{manifest.version}, but lies in {ref.name}/{ref.version}"
        )
    return Bundle(folder=ref.folder, manifest=manifest, signed=signed)


def _told(error: ValidationError) -> str:
    """Return the faults; not that a list is too short, where it is for an item that has a fault of its own."""
    # a manifest of a million faults is told in a few: the reason stands on the card, in the log and on /readyz
    faults = error.errors(include_url=False)[:MAX_FAULTS]
    more = error.error_count() - len(faults)
    told = [
        fault
        for fault in faults
        if fault["type"] != "too_short" or not any(_is_below(other["loc"], fault["loc"]) for other in faults)
    ]
    return "; ".join(
        f"{quoted('.'.join(map(str, fault['loc']))) or 'document'}: "
        f"{fault['msg'].removeprefix('Value error, ')[:MAX_FAULT_CHARS]}"
        for fault in told
    ) + (f"; and {more} more" if more else "")


def _is_below(place: tuple[int | str, ...], other: tuple[int | str, ...]) -> bool:
    return len(place) > len(other) and place[: len(other)] == other
