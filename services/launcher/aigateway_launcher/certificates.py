"""The certificate that a command shows to a service elsewhere: the one that services on this machine would show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigateway_common.settings import ConfigurationError, Document, load
from aigateway_common.tls import Certificates

from aigateway_launcher import config as shape
from aigateway_launcher import environment as env
from aigateway_launcher.plan import file_of
from aigateway_launcher.plan_tls import TlsMaker

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def of_command(config: Path | None, environment: Mapping[str, str]) -> Certificates | None:
    """What `server.tls` and AIGATEWAY_TLS_… name; None where they name nothing. Other settings may be wrong.

    Raises ConfigurationError.
    """
    settings = env.read(environment)
    path = file_of(config, settings)
    document = load(path, environment) if path else Document("")
    section = shape.parse(document)[0].server.tls
    maker = TlsMaker(section, document, settings)
    tls = maker.tls()
    if maker.problems:
        raise ConfigurationError(maker.problems)
    return Certificates(tls) if tls else None
