#!/usr/bin/env python3
"""Makes Envoy's configuration of the templates beside it, with nothing but Python's standard library.

    python3 render.py --out FOLDER [NAME=VALUE ...]

Settings are those of `SETTINGS`, each also taken from the environment as ENVOY_NAME. What they do is in README.md.
Starting Envoy is `run.py`'s business.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TEMPLATES: Final = Path(__file__).resolve().parent
SETTINGS: Final[Mapping[str, str]] = {
    "EDGES": "edge:8080",
    "ROUTERS": "router:50051",
    "LISTEN": "0.0.0.0:8000",
    "STATUS": "0.0.0.0:9902",
    "ADMIN": "127.0.0.1:9901",
    "FOLDER": "/etc/envoy",
    "TLS_CERTIFICATE": "",
    "TLS_KEY": "",
    "ROUTERS_CERTIFICATE": "",
    "ROUTERS_KEY": "",
    "ROUTERS_CA": "",
    "ROUTERS_NAME": "",
    "JWT_ISSUER": "",
    "JWT_AUDIENCE": "",
    "JWT_JWKS": "",
    "OTLP": "",
    "TRACE_PERCENT": "100",
    "CA_FILE": "/etc/ssl/certs/ca-certificates.crt",
    "GRPC_WEB_ORIGIN": "",
    "OPERATORS": "",
    "RATE_PER_SECOND": "1000",
    "RATE_BURST": "2000",
    "MAX_CONNECTIONS": "10000",
    "MAX_CALLS": "10000",
    "STREAM_IDLE_SECONDS": "3660",
    "TRUSTED_PROXIES": "0",
    "DNS_SERVER": "",
}
"""Every setting and what it is when not given; empty is off."""

_LOOPBACK: Final = ("127.", "localhost", "[::1]")
_ADDRESSES: Final = ("EDGES", "ROUTERS", "LISTEN", "STATUS", "ADMIN", "DNS_SERVER")
"""Settings of the form host:port, where an IPv6 host stands in brackets."""
_NUMBERS: Final = (
    "TRACE_PERCENT",
    "RATE_PER_SECOND",
    "RATE_BURST",
    "MAX_CONNECTIONS",
    "MAX_CALLS",
    "STREAM_IDLE_SECONDS",
    "TRUSTED_PROXIES",
)
_PLAIN: Final = re.compile(r"[^\s\"'\\{}\[\]#]*")
"""What a value may be made of, so that none changes the meaning of the YAML around it."""
_ON: Final = {"1", "on", "true", "yes"}
_OFF: Final = {"", "0", "off", "false", "no"}


class SettingError(ValueError):
    """A setting that does not fit; says which and what would."""


def render(given: Mapping[str, str]) -> dict[str, str]:
    """The files of the configuration by name: `envoy.yaml`, and what TLS for callers or to routers needs beside it.

    Raises:
        SettingError: A setting is unknown, missing or of another form.
    """
    for name in given:
        if name not in SETTINGS:
            raise SettingError(f"`{name}` is not a setting; there are {', '.join(SETTINGS)}")
    values = derived({**SETTINGS, **given})
    names = ["envoy", *(["certificate"] if values["TLS_CERTIFICATE"] else [])]
    names += ["routers", "routers-ca"] if values["ROUTERS_CERTIFICATE"] else []
    return {f"{name}.yaml": filled((TEMPLATES / f"{name}.template.yaml").read_text(), values) for name in names}


def derived(values: dict[str, str]) -> dict[str, str]:
    """The settings with what the templates need of them: hosts, ports, lists of endpoints."""
    _check(values)
    result = dict(values)
    for name in ("LISTEN", "STATUS", "ADMIN", "DNS_SERVER"):
        if values[name]:
            result |= _address(name, values[name])
    for name in ("EDGES", "ROUTERS"):
        result[f"{name}_ENDPOINTS"] = _endpoints(_split(name, one) for one in values[name].split(","))
    jwks = values["JWT_JWKS"]
    remote = "://" in jwks
    result |= {"JWT_JWKS_URL": jwks if remote else "", "JWT_JWKS_FILE": "" if remote else jwks}
    if remote:
        result |= _url("JWKS", jwks)
    if values["OTLP"]:
        result |= _url("OTLP", values["OTLP"])
    result["TLS_FOLDER"] = str(Path(values["TLS_CERTIFICATE"]).parent)
    result["ROUTERS_FOLDER"] = str(Path(values["ROUTERS_CERTIFICATE"]).parent)
    result["ROUTERS_CA_FOLDER"] = str(Path(values["ROUTERS_CA"]).parent)
    name = values["ROUTERS_NAME"] or _split("ROUTERS", values["ROUTERS"].split(",")[0])[0]
    result |= {"ROUTERS_SAN": json.dumps(name), "ROUTERS_SAN_TYPE": "IP_ADDRESS" if _is_ip(name) else "DNS"}
    result["OPERATORS"] = "on" if values["OPERATORS"].lower() in _ON else ""
    return result


def filled(template: str, values: Mapping[str, str]) -> str:
    """The template with parts, conditions and settings in their places."""
    lines = template.splitlines()
    parts: dict[str, list[str]] = {}
    body = list(_parts_taken(lines, parts))
    inserted: list[str] = []
    for line in body:
        inserted += parts[line.removeprefix("#insert ")] if line.startswith("#insert ") else [line]
    kept = "\n".join(_conditions(inserted, values)) + "\n"
    return re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], kept)


def _parts_taken(lines: Sequence[str], parts: dict[str, list[str]]) -> Iterator[str]:
    """The lines outside of parts; those inside go to `parts`."""
    inside, depth = "", 0
    for line in lines:
        if line.startswith("#part "):
            inside, depth = line.removeprefix("#part "), 0
            parts[inside] = []
        elif not inside:
            yield line
        elif line == "#end" and not depth:
            inside = ""
        else:
            depth += line.startswith("#if ") - (line == "#end")
            parts[inside].append(line)


def _conditions(lines: Sequence[str], values: Mapping[str, str]) -> Iterator[str]:
    stack: list[bool] = []
    for line in lines:
        if line.startswith("#if "):
            name = line.removeprefix("#if ").removeprefix("not ")
            stack.append(all(stack) and bool(values[name]) is not line.startswith("#if not "))
        elif line == "#end":
            stack.pop()
        elif all(stack):
            yield line


def _check(values: Mapping[str, str]) -> None:
    for name, value in values.items():
        bare = value.replace("[", "").replace("]", "") if name in _ADDRESSES else value
        if not _PLAIN.fullmatch(bare):
            raise SettingError(f"`{name}` holds a character that no such setting has: {value!r}")
    for name in _NUMBERS:
        if not values[name].isdigit():
            raise SettingError(f"`{name}` must be a whole number, not {values[name]!r}")
    if values["OPERATORS"].lower() not in _ON | _OFF:
        raise SettingError("`OPERATORS` must be `on` or `off`")
    if not values["ADMIN"].startswith(_LOOPBACK):
        raise SettingError("`ADMIN` must be on loopback: whoever reaches it may stop Envoy")
    for one, others in (
        ("TLS_CERTIFICATE", ["TLS_KEY"]),
        ("TLS_KEY", ["TLS_CERTIFICATE"]),
        ("ROUTERS_CERTIFICATE", ["ROUTERS_KEY", "ROUTERS_CA"]),
        ("ROUTERS_KEY", ["ROUTERS_CERTIFICATE"]),
        ("ROUTERS_CA", ["ROUTERS_CERTIFICATE"]),
        ("ROUTERS_NAME", ["ROUTERS_CERTIFICATE"]),
        ("JWT_ISSUER", ["JWT_AUDIENCE", "JWT_JWKS"]),
        ("JWT_AUDIENCE", ["JWT_ISSUER"]),
        ("JWT_JWKS", ["JWT_ISSUER"]),
    ):
        lacking = [name for name in others if values[one] and not values[name]]
        if lacking:
            raise SettingError(f"`{one}` needs `{lacking[0]}` too")


def _split(name: str, text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise SettingError(f"`{name}` must be host:port, not {text!r}")
    return host.strip("[]"), int(port)


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _address(name: str, text: str) -> dict[str, str]:
    host, port = _split(name, text)
    return {f"{name}_HOST": json.dumps(host), f"{name}_PORT": str(port)}


def _url(name: str, text: str) -> dict[str, str]:
    url = urlsplit(text)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise SettingError(f"{text!r} must be an http or https address")
    port = url.port or {"OTLP": 4317}.get(name, 443 if url.scheme == "https" else 80)
    return {
        f"{name}_HOST": json.dumps(url.hostname),
        f"{name}_ENDPOINTS": _endpoints([(url.hostname, port)]),
        f"{name}_TLS": "on" if url.scheme == "https" else "",
    }


def _endpoints(addresses: Iterator[tuple[str, int]] | Sequence[tuple[str, int]]) -> str:
    """A list of endpoints as JSON, which is YAML."""
    return json.dumps(
        [{"endpoint": {"address": {"socket_address": {"address": h, "port_value": p}}}} for h, p in addresses]
    )


def settings_of(arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """NAME=VALUE arguments over ENVOY_NAME variables."""
    found = {name: environment[f"ENVOY_{name}"] for name in SETTINGS if environment.get(f"ENVOY_{name}")}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals:
            raise SettingError(f"{argument!r} must be NAME=VALUE")
        found[name] = value
    return found


def write(folder: Path, given: Mapping[str, str]) -> Path:
    """Write the files into `folder`; the path of the one that Envoy starts with."""
    files = render(given)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder / "envoy.yaml"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the files are written")
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE")
    options = parser.parse_args()
    try:
        write(options.out, settings_of(options.settings, os.environ))
    except SettingError as error:
        sys.exit(f"render: {error}")


if __name__ == "__main__":
    main()
