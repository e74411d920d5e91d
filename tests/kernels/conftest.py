"""Machines to reach: an ssh server of our own on this one, and a stand-in for the adb server."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from autocompress.kernels.devices import Adb

from .adb_stand_in import AdbStandIn


@dataclass(frozen=True)
class SshServer:
    """A running sshd.

    Attributes:
        url: of this server for our user.
    """

    url: str
    process: subprocess.Popen[bytes]

    def cut(self) -> None:
        """Cut every connection that there is."""
        for child in _children(self.process.pid):
            for grandchild in _children(child):
                os.kill(grandchild, 9)
            os.kill(child, 9)


def _children(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()]


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """sshd on a free port of this machine, with keys and configuration of its own; `ssh` on PATH uses them."""
    folder = tmp_path_factory.mktemp("ssh")
    folder.chmod(0o700)
    server = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin") or shutil.which("sshd")
    client = shutil.which("ssh")
    assert server and client, "the tests need sshd and ssh: apt install openssh-server openssh-client"
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists on it when root starts it
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "authorized").write_bytes((folder / "user_key.pub").read_bytes())
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nAuthorizedKeysFile {folder}/authorized\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        f"PidFile none\nMaxStartups 100\n"
    )
    public = (folder / "host_key.pub").read_text().split()
    (folder / "known").write_text(f"[127.0.0.1]:{port} {public[0]} {public[1]}\n")
    (folder / "ssh_config").write_text(
        f"IdentityFile {folder}/user_key\nIdentitiesOnly yes\nUserKnownHostsFile {folder}/known\nGlobalKnownHostsFile none\n"
        "BatchMode yes\n"
    )
    wrapper = folder / "bin" / "ssh"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {client} -F {folder}/ssh_config "$@"\n')
    wrapper.chmod(0o755)
    process = subprocess.Popen([server, "-D", "-e", "-f", folder / "sshd_config"], stderr=(folder / "log").open("wb"))
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{wrapper.parent}:{path}"
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.05)
    yield SshServer(f"ssh://{getpass.getuser()}@127.0.0.1:{port}", process)
    os.environ["PATH"] = path
    process.terminate()
    process.wait()


@pytest.fixture
def adb_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[AdbStandIn]:
    """A stand-in adb server that clients find; its one device keeps programs in `tmp_path`/phone."""
    server = AdbStandIn()
    monkeypatch.setenv("ANDROID_ADB_SERVER_HOST", "127.0.0.1")
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server.port))
    (tmp_path / "phone").mkdir()
    monkeypatch.setattr(Adb, "folders", (str(tmp_path / "phone"),))
    yield server
    server.close()
