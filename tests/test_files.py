from __future__ import annotations

import json
import resource
import stat
from pathlib import Path

import pytest

from autocompress.errors import UserError
from autocompress.files import replacing, write_json, write_text


def test_text_and_json_come_back(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "folder" / "a.txt", "fünf\n")
    assert (tmp_path / "new" / "folder" / "a.txt").read_text(encoding="utf-8") == "fünf\n"
    write_json(tmp_path / "a.json", {"a": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, None]}
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o644


def test_numbers_that_json_has_not_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="broken"), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError("broken")
    assert path.read_text() == "old"
    assert [child.name for child in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_told_and_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write .*a\.txt: File too large\. Free some space"):
            write_text(path, "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "old"
    assert [child.name for child in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*(File exists|Not a directory)"):
        write_text(tmp_path / "file" / "a.txt", "text")
