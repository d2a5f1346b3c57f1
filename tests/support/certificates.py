"""Certificates for services of the tests."""

import subprocess
from pathlib import Path

ECDSA = ("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
RSA = ("rsa:2048",)


def certificate(folder: Path, name: str, kind: tuple[str, ...] = ECDSA) -> tuple[Path, Path]:
    """Write a certificate of 127.0.0.1 that has signed itself, and its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", *kind, "-nodes", "-days", "2", "-subj", f"/CN={name}",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key
