"""Signs bundles: OpenSSF model signing with a key pair, through the library ``model-signing`` (the extra ``signing``).

The signature is one more file of the version's folder, ``model.sig``, over all others. The service asks for it where
``ZTO_SIGNING_KEY`` names the public key, and so does ``model_signing verify key``.
"""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from app.bundle.loader import MANIFEST_FILE
from app.bundle.signing import SIGNATURE_FILE
from training.errors import NotSigned


def signer(private_key: Path, password: bytes | None = None) -> Callable[[Path], Path]:
    """Return what signs folders with a private key.

    Args:
        private_key: A PEM file: an elliptic curve key on P-256, P-384 or P-521.
        password: Of the file, where it is encrypted.

    Returns:
        Called with the folder of a version, it writes ``model.sig`` into it, in place of one that is there, and returns
        its path. It raises :class:`NotSigned` where the folder is no bundle, or holds links.

    Raises:
        NotSigned: The key cannot be read, or is of another kind; or the library is not installed.
    """
    try:
        from model_signing import hashing, signing
    except ModuleNotFoundError as exc:
        raise NotSigned(f"{exc.name} is not installed; signing needs: pip install 'zero-to-one[signing]'") from exc
    try:
        # its signature says text, and what it calls takes bytes
        config = signing.Config()  # type: ignore[no-untyped-call]
        config.use_elliptic_key_signer(private_key=private_key, password=cast(Any, password))
    except OSError as exc:
        raise NotSigned(f"{private_key}: {exc.strerror or exc}") from exc
    except (ValueError, TypeError, AttributeError) as exc:  # the last, of a key that is on no curve
        raise NotSigned(
            f"{private_key} is no private key that can sign: it has to be an elliptic curve key on P-256, P-384 or "
            f"P-521, in PEM form, and its password is needed where it has one ({exc})"
        ) from exc

    def sign(folder: Path) -> Path:
        if not (folder / MANIFEST_FILE).is_file():
            raise NotSigned(f"{folder} is no bundle: it has no {MANIFEST_FILE}; name the folder of a version")
        # all that lies there, what git would leave out too: whatever is not signed could be put there by anyone
        hashes = hashing.Config()  # type: ignore[no-untyped-call]
        hashes.set_ignored_paths(paths=[SIGNATURE_FILE], ignore_git_paths=False)
        target = folder / SIGNATURE_FILE
        # beside the folder and not in it, where it would be signed itself
        temporary = folder.parent / f".tmp-{folder.name}-{secrets.token_hex(8)}.sig"
        try:
            config.set_hashing_config(hashes).sign(folder, temporary)
            temporary.replace(target)
        except ValueError as exc:  # a link, or something that is neither file nor folder
            raise NotSigned(f"{folder} cannot be signed: {exc}") from exc
        finally:
            temporary.unlink(missing_ok=True)
        return target

    return sign
