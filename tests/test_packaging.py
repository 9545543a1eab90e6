"""The package as a user meets it: what is installed, and whether the documents say what is true."""

import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from packaging.requirements import Requirement

from bnnpriors import extension

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs" / "guide").glob("*.md"))]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def pins() -> dict[str, str]:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    given = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {_normal(r.name): next(iter(r.specifier)).version for r in given}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_version_is_the_same_everywhere() -> None:
    version = PROJECT["version"]
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    changes = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert metadata.version("bnnpriors") == version
    assert f"\nversion: {version}\n" in citation
    assert f"## [{version}]" in changes


def test_constraints_are_exact_and_inside_the_declared_ranges() -> None:
    pinned = pins()
    declared = [
        *PROJECT["dependencies"],
        *(r for extra in PROJECT["optional-dependencies"].values() for r in extra),
    ]
    for requirement in map(Requirement, declared):
        if _normal(requirement.name) == "bnnpriors":
            continue
        assert requirement.specifier.contains(pinned[_normal(requirement.name)]), str(requirement)


def test_the_readme_opens_with_two_commands_that_set_everything_up() -> None:
    commands = [
        line for line in blocks(DOCUMENTS[0], "sh")[0].splitlines() if line and not line.startswith("#")
    ]
    assert len(commands) == 2
    assert all(
        c.startswith("python3 -m venv .venv && .venv/bin/pip install -c constraints.txt ") for c in commands
    )
    assert commands[0].endswith(".venv/bin/bnnpriors sweep")
    assert commands[1].endswith(".venv/bin/pytest")


def test_the_console_script_is_installed() -> None:
    (script,) = metadata.entry_points(group="console_scripts", name="bnnpriors")
    assert script.value == "bnnpriors.cli:main"
    assert callable(script.load())


def test_the_fused_kernel_is_compiled_or_the_package_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the build hook adds to a wheel, and that a compiler that fails stops nothing."""
    recipe = runpy.run_path(str(REPOSITORY / "hatch_build.py"))
    warnings: list[str] = []
    hook = SimpleNamespace(target_name="wheel", app=SimpleNamespace(display_warning=warnings.append))
    pure: dict[str, object] = {"artifacts": []}
    monkeypatch.setenv("CXX", "false")
    recipe["CustomBuildHook"].initialize(hook, "standard", pure)
    assert pure == {"artifacts": []}
    assert "installed without its C++ part" in warnings[0]
    monkeypatch.delenv("CXX")
    if not any(map(shutil.which, ("g++", "clang++", "c++"))):
        pytest.skip("needs a C++ compiler")
    built: dict[str, object] = {"artifacts": []}
    recipe["CustomBuildHook"].initialize(hook, "standard", built)
    assert built["artifacts"] == ["bnnpriors/csrc/bnnpriors.so"]
    assert str(built["tag"]).startswith("py3-none-")
    extension.load.cache_clear()
    assert not isinstance(extension.load(), str)


def test_importing_the_package_leaves_the_heavy_optional_parts_alone() -> None:
    heavy = [
        "matplotlib",
        "arviz_base",
        "arviz_stats",
        "sklearn",
        "torchmetrics",
        "pooch",
        "pyro",
        "jsonargparse",
        "gpytorch",
    ]
    code = f"import sys, bnnpriors; print(*sorted(set({heavy!r}) & set(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert found.stdout.split() == []


def test_local_links_lead_somewhere() -> None:
    for document in [*DOCUMENTS, REPOSITORY / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.slow
@pytest.mark.parametrize("document", [d for d in DOCUMENTS if blocks(d, "python")], ids=lambda d: d.stem)
def test_the_examples_in_the_documents_run(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks(document, "python"))
    module = ModuleType("example")
    monkeypatch.setitem(sys.modules, "example", module)  # where pickle looks for the classes of an example
    exec(compile(code, str(document), "exec"), module.__dict__)
