"""Where the certificates of mutual TLS are, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
from aigateway_common.settings import ConfigurationError
from aigateway_common.tls import Tls
from aigateway_launcher.certificates import of_command
from aigateway_launcher.plan import Overrides, Plan, make
from support.certificates import Authority, Secret, tls_environment


@pytest.fixture
def secret(tmp_path: Path) -> Secret:
    return Authority().mounted(tmp_path / "secret", "router")


def plan(tmp_path: Path, text: str = "", /, **environment: str) -> Plan:
    file = tmp_path / "aigateway.yaml"
    file.write_text(text)
    return make(Overrides(file), environment, ollama_found=lambda: False)


def problems(tmp_path: Path, text: str = "", /, **environment: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        plan(tmp_path, text, **environment)
    return [str(problem) for problem in caught.value.problems]


def section(secret: Secret, **other: Path) -> str:
    paths = {"certificate": secret.folder / "tls.crt", "key": secret.folder / "tls.key", "ca": secret.folder / "ca.crt"}
    lines = [f"    {name}: {path}\n" for name, path in (paths | other).items()]
    return "server:\n  tls:\n" + "".join(lines)


def test_without_any_of_the_settings_there_is_no_tls(tmp_path: Path) -> None:
    assert plan(tmp_path).tls is None


def test_the_file_wins_over_the_environment(tmp_path: Path, secret: Secret) -> None:
    folder = secret.folder
    wanted = Tls(folder / "tls.crt", folder / "tls.key", folder / "ca.crt", "router")
    environment = tls_environment(secret, AIGATEWAY_TLS_SERVER_NAME="router")
    assert plan(tmp_path, **environment).tls == wanted
    assert (
        plan(tmp_path, section(secret), AIGATEWAY_TLS_CA="/nowhere", AIGATEWAY_TLS_SERVER_NAME="router").tls == wanted
    )


def test_callers_are_named_in_the_file_or_with_commas_between(tmp_path: Path, secret: Secret) -> None:
    given = tls_environment(secret, AIGATEWAY_TLS_CALLERS=" router, usage,")
    found = [plan(tmp_path, text, **given).tls for text in ("", "server: {tls: {callers: [edge]}}")]
    assert [tls.callers for tls in found if tls] == [("router", "usage"), ("edge",)]
    assert len(problems(tmp_path, AIGATEWAY_TLS_CALLERS="router")) == 3


def test_all_three_are_needed_and_each_that_is_missing_is_named(tmp_path: Path, secret: Secret) -> None:
    environment = tls_environment(secret)
    del environment["AIGATEWAY_TLS_KEY"], environment["AIGATEWAY_TLS_CA"]
    need = "is not set; TLS needs a certificate, its key and a CA: set it or"
    assert problems(tmp_path, **environment) == [
        f"AIGATEWAY_TLS_KEY: {need} `server.tls.key`, or none of them",
        f"AIGATEWAY_TLS_CA: {need} `server.tls.ca`, or none of them",
    ]
    assert len(problems(tmp_path, AIGATEWAY_TLS_SERVER_NAME="router")) == 3


def test_a_file_that_cannot_be_used_is_named_with_its_setting(tmp_path: Path, secret: Secret) -> None:
    nothing = tmp_path / "nothing"
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("no PEM")
    other = Authority().mounted(tmp_path / "other", "router").folder / "tls.key"
    certificate = secret.folder / "tls.crt"
    assert problems(tmp_path, section(secret, ca=nothing)) == [
        f"aigateway.yaml:5: `{nothing}` cannot be read: No such file or directory"
    ]
    assert problems(tmp_path, section(secret, certificate=nonsense)) == [
        f"aigateway.yaml:3: `{nonsense}` holds no certificate in PEM"
    ]
    assert problems(tmp_path, section(secret, key=certificate)) == [
        f"aigateway.yaml:4: `{certificate}` holds no private key in PEM without a password"
    ]
    environment = tls_environment(secret, AIGATEWAY_TLS_KEY=str(other))
    assert problems(tmp_path, **environment) == [
        f"AIGATEWAY_TLS_KEY: `{other}` is not the key of the certificate `{certificate}`"
    ]


def test_a_command_takes_the_certificates_and_minds_no_other_mistake(tmp_path: Path, secret: Secret) -> None:
    file = tmp_path / "aigateway.yaml"
    file.write_text("nonsense: 1\n" + section(secret))
    found = of_command(file, {"AIGATEWAY_NONSENSE": "1"})
    assert found is not None
    assert found.tls.ca == secret.folder / "ca.crt"
    assert of_command(None, {}) is None
    with pytest.raises(ConfigurationError, match="AIGATEWAY_TLS_KEY: is not set"):
        of_command(None, {"AIGATEWAY_TLS_CA": "x", "AIGATEWAY_TLS_CERT": "x"})
