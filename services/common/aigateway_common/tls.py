"""Mutual TLS between services: this process's certificate, from files that may change while it runs.

Reads and checks them, and makes of them what a gRPC server presents; `renewing` is the client's side. Who has the files
replaced (cert-manager, an operator) and where they are is not known here.
"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Literal

from aigateway_common import logs

if TYPE_CHECKING:
    from pathlib import Path

    import grpc

LOOK_SECONDS: Final = 1.0
"""How often, at most, the files are looked at: each connection and each call asks for them."""

_TRIES: Final = 3
"""How often files are read that are replaced meanwhile, and so may not belong together."""

Part = Literal["certificate", "key", "ca"]

_log = logs.get("tls")


@dataclass(frozen=True, slots=True)
class Tls:
    """Where the files are, each in PEM."""

    certificate: Path
    """What this process shows, to its clients and its servers alike; its chain after it."""
    key: Path
    """The private key of that certificate."""
    ca: Path
    """Who signs the certificates of the others; all of them are trusted."""
    server_name: str | None = None
    """The name that every server must show, where targets are addresses; without it, the one it was reached by."""
    callers: tuple[str, ...] = ()
    """Of whom calls are taken: names that certificates carry; none is whoever has one of the CA."""


@dataclass(frozen=True, slots=True)
class Pem:
    """What the files held when they were read."""

    certificate: bytes
    key: bytes
    ca: bytes


class UnusableError(Exception):
    """A file cannot be used; `part` says which setting names it. The message holds nothing of its content."""

    def __init__(self, part: Part, message: str) -> None:
        super().__init__(message)
        self.part: Part = part


class Certificates:
    """What the files hold now. Files that cannot be used change nothing; they are logged once."""

    def __init__(self, tls: Tls) -> None:
        """Reads the files. Raises UnusableError."""
        self.tls = tls
        self._lock = Lock()  # gRPC asks from threads of its own
        self._seen = _stamp(tls)
        self._pem = read(tls)
        self._next_look = time.monotonic() + LOOK_SECONDS

    def current(self) -> Pem:
        """The same object as before, unless the files have changed since."""
        with self._lock:
            if time.monotonic() >= self._next_look:
                self._look()
                self._next_look = time.monotonic() + LOOK_SECONDS
            return self._pem

    def _look(self) -> None:
        stamp = _stamp(self.tls)
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            pem = read(self.tls)
        except UnusableError as error:
            _log.error("certificates not taken: they cannot be used", setting=error.part, error=str(error))
            return
        if pem != self._pem:
            self._pem = pem
            _log.info("certificates taken", file=str(self.tls.certificate))


def read(tls: Tls) -> Pem:
    """The content of the files, which belong together. Raises UnusableError."""
    for _ in range(_TRIES):
        before = _stamp(tls)
        pem = _checked(tls)
        if _stamp(tls) == before:
            return pem
    raise UnusableError("certificate", f"`{tls.certificate}` or what belongs to it changed while it was read")


def _checked(tls: Tls) -> Pem:
    pem = Pem(_content("certificate", tls.certificate), _content("key", tls.key), _content("ca", tls.ca))
    _check_certificates("certificate", tls.certificate, pem.certificate)
    _check_certificates("ca", tls.ca, pem.ca)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # The password keeps OpenSSL from asking for one at the terminal.
        context.load_cert_chain(tls.certificate, tls.key, password="")
    except (ssl.SSLError, OSError) as error:
        if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
            raise UnusableError("key", f"`{tls.key}` is not the key of the certificate `{tls.certificate}`") from error
        raise UnusableError("key", f"`{tls.key}` holds no private key in PEM without a password") from error
    return pem


def server_credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """For a server that serves those alone who show a certificate of the CA; changed files hold for new connections."""
    import grpc  # noqa: PLC0415 -- not for who only reads the files

    shown = certificates.current()

    def changed() -> Any:  # None when nothing has changed, which the type stubs do not know
        nonlocal shown
        pem = certificates.current()
        if pem is shown:
            return None
        shown = pem
        return _configuration(pem)

    credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
        _configuration(shown), changed, require_client_authentication=True
    )
    return credentials


def _configuration(pem: Pem) -> grpc.ServerCertificateConfiguration:
    import grpc  # noqa: PLC0415 -- as above

    configuration: grpc.ServerCertificateConfiguration = grpc.ssl_server_certificate_configuration(
        [(pem.key, pem.certificate)], root_certificates=pem.ca
    )
    return configuration


def _content(part: Part, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnusableError(part, f"`{path}` cannot be read: {error.strerror}") from error


def _check_certificates(part: Part, path: Path, content: bytes) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise UnusableError(part, f"`{path}` holds no certificate in PEM") from error


def _stamp(tls: Tls) -> tuple[tuple[int, int] | None, ...]:
    """Changes whenever a file does; one that is away has none."""
    return tuple(_file_stamp(path) for path in (tls.certificate, tls.key, tls.ca))


def _file_stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
