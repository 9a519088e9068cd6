"""Certificates for hosts of the lab: made anew for each lab, vouched for by nobody, gone with it."""

import hashlib
import ssl
import subprocess
from pathlib import Path

from netns.build import Lab
from netns.errors import LabError


def certificate(lab: Lab, name: str) -> Path:
    """Return a PEM file with the certificate of `name` and its private key; it is made when it is not there yet."""
    path = lab.directory / f"{name}.pem"
    if not path.exists():
        key, public = (lab.directory / f"{name}.{part}" for part in ("key", "crt"))
        subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:vip", "-days", "2"]
        made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *subject]
        done = subprocess.run(
            [*made, "-keyout", str(key), "-out", str(public)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise LabError(f"openssl makes no certificate for {name}: {done.stderr.strip()}")
        path.touch(mode=0o600)
        path.write_text(key.read_text("ascii") + public.read_text("ascii"), "ascii")
        key.unlink()
    return path


def fingerprint(der: bytes) -> str:
    """Write the beginning of a certificate's SHA-256 fingerprint as openssl does."""
    return ":".join(f"{byte:02X}" for byte in hashlib.sha256(der).digest()[:8])


def of(path: Path) -> bytes:
    """Read the certificate of a PEM file, in DER."""
    text = path.read_text("ascii")
    return ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERTIFICATE-----") :])


def subject(der: bytes) -> str:
    """Return the name that a certificate is for, as openssl reads it."""
    done = subprocess.run(
        ["openssl", "x509", "-inform", "DER", "-noout", "-subject", "-nameopt", "multiline"],
        input=der,
        capture_output=True,
        check=False,
    )
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        title, _, value = line.partition("=")
        if title.strip() == "commonName":
            return value.strip()
    raise LabError("openssl cannot read the certificate")
