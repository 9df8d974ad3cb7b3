"""Certificates for loopback, in folders as Kubernetes mounts them: files behind one link that changes at once."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM


class Secret:
    """A mounted secret or config map; each `swap` puts new files there, all at once."""

    def __init__(self, folder: Path, files: Mapping[str, bytes]) -> None:
        self.folder = folder
        self._turn = 0
        folder.mkdir(parents=True)
        self.swap(files)
        for name in files:
            (folder / name).symlink_to(Path("..data", name))

    def swap(self, files: Mapping[str, bytes]) -> None:
        """Put `files` in the place of those that are there."""
        self._turn += 1
        version = self.folder / f"..{self._turn}"
        version.mkdir()
        for name, content in files.items():
            (version / name).write_bytes(content)
        link = self.folder / "..data_tmp"
        link.symlink_to(version.name)
        link.replace(self.folder / "..data")


class Mounted:
    """A mounted secret with `tls.crt` and `tls.key`; each `renew` puts a new pair there."""

    def __init__(self, folder: Path) -> None:
        self.certificate, self.key = folder / "tls.crt", folder / "tls.key"
        self._secret = Secret(folder, self._pair())

    def renew(self) -> bytes:
        """A new pair; its certificate in PEM."""
        files = self._pair()
        self._secret.swap(files)
        return files["tls.crt"]

    def _pair(self) -> dict[str, bytes]:
        certificate, key = _signed(["localhost", "127.0.0.1"], ca=True)
        return {"tls.crt": certificate.public_bytes(PEM), "tls.key": _private(key)}


class Authority:
    """A CA, and what it signs."""

    def __init__(self, name: str = "test CA") -> None:
        self._certificate, self._key = _signed([name], ca=True)
        self.pem = self._certificate.public_bytes(PEM)

    def issue(self, *names: str) -> dict[str, bytes]:
        """A new certificate for `names`, as cert-manager puts it into a secret."""
        certificate, key = _signed(list(names), issuer=self._certificate, signer=self._key)
        return {"tls.crt": certificate.public_bytes(PEM), "tls.key": _private(key), "ca.crt": self.pem}

    def mounted(self, folder: Path, *names: str) -> Secret:
        """A mounted secret with a certificate for `names`."""
        return Secret(folder, self.issue(*names))


def tls_environment(secret: Secret, **more: str) -> dict[str, str]:
    """The gateway's variables that name the files of `secret`."""
    return {
        "AIGATEWAY_TLS_CERT": str(secret.folder / "tls.crt"),
        "AIGATEWAY_TLS_KEY": str(secret.folder / "tls.key"),
        "AIGATEWAY_TLS_CA": str(secret.folder / "ca.crt"),
    } | more


def _signed(
    names: list[str],
    *,
    ca: bool = False,
    issuer: x509.Certificate | None = None,
    signer: ec.EllipticCurvePrivateKey | None = None,
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate for `names` and its key, signed by itself unless an issuer is given."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([_general(each) for each in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(signer or key, hashes.SHA256())
    )
    return certificate, key


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
