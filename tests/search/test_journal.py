from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from autocompress.errors import UserError
from autocompress.search.journal import folder_lock, open_journal


def fill(path: Path, trials: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=open_journal(path), study_name="s", load_if_exists=True)
    for _ in range(trials):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        study.tell(trial, 0.5)


def finished(path: Path) -> int:
    return len(
        optuna.load_study(storage=open_journal(path), study_name="s").get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    )


def test_a_torn_last_line_is_cut_off_wherever_it_was_torn(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    fill(path, 3)
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for end in range(last, len(whole)):
        path.write_bytes(whole[:end])
        assert finished(path) == 2
        assert path.read_bytes() == whole[:last]
    fill(path, 2)
    assert finished(path) == 4
    for line in path.read_bytes().splitlines():
        json.loads(line)


@pytest.mark.parametrize("damage", [b"", b"{", b"\x00\xff", b'{"op_code": 4'], ids=["empty", "open", "binary", "cut"])
def test_a_damaged_line_is_refused_and_the_file_left_alone(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "study.journal"
    fill(path, 3)
    lines = path.read_bytes().splitlines()
    lines[3] = damage
    path.write_bytes(b"\n".join(lines) + b"\n")
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"study\.journal is damaged at line 4\. .*--study"):
        open_journal(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    path.write_text("hello\nthere\n")
    with pytest.raises(UserError, match="damaged at line 1"):
        open_journal(path)


def test_an_empty_journal_is_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    path.touch()
    fill(path, 1)
    assert finished(path) == 1


def test_a_folder_under_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (open_journal, lambda path: folder_lock(path).__enter__()):
        with pytest.raises(UserError, match=r"Not a directory.* --results"):
            place(tmp_path / "file" / "study" / "study.journal")


def test_one_process_holds_a_folder(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from autocompress.search.journal import folder_lock\n"
        "with folder_lock(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    folder = tmp_path / "study"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"study study is already being run by process {holder.pid}"), folder_lock(folder):
            pytest.fail("two processes hold one folder")
        holder.kill()
    with folder_lock(folder):
        assert (folder / ".lock").read_text() == str(os.getpid())


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import optuna
from autocompress.errors import UserError
from autocompress.search.journal import open_journal

optuna.logging.set_verbosity(optuna.logging.WARNING)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
study = optuna.load_study(storage=open_journal(Path(sys.argv[1])), study_name="s")
limit = Path(sys.argv[1]).stat().st_size + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    for _ in range(100):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        study.tell(trial, 0.5)
        print("finished", flush=True)
except UserError as error:
    print(error)
    sys.exit(2)
"""


@pytest.mark.parametrize("room", [1, 700, 1501])
def test_a_full_disk_keeps_what_was_finished(tmp_path: Path, room: int) -> None:
    """A file that may grow no further stands for a full disk: both fail a write, or take a part of it."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    path = tmp_path / "study.journal"
    fill(path, 3)
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path), str(room)], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    told = done.stdout.splitlines()
    assert told[-1].startswith("cannot write the study's journal: ") and "finished trials are kept" in told[-1]
    assert told[:-1] == ["finished"] * (len(told) - 1)
    assert path.read_bytes().endswith(b"\n"), "a part of a line was left behind"
    assert finished(path) == 3 + len(told) - 1
    fill(path, 1)
    assert finished(path) == 4 + len(told) - 1
