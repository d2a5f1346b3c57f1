"""Keys on the disk, and bundles signed with them."""

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from training.signing import signer


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Two PEM files."""

    private: Path
    public: Path

    def sign(self, folder: Path) -> Path:
        """Sign a bundle's folder; return the signature's path."""
        return signer(self.private)(folder)


def key_pair(
    folder: Path, name: str = "key", curve: ec.EllipticCurve | None = None, *, password: bytes | None = None
) -> KeyPair:
    """Write a new key pair, on P-256 where no curve is named."""
    return _write(folder, name, ec.generate_private_key(curve or ec.SECP256R1()), password)


def rsa_key_pair(folder: Path) -> KeyPair:
    """Write a key pair of a kind that signs no bundles."""
    return _write(folder, "rsa", rsa.generate_private_key(65_537, 2048), None)


def _write(
    folder: Path, name: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: bytes | None
) -> KeyPair:
    pair = KeyPair(folder / f"{name}.pem", folder / f"{name}.pub")
    lock = form.NoEncryption() if password is None else form.BestAvailableEncryption(password)
    pair.private.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, lock))
    pair.public.write_bytes(
        key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    )  # fmt: skip
    return pair
