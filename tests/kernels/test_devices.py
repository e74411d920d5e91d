"""Devices, for real: this machine, an ssh server on it, and the adb client against a stand-in for its server."""

from __future__ import annotations

import dataclasses
import importlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autocompress.errors import UserError
from autocompress.kernels.device_conformance import check_transport
from autocompress.kernels.devices import (
    Adb,
    ConnectionLost,
    Cpu,
    Device,
    Local,
    ProgramFailed,
    Ssh,
    open_transport,
    parse_description,
)

from .adb_stand_in import AdbStandIn
from .conftest import SshServer


def test_local_keeps_the_rules(tmp_path: Path) -> None:
    check_transport(Local(), tmp_path)


def test_ssh_keeps_the_rules(ssh_server: SshServer, tmp_path: Path) -> None:
    check_transport(open_transport(ssh_server.url), tmp_path)


@pytest.mark.parametrize("url", ["adb://", "adb://emulator-5554"])
def test_adb_keeps_the_rules(url: str, adb_server: AdbStandIn, tmp_path: Path) -> None:
    transport = open_transport(url)
    check_transport(transport, tmp_path)
    assert transport.url == "adb://emulator-5554"
    assert list((tmp_path / "phone").iterdir()) == []


def test_the_stand_in_is_an_adb_server_to_the_real_client(adb_server: AdbStandIn, tmp_path: Path) -> None:
    adb = [shutil.which("adb") or "adb", "-P", str(adb_server.port), "-s", "emulator-5554"]
    (tmp_path / "sent").write_text("hello\n")
    subprocess.run([*adb, "push", tmp_path / "sent", tmp_path / "phone" / "got"], check=True, capture_output=True)
    told = subprocess.run([*adb, "shell", f"cat {tmp_path}/phone/got"], check=True, capture_output=True, text=True)
    assert told.stdout.replace("\r", "") == "hello\n"


class Broken(Local):
    """Breaks one rule of transports."""

    def __init__(self, rule: str) -> None:
        self.rule = rule

    def shell(self, command: str) -> Iterator[bytes]:
        if self.rule == "streaming":
            return iter([b"".join(super().shell(command))])
        if self.rule == "exit code":
            return super().shell(command.replace("$?", "0"))
        if self.rule == "tidying" and command.startswith("{ rm -rf"):
            return iter([b"\nautocompress-exit=0\n"])
        return super().shell(command)

    def push(self, source: Path, destination: str) -> None:
        super().push(source, destination)
        if self.rule == "bytes":
            path = Path(destination)
            path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n\n"))


@pytest.mark.parametrize(
    ("rule", "words"),
    [("streaming", "when they are printed"), ("exit code", "exit code 1"), ("tidying", "must go"), ("bytes", "byte")],
)
def test_the_conformance_suite_sees_broken_rules(rule: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    if rule == "streaming":
        monkeypatch.setattr("autocompress.kernels.device_conformance._check_folder", None)
    with pytest.raises(AssertionError, match=words):
        check_transport(Broken(rule), tmp_path)


COUNTING = "i=0; while [ $i -lt 2000 ]; do echo row $i; i=$((i+1)); sleep 0.01; done"


def test_a_cut_adb_connection_loses_at_most_one_line(adb_server: AdbStandIn) -> None:
    lines = []
    with pytest.raises(ConnectionLost, match="plugged in"), Device(open_transport("adb://")) as device:
        adb_server.cut_after = 100
        lines = []
        for line in device.run("sh", "-c", COUNTING):
            lines.append(line)
    assert lines == [f"row {i}" for i in range(len(lines))]
    assert len(lines) == 15  # ten of 6 bytes, five of 7, and a part


def test_a_cut_ssh_connection_loses_at_most_one_line(ssh_server: SshServer, tmp_path: Path) -> None:
    lines = []
    with pytest.raises(ConnectionLost), Device(open_transport(ssh_server.url)) as device:
        folder = device.folder
        for line in device.run("sh", "-c", COUNTING):
            lines.append(line)
            if len(lines) == 10:
                ssh_server.cut()
    assert lines == [f"row {i}" for i in range(len(lines))]
    assert 10 <= len(lines) < 2000
    # The server is still there: leaving the Device went in again and tidied up.
    assert not Path(folder).exists()


def test_ctrl_c_stops_the_program_and_tidies_up(ssh_server: SshServer, tmp_path: Path) -> None:
    for url in ("local", ssh_server.url):
        with pytest.raises(KeyboardInterrupt), Device(open_transport(url)) as device:
            folder = Path(device.folder)
            for line in device.run("sh", "-c", f"while echo tick; do echo tick >{tmp_path}/ticks; sleep 0.02; done"):
                assert line == "tick"
                raise KeyboardInterrupt
        assert not folder.exists()
        time.sleep(0.3)
        (tmp_path / "ticks").unlink(missing_ok=True)
        time.sleep(0.2)
        assert not (tmp_path / "ticks").exists()


def test_folders_of_lost_sessions_go_a_day_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    old, new, other = tmp_path / "autocompress.old00000", tmp_path / "autocompress.new00000", tmp_path / "other"
    for folder in (old, new, other):
        folder.mkdir()
    two_days_ago = time.time() - 2 * 86400
    for folder in (old, other):
        os.utime(folder, (two_days_ago, two_days_ago))
    with Device(Local()) as device:
        assert Path(device.folder).parent == tmp_path
        assert {path.name for path in tmp_path.iterdir()} == {new.name, other.name, Path(device.folder).name}


def test_a_folder_that_cannot_be_written_is_passed_over_then_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    monkeypatch.setenv("HOME", str(tmp_path))
    with Device(Local()) as device:
        assert Path(device.folder).parent == tmp_path
    monkeypatch.setenv("HOME", "/proc")
    with pytest.raises(UserError, match=r"no folder for programs can be made on local .*free some space"), Device(Local()):
        pass


def test_a_full_device(adb_server: AdbStandIn, tmp_path: Path) -> None:
    adb_server.room = 10
    (tmp_path / "large").write_bytes(b"x" * 11)
    with pytest.raises(UserError, match="cannot copy to"), Device(open_transport("adb://")) as device:
        device.put(tmp_path / "large", "large")


class Shortening(Local):
    def push(self, source: Path, destination: str) -> None:
        Path(destination).write_bytes(source.read_bytes()[:-1])


def test_a_copy_that_is_cut_off_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    with pytest.raises(UserError, match="not copied completely"), Device(Shortening()) as device:
        device.put(tmp_path / "file", "file")


def test_a_failing_program_is_quoted() -> None:
    with Device(Local()) as device, pytest.raises(ProgramFailed, match="exit code 7: no such thing") as failed:
        list(device.run("sh", "-c", "echo no such thing >&2; exit 7"))
    assert failed.value.code == 7


def test_adb_without_devices_with_several_and_with_one_that_is_locked(adb_server: AdbStandIn) -> None:
    def refused(url: str, **devices: str) -> str:
        adb_server.devices = dict(devices)
        with pytest.raises(UserError) as error, Device(open_transport(url)):
            pass
        return str(error.value)

    assert "switch on USB debugging" in refused("adb://")
    assert "choose one with --device, of adb://a, adb://b" in refused("adb://", a="device", b="device")
    assert "no Android device 'c'" in refused("adb://c", a="device")
    assert "is unauthorized: unlock it" in refused("adb://a", a="unauthorized")


def test_adb_without_adbutils(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def missing(name: str) -> object:
        if name == "adbutils":
            raise ImportError("No module named 'adbutils'")
        return real(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UserError, match=r"pip install 'autocompress\[android\]'"):
        Adb("x").connect()


def test_adb_without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(free.getsockname()[1]))
    monkeypatch.setenv("ADBUTILS_ADB_PATH", "/bin/false")
    with pytest.raises(UserError, match="see whether `adb devices` works"):
        Adb().connect()


def test_ssh_that_cannot_be_reached(ssh_server: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"cannot reach ssh://127.0.0.1:1 \(.*refused\): try `ssh -p 1 -- 127.0.0.1`"):
        open_transport("ssh://127.0.0.1:1").connect()
    stranger = ssh_server.url.replace("ssh://", "ssh://no-").replace("//no-", "//nobody-")
    with pytest.raises(UserError, match=r"cannot reach .*denied"):
        open_transport(stranger).connect()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="no ssh program"):
        open_transport(ssh_server.url).connect()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "usb",
        "ssh://",
        "ssh://a b",
        "ssh://-oProxyCommand=x",
        "ssh://x@-y",
        "ssh://host:0",
        "ssh://host:99999",
        "adb://a b",
        "adb://;ls",
    ],
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(UserError, match="names no device"):
        open_transport(url)


def test_urls() -> None:
    assert open_transport("local").url == "local"
    for url in ("ssh://me@[::1]:22", "ssh://phone", "ssh://me@phone.lan", "adb://10.0.0.2:5555"):
        assert open_transport(url).url == url
    assert isinstance(open_transport("ssh://phone"), Ssh)


ARM = """Linux aarch64
processor\t: 0
BogoMIPS\t: 49.15
Features\t: fp asimd asimdhp asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd05
processor\t: 1
Features\t: fp asimd asimdhp asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd44
Hardware\t: Tensor
cpufreq 0 cpuinfo_max_freq 1803000
cpufreq 0 scaling_governor sched_pixel
cpufreq 1 cpuinfo_max_freq 2850000
property ro.product.manufacturer Google
property ro.product.model Pixel 7
""".splitlines()


def test_a_description_is_understood() -> None:
    info = parse_description(ARM)
    assert (info.machine, info.product, info.emulator) == ("aarch64", "Google Pixel 7", None)
    assert info.cpus == (Cpu(0, "cortex-a55", 1803000, "sched_pixel"), Cpu(1, "cortex-x1", 2850000, None))
    assert info.features == ("asimd", "asimddp", "asimdhp", "fp")


def test_the_fingerprint_is_the_device_and_not_its_mood() -> None:
    info = parse_description(ARM)
    lazy = parse_description([line.replace("sched_pixel", "powersave") for line in ARM])
    other = parse_description([line.replace("2850000", "2400000") for line in ARM])
    assert info.fingerprint == lazy.fingerprint != other.fingerprint
    assert dataclasses.replace(info, product="Google Pixel 7 Pro").fingerprint != info.fingerprint


@pytest.mark.parametrize(
    ("old", "new", "sign"),
    [
        ("property ro.product.model Pixel 7", "property ro.kernel.qemu 1", "emulator"),
        ("property ro.product.model Pixel 7", "property ro.hardware ranchu", "emulator"),
        ("property ro.product.model Pixel 7", "compatible linux,dummy-virt ", "virtual board"),
        ("property ro.product.model Pixel 7", "vendor QEMU", "virtual board"),
        ("CPU implementer\t: 0x41", "CPU implementer\t: 0x00", "0x00"),
        ("CPU implementer\t: 0x41", "model name\t: AMD EPYC", "another machine"),
    ],
)
def test_emulators_give_themselves_away(old: str, new: str, sign: str) -> None:
    assert old in ARM
    told = parse_description([line.replace(old, new) for line in ARM]).emulator
    assert told is not None and sign in told


def test_another_system_is_refused() -> None:
    for lines in ([], ["Darwin arm64"], ["nonsense"]):
        with pytest.raises(UserError, match="not Linux or Android"):
            parse_description(lines)
