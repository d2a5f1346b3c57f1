"""Signatures over bundles: OpenSSF model signing with a key pair, read and held against the files of a folder.

``model.sig`` in a version's folder is a Sigstore bundle (v0.3) with a DSSE envelope: an in-toto statement that names
every file of the folder with its SHA-256, signed with an elliptic curve key. ``python -m training sign`` writes it
with the library ``model-signing``, whose own command verifies it too; what that command signs is verified here.

The format is read here and not by that library, which would cost every worker 50 MB of memory and the image 50 MB of
packages (it brings Sigstore's network clients), and tells only whether a folder on the disk is right. A service has to
know more: which digests were signed. The loader takes the manifest's digest from here and every other file's from the
manifest, each of the very bytes that it hands on; so nothing can be put in between the check and the use.

Formats: https://github.com/ossf/model-signing-spec, https://github.com/secure-systems-lab/dsse/blob/master/protocol.md.
"""

import base64
import binascii
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.bundle.files import open_regular, read_bounded
from app.errors import BundleNotSigned, SettingsError, quoted

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

SIGNATURE_FILE = "model.sig"
# a name and a digest take some 200 bytes: thousands of files
MAX_SIGNATURE_BYTES = 4 * 2**20
_MAX_KEY_BYTES = 64 * 1024
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----\n?", re.DOTALL)
_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE = "https://model_signing/signature/v1.0"


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """Whose signatures count: those of any of these keys, so that one can follow another.

    Attributes:
        by_hint: The keys by the SHA-256 of their PEM, as signatures name them.
    """

    by_hint: "Mapping[str, EllipticCurvePublicKey]"


def read_keys(path: Path | None) -> PublicKeys | None:
    """Read the public keys of a PEM file; None where no file is named.

    Raises:
        SettingsError: The file cannot be read, or holds none, or keys of another kind; or the library is missing.
    """
    if path is None:
        return None
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ModuleNotFoundError:
        raise SettingsError(
            "ZTO_SIGNING_KEY is set, and what verifies signatures is not installed: pip install "
            "'zero-to-one[verifying]', or leave it unset"
        ) from None
    try:
        blocks = _PEM.findall(read_bounded(path, _MAX_KEY_BYTES))
        keys = [load_pem_public_key(block) for block in blocks]
    except OSError as exc:
        raise SettingsError(f"ZTO_SIGNING_KEY={path} cannot be read: {exc.strerror or exc}") from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise SettingsError(f"ZTO_SIGNING_KEY={path} holds no public key that can be read: {exc}") from exc
    if not keys:
        raise SettingsError(
            f"ZTO_SIGNING_KEY={path} holds no public key in PEM form (-----BEGIN PUBLIC KEY-----); to have one of a "
            "private key: openssl ec -in key.pem -pubout"
        )
    return PublicKeys(dict(_named(key, path) for key in keys))


def _named(key: Any, path: Path) -> "tuple[str, EllipticCurvePublicKey]":
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise SettingsError(
            f"ZTO_SIGNING_KEY={path} holds a key of another kind: it has to be an elliptic curve key on P-256, P-384 "
            "or P-521"
        )
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest(), key


def read_signature(folder: Path, keys: PublicKeys) -> dict[str, str]:
    """Return the SHA-256 of every file of a bundle, as somebody whose key counts has signed it.

    Args:
        folder: Of the version.
        keys: Whose signatures count.

    Returns:
        Digests in hexadecimal, by path inside the folder.

    Raises:
        BundleNotSigned: There is no signature, it is damaged, by another key, or says something else.
    """
    try:
        text = read_bounded(folder / SIGNATURE_FILE, MAX_SIGNATURE_BYTES)
    except FileNotFoundError:
        raise BundleNotSigned(
            f"{SIGNATURE_FILE} is missing, and ZTO_SIGNING_KEY asks for it; whoever has the private key writes it "
            f"with: python -m training sign {folder.parent.name}/{folder.name} --key KEY"
        ) from None
    except OSError as exc:
        raise BundleNotSigned(f"{SIGNATURE_FILE} cannot be read: {exc.strerror or exc}") from exc
    if len(text) > MAX_SIGNATURE_BYTES:
        raise BundleNotSigned(f"{SIGNATURE_FILE} has more than {MAX_SIGNATURE_BYTES} bytes, which no signature has")
    try:
        return _digests(json.loads(_signed_payload(text, keys)))
    except (ValueError, KeyError, IndexError, TypeError, RecursionError, binascii.Error) as exc:
        told = f"{type(exc).__name__}: {exc}" if isinstance(exc, KeyError | TypeError) else str(exc)
        raise BundleNotSigned(f"{SIGNATURE_FILE} is no signature as model-signing 1 writes it: {told}") from exc


def _signed_payload(text: bytes, keys: PublicKeys) -> bytes:
    """Return what was signed, once the signature is known to be right."""
    from cryptography.exceptions import InvalidSignature

    document = json.loads(text)
    if document["mediaType"] != _MEDIA_TYPE:
        raise ValueError(f"its media type is {_short(document['mediaType'])}, expected {_MEDIA_TYPE!r}")
    material = document["verificationMaterial"]
    if "publicKey" not in material:
        raise BundleNotSigned(f"{SIGNATURE_FILE} was made with a certificate or an identity, not with a key")
    envelope = document["dsseEnvelope"]
    if envelope["payloadType"] != _PAYLOAD_TYPE:
        raise ValueError(f"its payload is {_short(envelope['payloadType'])}, expected {_PAYLOAD_TYPE!r}")
    payload = base64.b64decode(envelope["payload"], validate=True)
    signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
    hint = material["publicKey"]["hint"]
    key = keys.by_hint.get(hint)
    if key is None:
        raise BundleNotSigned(
            f"{SIGNATURE_FILE} is by another key: SHA-256 {quoted(str(hint))}, and ZTO_SIGNING_KEY holds "
            f"{', '.join(keys.by_hint)}"
        )
    try:
        _verify(key, signature, payload)
    except InvalidSignature:
        raise BundleNotSigned(
            f"{SIGNATURE_FILE} is not valid: it was altered, or is by another key than it names"
        ) from None
    return payload


def _verify(key: "EllipticCurvePublicKey", signature: bytes, payload: bytes) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

    by_size: dict[int, hashes.HashAlgorithm] = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
    kind = _PAYLOAD_TYPE.encode()
    # DSSE's encoding before authentication: lengths come first, so that no other type and payload read the same
    encoded = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    key.verify(signature, encoded, ECDSA(by_size[key.curve.key_size]))


def _digests(statement: Any) -> dict[str, str]:
    """Return the files that a statement names; it is whoever signed's, and held to its form all the same."""
    for name, expected in (("_type", _STATEMENT_TYPE), ("predicateType", _PREDICATE_TYPE)):
        if statement[name] != expected:
            raise ValueError(f"its {name} is {statement[name]!r}, expected {expected!r}")
    predicate = statement["predicate"]
    if predicate["serialization"]["method"] != "files":
        raise ValueError(f"its digests are of {predicate['serialization']['method']!r}, expected one for each file")
    digests: dict[str, str] = {}
    for resource in predicate["resources"]:
        name, algorithm, digest = resource["name"], resource["algorithm"], resource["digest"]
        if algorithm != "sha256" or re.fullmatch(r"[0-9a-f]{64}", digest) is None:
            raise ValueError(f"the digest of {name!r} is no SHA-256")
        if name in digests:
            raise ValueError(f"it names {name!r} twice")
        digests[name] = digest
    return digests


def expect_same_files(folder: Path, signed: Mapping[str, str]) -> None:
    """Hold every file of a folder against what was signed; more files, or fewer, are faults too.

    Raises:
        BundleNotSigned: The message names the first files that were altered, added or taken away.
    """
    try:
        found = dict(_files(folder))
        digests = {name: _sha256(path) for name, path in found.items() if name in signed}
    except OSError as exc:
        raise BundleNotSigned(f"{exc.filename or folder} cannot be read: {exc.strerror or exc}") from exc
    faults = (
        ("not what was signed", [name for name, digest in digests.items() if digest != signed[name]]),
        ("not signed", [name for name in found if name not in signed]),
        ("signed and missing", [name for name in signed if name not in found]),
    )
    told = [f"{what}: {_some(sorted(names))}" for what, names in faults if names]
    if told:
        raise BundleNotSigned(f"the files are not those that {SIGNATURE_FILE} was made over; {'; '.join(told)}")


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield all below a folder that is no folder, the signature left out, by its path inside."""

    def fail(error: OSError) -> None:
        raise error

    root = folder.resolve()  # the version itself may be linked, as volumes are
    for place, folders, files in os.walk(root, onerror=fail):
        # what is linked is not what was signed, even where it leads to the same
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        for name in (*files, *links):
            path = Path(place) / name
            inside = path.relative_to(root).as_posix()
            if path.is_symlink():
                raise BundleNotSigned(f"{inside!r} is a link; a signed bundle holds plain files")
            if inside != SIGNATURE_FILE:
                yield inside, path


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _short(value: object) -> str:
    return quoted(repr(value))


def _some(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
