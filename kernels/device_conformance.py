"""What every `Transport` must do: for the tests of ours, and of anyone who writes another.

def test_my_transport(tmp_path):
    check_transport(MyTransport(...), tmp_path)
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from .devices import Device, ProgramFailed, Transport


def check_transport(transport: Transport, scratch: Path) -> None:
    """Use a transport as `bench` does, and more roughly; takes a few seconds.

    Args:
        transport: not connected; it is left so.
        scratch: a local folder to make files in.

    Raises:
        AssertionError: with the rule that is broken.
        UserError: the machine cannot be reached.
    """
    _check_programs(transport, scratch)
    _check_files(transport, scratch)
    _check_folder(transport)


def _check_programs(transport: Transport, scratch: Path) -> None:
    script = scratch / "script"
    script.write_text(
        '#!/bin/sh\necho "first $1"\necho second >&2\nprintf "\\377 not UTF-8\\n\\n"\n'
        '[ "$2" != 0 ] || sleep 1\nprintf "last without end"\nexit "$2"\n'
    )
    with Device(transport) as device:
        device.put(script, "a script")
        times, lines = [], []
        for line in device.run("./a script", "it's $HOME", "0"):
            lines.append(line)
            times.append(time.monotonic())
        assert lines == ["first it's $HOME", "second", "\ufffd not UTF-8", "last without end"], f"arguments and lines: {lines}"
        assert times[-1] - times[0] > 0.5, "lines must arrive when they are printed, not at the end"
        for code in (1, 77, 255):
            assert _exit_code(device, "./a script", "", str(code)) == code, f"exit code {code}"
        assert _exit_code(device, "./missing") == 127, "a missing program"
        assert _exit_code(device, "sh", "-c", "kill -9 $$") == 137, "a program that is killed"
        long = list(device.run("sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x"))
        assert long == ["x" * 300000], "a long line"
        endless = device.run("sh", "-c", "while echo tick; do sleep 0.05; done; echo over >over")
        assert next(endless) == "tick"
        begin = time.monotonic()
        endless.close()
        assert time.monotonic() - begin < 5, "a command whose output nobody reads must not be waited for"
        assert list(device.run("echo", "still here")) == ["still here"], "a command after one that was given up"
        info = device.describe()
        assert info.machine and info.cpus, f"the description: {info}"
        assert info.fingerprint == device.describe().fingerprint, "the fingerprint changes"


def _check_files(transport: Transport, scratch: Path) -> None:
    content = bytes(range(256)) * 4096 + b"\r\n end"
    large, empty = scratch / "large", scratch / "empty"
    large.write_bytes(content)
    empty.write_bytes(b"")
    with Device(transport) as device:
        device.put(large, "large")
        device.put(empty, "empty")
        told = next(device.run("sha256sum", "large")).split()[0]
        assert told == hashlib.sha256(content).hexdigest(), "a file must arrive byte for byte"
        assert sorted(device.run("ls")) == ["empty", "large"], "the folder holds what was put there"
        device.remove("large", "never was")
        assert list(device.run("ls")) == ["empty"], "removing"


def _check_folder(transport: Transport) -> None:
    with Device(transport) as device:
        first = device.folder
        assert first.startswith("/"), "the folder is an absolute path"
        told = next(device.run("ls", "-ld", "."))
        assert told.startswith("drwx------"), f"the folder must be private: {told}"
    try:
        with Device(transport) as device:
            second = device.folder
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    with Device(transport) as device:
        assert len({first, second, device.folder}) == 3, "every Device has a folder of its own"
        for folder in (first, second):
            assert _exit_code(device, "test", "-e", folder) == 1, "the folder must go when the Device is left, by Ctrl-C too"


def _exit_code(device: Device, *words: str) -> int:
    try:
        list(device.run(*words))
    except ProgramFailed as error:
        return error.code
    return 0
