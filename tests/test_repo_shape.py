"""The structural promises: each provider has its row, cases and documents; files stay small; names are kept."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest
import yaml
from aigateway_common.reasons import REASONS
from aigateway_providers.registry import PROVIDERS

ROOT = Path(__file__).resolve().parents[1]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
SOURCES = [ROOT / name for name in TRACKED if name.endswith(".py") and "/gen/" not in name and (ROOT / name).is_file()]
PAID = [kind for kind in PROVIDERS if kind != "sandbox"]


def test_the_top_level_is_as_users_were_told() -> None:
    for name in ("protos", "services/router", "services/providers", "services/usage", "edge", "deploy/k8s", "tests"):
        assert (ROOT / name).is_dir(), name
    for name in ("Makefile", "pyproject.toml", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", ".ci/run"):
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("kind", PROVIDERS)
def test_every_provider_is_documented(kind: str) -> None:
    readme = (ROOT / "README.md").read_text()
    assert f"`{kind}/…`" in readme
    documented = (ROOT / "docs" / "configuration.md").read_text()
    for variable in (*PROVIDERS[kind].key_env, *PROVIDERS[kind].url_env):
        assert f"`{variable}`" in documented, variable


@pytest.mark.parametrize("kind", PAID)
def test_every_provider_has_a_plain_case_and_recorded_cases(kind: str) -> None:
    from support.cases import CASES  # noqa: PLC0415 - the folder's own module, not part of the shape

    assert kind in {case.provider for case in CASES}
    module = "openai" if PROVIDERS[kind].module.endswith("openai_compat.adapter") else kind
    assert (ROOT / "tests" / "recorded" / f"test_{module}.py").is_file()
    assert (ROOT / "tests" / "support" / "recorded" / f"{module}.py").is_file()


def test_a_provider_of_its_own_protocol_is_pure_translators_and_one_adapter() -> None:
    for row in PROVIDERS.values():
        folder = ROOT / "services" / "providers" / Path(*row.module.split(".")).parent
        wanted = {"adapter.py"} if row.kind == "sandbox" else {"adapter.py", "request.py", "response.py", "stream.py"}
        assert wanted <= {path.name for path in folder.iterdir()}, row.kind


def test_every_source_file_says_what_it_is_for_and_is_one_thing() -> None:
    for path in SOURCES:
        text = path.read_text()
        assert len(text.splitlines()) <= 600, f"{path.relative_to(ROOT)} is probably two things"
        if text.strip():
            assert ast.get_docstring(ast.parse(text)), f"{path.relative_to(ROOT)} has no docstring"


def test_no_function_is_longer_than_a_page() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.name} has {length} lines"
        for path in SOURCES
        if "tests" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno) > 60
    ]
    assert long == []


def test_every_reason_used_exists_and_every_reason_is_used() -> None:
    used: set[str] = set()
    for path in SOURCES:
        if "tests" in path.parts or path.name == "reasons.py":
            continue
        text = path.read_text()
        used |= {name for name in REASONS if f'"{name}"' in text}
    assert set(REASONS) == used, "a reason that nothing raises is a promise not kept"


def test_recorded_traffic_is_not_in_the_project() -> None:
    assert not [name for name in TRACKED if "fixtures/" in name]


def test_the_protos_are_linted_and_compared() -> None:
    rules = yaml.safe_load((ROOT / "protos" / "buf.yaml").read_text())
    assert {"STANDARD", "COMMENTS"} <= set(rules["lint"]["use"])
    assert rules["breaking"]["use"] == ["FILE"]


def test_the_gate_runs_what_the_readme_says() -> None:
    assert "make check" in (ROOT / ".ci" / "run").read_text()
    makefile = (ROOT / "Makefile").read_text()
    assert "test ##" in makefile
    (check,) = [line for line in makefile.splitlines() if line.startswith("check:")]
    assert {"lock-check", "protos-check", "docs-check", "lint", "types", "test"} <= set(check.split())
    for target in ("make run", "make test"):
        assert target in (ROOT / "README.md").read_text()
