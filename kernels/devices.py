"""Devices: put files into a private folder of another machine, run programs there, and see each line as it is printed.

A `Transport` reaches a machine: `local`, `ssh://[user@]host[:port]` through the system's ssh, `adb://[serial]` through adbutils.
It runs shell commands and copies files, no more. `Device` makes of it a folder of one's own, exit codes and a description. Some
transports have no exit code (the shell protocol of older Android), so every command prints its own; a stream that ends without
it was cut off.

Another transport has the five members of `Transport`; `device_conformance.check_transport` says whether it keeps the rules.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from ..errors import UserError

#: Seconds without a byte from a device after which it counts as gone.
SILENCE = 120.0
#: `CPU part` of Arm's cores in /proc/cpuinfo -> `model` of a target's core.
ARM_PARTS = {
    "0xd03": "cortex-a53",
    "0xd05": "cortex-a55",
    "0xd08": "cortex-a72",
    "0xd09": "cortex-a73",
    "0xd0a": "cortex-a75",
    "0xd0b": "cortex-a76",
    "0xd0d": "cortex-a77",
    "0xd41": "cortex-a78",
    "0xd44": "cortex-x1",
    "0xd46": "cortex-a510",
    "0xd47": "cortex-a710",
    "0xd48": "cortex-x2",
    "0xd4d": "cortex-a715",
    "0xd4e": "cortex-x3",
}

_EXIT = "autocompress-exit="
_FOLDER = "autocompress-folder="
_URL = re.compile(r"(?P<kind>ssh|adb)://(?P<rest>.*)")
_SSH = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_.][A-Za-z0-9_.-]*)@)?(?P<host>\[[0-9A-Fa-f:]+\]|[A-Za-z0-9_.][A-Za-z0-9_.-]*)(?::(?P<port>\d{1,5}))?"
)
_SERIAL = re.compile(r"[A-Za-z0-9._:-]*")


class ConnectionLost(UserError):
    """A device was lost in the middle of a command."""


class ProgramFailed(UserError):
    """A command on a device ended with an exit code that is not 0; its last lines are in the message.

    Attributes:
        code: the exit code.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Transport(Protocol):
    """A way to reach one machine.

    Attributes:
        url: names the machine in messages.
        folders: where a private folder may be made, as words of the machine's shell, best first.
    """

    url: str
    folders: tuple[str, ...]

    def connect(self) -> None:
        """Reach the machine.

        Raises:
            UserError: it cannot be reached, with what to do about it.
        """
        ...

    def shell(self, command: str) -> Iterator[bytes]:
        """Run a command in a POSIX shell: its output, stderr included, as it comes, in pieces of any size.

        The iterator ends when the command does, and also when the machine is lost: it raises nothing then. When it is closed
        before, the command is stopped, or ends at its next output.
        """
        ...

    def push(self, source: Path, destination: str) -> None:
        """Copy a file to an absolute path of the machine.

        Raises:
            UserError: it could not be copied. A copy that is cut off may go unnoticed: `Device` compares sizes.
        """
        ...

    def close(self) -> None:
        """End the connection; raises nothing."""
        ...


@dataclass(frozen=True)
class Cpu:
    """One CPU of a device.

    Attributes:
        index: its number in the system.
        model: `cortex-x1` and so on where the core is known, else what the system calls it.
        max_khz: highest clock; None where the system does not tell.
        governor: of its clock; None where the system does not tell.
    """

    index: int
    model: str
    max_khz: int | None = None
    governor: str | None = None


@dataclass(frozen=True)
class DeviceInfo:
    """What a device says of itself.

    Attributes:
        machine: as `uname -m` says.
        product: maker's name of the device; empty where there is none.
        cpus: in the order of their numbers.
        features: instruction sets that the kernel reports, sorted.
        emulator: what gives away an emulator, such as `ro.kernel.qemu`; None on a real machine.
    """

    machine: str
    product: str
    cpus: tuple[Cpu, ...]
    features: tuple[str, ...]
    emulator: str | None = None

    @property
    def fingerprint(self) -> str:
        """A hash of what does not change on one device: machine, product, cores with their highest clocks, features."""
        cores = [(cpu.index, cpu.model, cpu.max_khz) for cpu in self.cpus]
        content = json.dumps([self.machine, self.product, cores, self.features])
        return hashlib.sha256(content.encode()).hexdigest()[:12]


class Device:
    """A machine with a private folder, from entering a `with` block to leaving it, however that is left.

    Raises:
        UserError: on entering, when the machine cannot be reached or no folder can be made on it.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.url = transport.url
        self._folder: str | None = None

    def __enter__(self) -> Device:
        self.transport.connect()
        try:
            self._folder = self._make_folder()
        except BaseException:
            self.transport.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            # A lost device cannot be tidied; what is left there goes when it is used next, a day later or more.
            with suppress(UserError):
                self._command(f"rm -rf -- {shlex.quote(self.folder)}")
        finally:
            self._folder = None
            self.transport.close()

    @property
    def folder(self) -> str:
        """The private folder, an absolute path on the device."""
        if self._folder is None:
            raise RuntimeError("a Device has its folder inside of a with block only")
        return self._folder

    def put(self, source: Path, name: str) -> None:
        """Copy a file into the private folder, executable.

        Raises:
            ConnectionLost: the device is gone.
            UserError: there is no space, or the copy differs in size.
        """
        path = shlex.quote(f"{self.folder}/{name}")
        self.transport.push(source, f"{self.folder}/{name}")
        told = self._command(f"chmod 700 {path} && wc -c <{path}")
        if not told or told[-1].strip() != str(source.stat().st_size):
            raise UserError(f"{name} was not copied completely to {self.url}: see whether there is free space, and try again.")

    def remove(self, *names: str) -> None:
        """Remove files from the private folder; those that are not there are no error."""
        self._command("rm -f -- " + " ".join(shlex.quote(f"{self.folder}/{name}") for name in names))

    def run(self, *words: str) -> Generator[str, None, None]:
        """Run a program in the private folder: each line of its output, stderr included, as it is printed; no empty lines.

        Close the generator to stop the program early.

        Args:
            words: the program, as `./bench`, and its arguments.

        Raises:
            ProgramFailed: at the end, when the exit code is not 0.
            ConnectionLost: the output ended before the program did. The lines before are whole; a cut one is left out.
        """
        return self._lines(f"cd {shlex.quote(self.folder)} && {shlex.join(words)}")

    def describe(self) -> DeviceInfo:
        """What the device says of itself.

        Raises:
            UserError: it cannot be asked, or is no Linux.
        """
        return parse_description(self._command(_DESCRIBE))

    def _make_folder(self) -> str:
        # /tmp may forbid programs, hence the try. Folders of runs that lost the device are removed a day later.
        tried = " ".join(f'"{folder}"' for folder in self.transport.folders)
        script = (
            f"for base in {tried}; do "
            '[ -n "$base" ] || continue; '
            'find "$base" -maxdepth 1 -user "$(id -u)" -name \'autocompress.*\' -mtime +0 -exec rm -rf {} + 2>/dev/null; '
            'made=$(mktemp -d "$base/autocompress.XXXXXXXX" 2>/dev/null) || continue; '
            'printf \'#!/bin/sh\\nexit 0\\n\' >"$made/try" && chmod 700 "$made/try" && "$made/try" 2>/dev/null && '
            f'rm "$made/try" && {{ echo "{_FOLDER}$made"; break; }}; rm -rf "$made"; done'
        )
        for line in self._command(script):
            if line.startswith(_FOLDER):
                return line.removeprefix(_FOLDER)
        places = ", ".join(self.transport.folders)
        raise UserError(
            f"no folder for programs can be made on {self.url} (tried {places}): free some space, or make one writable."
        )

    def _command(self, command: str) -> list[str]:
        return list(self._lines(command))

    def _lines(self, command: str) -> Generator[str, None, None]:
        stream = self.transport.shell(f"{{ {command}\n}} 2>&1; printf '\\n{_EXIT}%d\\n' $?")
        rest = b""
        last: list[str] = []
        try:
            for piece in stream:
                *lines, rest = (rest + piece).split(b"\n")
                for raw in lines:
                    line = raw.decode("utf-8", errors="replace").rstrip("\r")
                    if line.startswith(_EXIT):
                        self._ended(int(line.removeprefix(_EXIT)), command, last)
                        return
                    if line:
                        last = [*last[-4:], line]
                        yield line
        finally:
            close = getattr(stream, "close", None)
            if close is not None:
                close()
        raise ConnectionLost(f"the connection to {self.url} was lost: see that it is plugged in and awake, and run this again.")

    def _ended(self, code: int, command: str, last: list[str]) -> None:
        if code != 0:
            told = " / ".join(last) or f"`{command[-80:]}` said nothing"
            raise ProgramFailed(f"a program on {self.url} ended with exit code {code}: {told}. See docs/bench.md for help.", code)


class Local:
    """This machine."""

    url: str = "local"
    folders: tuple[str, ...] = ("${TMPDIR:-/tmp}", "$HOME")

    def connect(self) -> None:
        """Nothing to do."""

    def shell(self, command: str) -> Iterator[bytes]:
        return _output(["/bin/sh", "-c", command])

    def push(self, source: Path, destination: str) -> None:
        try:
            shutil.copyfile(source, destination)
        except OSError as error:
            raise UserError(f"cannot copy to {destination}: {error.strerror or error}. Free some space there.") from error

    def close(self) -> None:
        """Nothing to do."""


class Ssh:
    """A machine that `ssh` reaches: one connection, which all commands share.

    Args:
        host: name, address or alias in the user's ssh configuration.
        user, port: as ssh chooses them where None.
    """

    folders: tuple[str, ...] = ("${TMPDIR:-/tmp}", "$HOME")

    def __init__(self, host: str, user: str | None = None, port: int | None = None) -> None:
        self.url = "ssh://" + (f"{user}@" if user else "") + host + (f":{port}" if port else "")
        self._where = [*(["-p", str(port)] if port else []), *(["-l", user] if user else []), "--", host.strip("[]")]
        self._private: tempfile.TemporaryDirectory[str] | None = None

    def _ssh(self, *options: str) -> list[str]:
        if self._private is None:
            raise RuntimeError("an Ssh transport is used between connect and close only")
        return ["ssh", "-S", f"{self._private.name}/s", "-T", *options]

    def connect(self) -> None:
        if shutil.which("ssh") is None:
            raise UserError(f"there is no ssh program to reach {self.url}: install the OpenSSH client.")
        self._private = tempfile.TemporaryDirectory(prefix="ac-")
        log = Path(self._private.name) / "log"
        # The master goes to the background once it is in (-f); its messages go to a file, for it would keep a pipe open.
        # A password is asked for on the terminal here, and never again.
        options = ("-M", "-N", "-f", "-E", str(log), "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=5")
        command = self._ssh(*options, "-o", "ServerAliveCountMax=3", "-o", "ControlPersist=yes", *self._where)
        quiet = subprocess.DEVNULL
        try:
            ended = subprocess.run(command, stdin=quiet, stdout=quiet, stderr=quiet, check=False)
            if ended.returncode != 0:
                said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
                told = said[-1].strip().rstrip(".") if said else f"exit code {ended.returncode}"
                raise UserError(f"cannot reach {self.url} ({told}): try `ssh {shlex.join(self._where)}` until it works.")
        except BaseException:
            self.close()
            raise

    def shell(self, command: str) -> Iterator[bytes]:
        return _output([*self._ssh("-n", "-o", "BatchMode=yes", "-q"), *self._where, command])

    def push(self, source: Path, destination: str) -> None:
        command = [*self._ssh("-o", "BatchMode=yes", "-q"), *self._where, f"cat >{shlex.quote(destination)}"]
        with source.open("rb") as file:
            ended = subprocess.run(command, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if ended.returncode == 255:
            raise ConnectionLost(f"the connection to {self.url} was lost: see that it is up, and run this again.")
        if ended.returncode != 0:
            told = ended.stdout.decode("utf-8", errors="replace").strip()
            raise UserError(f"cannot copy to {destination} on {self.url} ({told}): free some space there.")

    def close(self) -> None:
        if self._private is not None:
            quiet = subprocess.DEVNULL
            subprocess.run([*self._ssh("-O", "exit"), *self._where], stdin=quiet, stdout=quiet, stderr=quiet, check=False)
            self._private.cleanup()
            self._private = None


class Adb:
    """An Android device with debugging switched on, through the adb server, which is started if none runs.

    Args:
        serial: as `adb devices` shows it; empty for the only device there is.
    """

    folders: tuple[str, ...] = ("/data/local/tmp",)

    def __init__(self, serial: str = "") -> None:
        self.url = f"adb://{serial}"
        self._serial = serial
        self._device: Any = None

    def connect(self) -> None:
        try:
            adbutils = importlib.import_module("adbutils")
        except ImportError as error:
            raise UserError(f"reaching {self.url} needs adbutils ({error}): pip install 'autocompress[android]'") from error
        try:
            client = adbutils.AdbClient()
            found = {device.serial: device.state for device in client.list()}
        except (adbutils.AdbError, OSError, ValueError, subprocess.SubprocessError) as error:
            raise UserError(f"the adb server cannot be asked for devices ({error}): see whether `adb devices` works.") from error
        serial = self._serial or (next(iter(found)) if len(found) == 1 else "")
        if not found:
            raise UserError("no Android device is connected: plug it in, switch on USB debugging, and see `adb devices`.")
        if serial not in found:
            wanted = f"there is no Android device {serial!r}" if serial else "there are several Android devices"
            raise UserError(f"{wanted}: choose one with --device, of {', '.join(f'adb://{name}' for name in sorted(found))}.")
        if found[serial] != "device":
            raise UserError(f"adb://{serial} is {found[serial]}: unlock it, allow USB debugging, and see `adb devices`.")
        self.url = f"adb://{serial}"
        self._device = client.device(serial=serial)

    def shell(self, command: str) -> Iterator[bytes]:
        try:
            connection = self._device.shell(command, stream=True)
        except (OSError, self._errors()):
            return
        try:
            connection.conn.settimeout(SILENCE)
            while piece := connection.conn.recv(1 << 16):
                yield piece
        except OSError:
            return
        finally:
            connection.close()

    def push(self, source: Path, destination: str) -> None:
        try:
            self._device.sync.push(source, destination, 0o700)
        except (OSError, EOFError, self._errors()) as error:
            raise UserError(
                f"cannot copy to {destination} on {self.url} ({error}): see that it is plugged in and has space."
            ) from error

    def close(self) -> None:
        self._device = None

    @staticmethod
    def _errors() -> type[Exception]:
        errors: type[Exception] = importlib.import_module("adbutils").AdbError
        return errors


def open_transport(url: str) -> Transport:
    """The transport that a URL names: `local`, `ssh://[user@]host[:port]` or `adb://[serial]`. Nothing is connected yet.

    Raises:
        UserError: no such URL.
    """
    if url == "local":
        return Local()
    matched = _URL.fullmatch(url)
    if matched and matched["kind"] == "adb" and _SERIAL.fullmatch(matched["rest"]):
        return Adb(matched["rest"])
    if matched and matched["kind"] == "ssh" and (place := _SSH.fullmatch(matched["rest"])):
        port = int(place["port"]) if place["port"] else None
        if port is None or 0 < port < 65536:
            return Ssh(place["host"], place["user"], port)
    raise UserError(f"{url!r} names no device: use local, ssh://USER@HOST[:PORT] or adb://SERIAL.")


# What is not readable, or does not exist, is left out.
_DESCRIBE = (
    "uname -s -m; cat /proc/cpuinfo; "
    "for i in /sys/devices/system/cpu/cpu[0-9]*; do "
    "for f in cpuinfo_max_freq scaling_governor; do "
    'v=$(cat "$i/cpufreq/$f" 2>/dev/null) && echo "cpufreq ${i##*/cpu} $f $v"; done; done; '
    "for p in ro.product.manufacturer ro.product.model ro.kernel.qemu ro.boot.qemu ro.hardware; do "
    'v=$(getprop $p 2>/dev/null) && [ -n "$v" ] && echo "property $p $v"; done; '
    "v=$(tr '\\0' ' ' </proc/device-tree/compatible 2>/dev/null) && echo \"compatible $v\"; "
    "v=$(tr '\\0' ' ' </proc/device-tree/model 2>/dev/null) && echo \"model $v\"; "
    'v=$(cat /sys/class/dmi/id/sys_vendor 2>/dev/null) && echo "vendor $v"; true'
)


@cache
def this_machine() -> DeviceInfo:
    """What this machine says of itself.

    Raises:
        UserError: it is no Linux.
    """
    told = b"".join(_output(["/bin/sh", "-c", f"{{ {_DESCRIBE}; }} 2>/dev/null"])).decode("utf-8", errors="replace")
    return parse_description([line for line in told.splitlines() if line])


def parse_description(lines: list[str]) -> DeviceInfo:
    """What the lines that a device prints of itself mean: `uname -s -m`, /proc/cpuinfo, clocks, names.

    Raises:
        UserError: the device is no Linux.
    """
    system, _, machine = lines[0].partition(" ") if lines else ("", "", "")
    if system != "Linux" or not machine:
        raise UserError(f"the device runs {system or 'an unknown system'}, not Linux or Android: kernels cannot be timed there.")
    processors: list[dict[str, str]] = []
    said: dict[str, str] = {}
    clocks: dict[tuple[int, str], str] = {}
    for line in lines[1:]:
        key, colon, value = line.partition(":")
        words = line.split(maxsplit=3)
        if words[0] == "cpufreq" and len(words) == 4 and words[1].isdigit():
            clocks[int(words[1]), words[2]] = words[3]
        elif words[0] == "property" and len(words) >= 3:
            said[words[1]] = " ".join(words[2:])
        elif words[0] in ("compatible", "model", "vendor") and not colon:
            said[words[0]] = line.partition(" ")[2].strip()
        elif colon and key.strip() == "processor" and value.strip().isdigit():
            processors.append({})
        if colon and processors:
            processors[-1][key.strip()] = value.strip()
    cpus = tuple(_cpu(values, clocks) for values in processors)
    features = {word for values in processors for word in (values.get("Features") or values.get("flags") or "").split()}
    product = " ".join(filter(None, (said.get("ro.product.manufacturer"), said.get("ro.product.model")))) or said.get("model", "")
    return DeviceInfo(machine, product, cpus, tuple(sorted(features)), _emulator(machine, processors, said))


def _cpu(values: dict[str, str], clocks: dict[tuple[int, str], str]) -> Cpu:
    index = int(values["processor"])
    model = values.get("model name", "unknown")
    if values.get("CPU implementer") == "0x41":
        part = values.get("CPU part", "unknown")
        model = ARM_PARTS.get(part.lower(), f"arm-{part}")
    highest = clocks.get((index, "cpuinfo_max_freq"), "")
    return Cpu(index, model, int(highest) if highest.isdigit() else None, clocks.get((index, "scaling_governor")))


def _emulator(machine: str, processors: list[dict[str, str]], said: dict[str, str]) -> str | None:
    if said.get("ro.kernel.qemu") == "1" or said.get("ro.boot.qemu") == "1" or said.get("ro.hardware") in ("goldfish", "ranchu"):
        return "the Android emulator's properties"
    if machine == "aarch64":
        if any("CPU implementer" not in values for values in processors):
            return "a /proc/cpuinfo of another machine"
        if any(values["CPU implementer"] == "0x00" for values in processors):
            return "CPU implementer 0x00, QEMU's own"
        if said.get("vendor") == "QEMU" or "linux,dummy-virt" in said.get("compatible", "").split():
            return "QEMU's virtual board"
    return None


def _output(command: list[str]) -> Iterator[bytes]:
    """A local command's output as it comes. Its process group is ended when the iterator is closed.

    In a process group of its own, so that Ctrl-C reaches this process alone, which then tidies up in order.
    """
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    assert process.stdout is not None
    try:
        while piece := os.read(process.stdout.fileno(), 1 << 16):
            yield piece
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        process.stdout.close()
