"""The arrangement of folders, and what pyproject.toml and constraints.txt promise; installing is checked by .ci/run."""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import tomllib

import autocompress

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "autocompress"
FOLDERS = ("compressors", "deployment", "evaluators", "kernels", "reports", "search", "spaces", "tasks")


def requirement_name(line: str) -> str:
    """The normalised name that a requirement begins with: `Foo_bar[x]>=1` is `foo-bar`."""
    found = re.match(r"[A-Za-z0-9._-]+", line)
    assert found, line
    return re.sub(r"[._]", "-", found[0]).lower()


def test_every_folder_of_code_has_its_symlink() -> None:
    links = {path.name: path for path in PACKAGE.iterdir() if path.is_symlink()}
    assert sorted(links) == list(FOLDERS)
    for name, link in links.items():
        assert link.readlink() == Path("..", "..", name), "symlinks must be relative, or no clone works"
        assert link.is_dir()
        assert (link / "__init__.py").is_file()


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_under_one_name_only(folder: str) -> None:
    importlib.import_module(f"autocompress.{folder}")
    # In a process of its own: pytest may have put the working directory on the path.
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({folder!r}) is not None)"
    assert subprocess.run([sys.executable, "-I", "-c", code], check=False).returncode == 0


def test_version_is_told_once() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", autocompress.__version__)
    assert metadata.version("autocompress") == autocompress.__version__


def test_package_is_typed_and_its_data_is_there() -> None:
    assert (PACKAGE / "py.typed").is_file()
    for pattern in ("kernels/targets/pixel7.toml", "kernels/targets/_cores.toml", "kernels/csrc/*.c", "kernels/csrc/*.h"):
        assert list(PACKAGE.glob(pattern)), pattern
    weights = {path.name: path.stat().st_size for path in PACKAGE.glob("tasks/weights/*.safetensors")}
    assert set(weights) == {"fashion_mnist_mobilenet.safetensors", "fashion_mnist_resnet.safetensors"}
    assert max(weights.values()) <= 2_000_000


def test_constraints_pin_every_requirement() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert all(re.match(r"[A-Za-z0-9._-]+==[0-9]", line) for line in lines), "constraints.txt pins exact versions"
    pinned = {requirement_name(line) for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = [*project["dependencies"], *(line for lines in project["optional-dependencies"].values() for line in lines)]
    # tomli is for Python 3.10, which constraints.txt leaves out; extras refer to each other by this package's name.
    wanted = {requirement_name(line) for line in required} - {"tomli", "autocompress"}
    assert {"torch", "optuna", "foolbox", "ziglang", "pytest"} <= wanted
    assert wanted <= pinned


def test_links_between_documents_lead_somewhere() -> None:
    documents = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *(ROOT / "docs").glob("*.md")]
    links = [
        (document, link)
        for document in documents
        for link in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8"))
        if "://" not in link
    ]
    assert len(links) > 20
    assert [f"{document.name}: {link}" for document, link in links if not (document.parent / link).exists()] == []
