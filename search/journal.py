"""The default storage: an Optuna journal file in the study's folder, fast and safe for one process.

The folder is locked while a process runs the study, so the journal needs no lock of its own; and only what ends a trial is
forced to the disk, for a parameter of an unfinished trial is of no use after a power cut.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._storage import JournalOperation

from ..errors import UserError


class _StudyJournal(JournalFileBackend):
    """Optuna's journal file without lock files, for the one process that has the folder.

    It appends through one open handle, the parameters of a trial at once, and keeps what is in the file in memory.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._logs = list(super().read_logs(0))
        self._handle = path.open("ab", buffering=0)
        self._unwritten = b""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._unwritten += b"".join([json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs])
        if any(log["op_code"] != JournalOperation.SET_TRIAL_PARAM for log in logs):
            self._write(lasting=any("state" in log or log["op_code"] == JournalOperation.SET_STUDY_USER_ATTR for log in logs))
        self._logs += logs

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        yield from self._logs[log_number_from:]

    def _write(self, lasting: bool) -> None:
        data, self._unwritten = self._unwritten, b""
        start = self._handle.tell()
        try:
            written = self._handle.write(data)
            if written != len(data):  # a full disk can take a part of it
                raise OSError(28, "No space left on device")
            if lasting:
                os.fsync(self._handle.fileno())
        except OSError as error:
            self._handle.truncate(start)
            raise UserError(
                f"cannot write the study's journal: {error.strerror or error}. Free some space and run the same command again: "
                "finished trials are kept."
            ) from error


def open_journal(path: Path) -> JournalStorage:
    """The storage in a journal file, made if there is none.

    A last line which a killed process left unfinished is cut off: nothing that was finished is in it.

    Raises:
        UserError: the file is damaged before its last line.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _repair(path)
        return JournalStorage(_StudyJournal(path))
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"the study file {path} is damaged ({type(error).__name__}: {error}). It is left as it is: restore it from a copy, "
            "or choose another name with --study."
        ) from error
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror or error}. Choose another folder with --results.") from error


def _repair(path: Path) -> None:
    content = path.read_bytes()
    lines = content.split(b"\n")
    try:
        for line in lines[:-1]:
            json.loads(line)
    except ValueError as error:
        raise UserError(
            f"the study file {path} is damaged at line {lines.index(line) + 1}. It is left as it is: restore it from a copy, "
            "or choose another name with --study."
        ) from error
    if lines[-1]:
        with path.open("r+b") as file:
            file.truncate(len(content) - len(lines[-1]))


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a study's folder for this process; the system lets go of it when the process ends, however it ends.

    Raises:
        UserError: another process holds it, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("a+")
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}. Choose another folder with --results.") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.seek(0)
            holder = handle.read().strip() or "unknown"
            raise UserError(
                f"study {folder.name} is already being run by process {holder}. Wait for it, or choose another name with --study."
            ) from error
        handle.seek(0)
        handle.truncate()
        handle.write(str(os.getpid()))
        handle.flush()
        yield
