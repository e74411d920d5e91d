"""What needs no task: help and version come at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from autocompress import __version__


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "autocompress", *arguments], capture_output=True, text=True, check=False)


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"autocompress {__version__}\n", "")


@pytest.mark.parametrize("name", ["", "resume", "report", "studies", "tasks", "targets", "profile", "export", "run"])
def test_help_has_an_example(name: str) -> None:
    done = run(*([name] if name else []), "--help")
    assert done.returncode == 0, done.stderr
    if name not in ("tasks", "targets"):
        assert f"autocompress {name}".strip() in done.stdout and "Example" in done.stdout


def test_help_needs_no_torch() -> None:
    code = "import sys, autocompress.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
