"""From the section about alerts to the usage service's settings, with every mistake found on the way."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from aigateway_common.addresses import is_allowed
from aigateway_common.settings import Problem
from aigateway_usage.alerts import signature
from aigateway_usage.settings import AlertSettings, Webhook

if TYPE_CHECKING:
    from aigateway_common.settings import Document

    from aigateway_launcher.config_policies import AlertsSection, WebhookSection

MIN_SECRET: Final = 16
"""Bytes of a secret; the standard makes ones of 24 or more."""
HINT: Final = (
    """make one with: python3 -c 'import base64, os; print("whsec_" + base64.b64encode(os.urandom(32)).decode())'"""
)


class AlertsMaker:
    """Resolves the alerts; `problems` fills while it works."""

    def __init__(self, section: AlertsSection, document: Document) -> None:
        self.problems: list[Problem] = []
        self._section = section
        self._document = document

    def alerts(self) -> AlertSettings:
        """What is an alert, and who is told."""
        section = self._section
        webhooks: dict[str, Webhook] = {}
        for index, each in enumerate(section.webhooks):
            if each.url in webhooks:
                self._problem(index, "url", "is there twice; each address is told once")
            webhooks[each.url] = self._webhook(index, each)
        return AlertSettings(
            consecutive_errors=section.consecutive_errors,
            latency_factor=section.latency_factor,
            latency_min_calls=section.latency_min_calls,
            provider_down=section.provider_down_seconds,
            webhooks=tuple(webhooks.values()),
        )

    def _webhook(self, index: int, section: WebhookSection) -> Webhook:
        if why := _wrong_url(section):
            self._problem(index, "url", why)
        if ("alerts", "webhooks", index, "secret") not in self._document.variables:
            self._problem(index, "secret", "a secret may not stand in the file; write `${ALERT_WEBHOOK_SECRET}`")
        elif why := _wrong_secret(section.secret):
            self._problem(index, "secret", f"{why}; {HINT}")
        return Webhook(section.url, section.secret, section.allow_private)

    def _problem(self, index: int, name: str, why: str) -> None:
        where = self._document.where(("alerts", "webhooks", index, name))
        self.problems.append(Problem(where, f"`alerts.webhooks[{index}].{name}`: {why}"))


def _wrong_url(section: WebhookSection) -> str | None:
    """What is wrong with a webhook's address; it is not quoted, since it may hold a secret."""
    try:
        url = urlsplit(section.url)
        host, _ = url.hostname, url.port
    except ValueError:
        return "is not a valid address"
    if url.scheme not in {"http", "https"} or not host:
        return "must begin with http:// or https:// and name a host"
    if url.username is not None or url.password is not None:
        return "has a user or password in it, which is not sent on"
    if _leads_inside(host, internal=section.allow_private):
        return "leads to an address that is not public" + (
            "" if section.allow_private else "; `allow_private: true` allows loopback and private networks"
        )
    return None


def _leads_inside(host: str, *, internal: bool) -> bool:
    """Whether a host is seen to lead where it may not; other names are checked whenever they are resolved."""
    if host == "localhost":
        return not internal
    try:
        ip_address(host)
    except ValueError:
        return False
    return not is_allowed(host, internal=internal)


def _wrong_secret(secret: str) -> str | None:
    try:
        key = signature.key(secret)
    except ValueError as error:
        return str(error)
    if len(key) < MIN_SECRET or len(set(key)) < MIN_SECRET // 2:
        return f"a secret of {MIN_SECRET} or more varied bytes is needed"
    return None
