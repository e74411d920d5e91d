"""A stand-in for the adb server, for adb clients to talk to: one `device`, which is a folder and the shell of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import threading
from pathlib import Path


class AdbStandIn:
    """Serves one connection a thread, as adb's services.txt and sync.txt describe, shell protocol of old Android (no exit code).

    Attributes:
        devices: serial -> state.
        cut_after: bytes of a shell's output after which the connection is cut once; None for never.
        room: bytes that a pushed file may have.
    """

    def __init__(self) -> None:
        self.devices = {"emulator-5554": "device"}
        self.cut_after: int | None = None
        self.room = 1 << 40
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, EOFError):
            attached = False
            while True:
                request = _exactly(connection, int(_exactly(connection, 4), 16)).decode()
                if request == "host:version":
                    _answer(connection, "0029")
                    return
                if request in ("host:devices", "host:devices-l"):
                    _answer(connection, "".join(f"{serial}\t{state}\n" for serial, state in self.devices.items()))
                    return
                if request.endswith(":features"):
                    _answer(connection, "")
                    return
                if request.startswith(("host:tport:serial:", "host:transport:")):
                    if request.split(":", 3 if "tport" in request else 2)[-1] not in self.devices:
                        _fail(connection, "device not found")
                        return
                    attached = True
                    connection.sendall(b"OKAY" + (struct.pack("<Q", 1) if "tport" in request else b""))
                elif attached and request.startswith("shell:"):
                    connection.sendall(b"OKAY")
                    self._shell(connection, request.removeprefix("shell:"))
                    return
                elif attached and request == "sync:":
                    connection.sendall(b"OKAY")
                    self._sync(connection)
                    return
                else:
                    _fail(connection, f"unknown service {request}")
                    return

    def _shell(self, connection: socket.socket, command: str) -> None:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            while piece := os.read(process.stdout.fileno(), 4096):
                if self.cut_after is not None and (left := self.cut_after - len(piece)) < 0:
                    connection.sendall(piece[: self.cut_after])
                    self.cut_after = None
                    connection.shutdown(socket.SHUT_RDWR)
                    return
                if self.cut_after is not None:
                    self.cut_after = left
                connection.sendall(piece.replace(b"\n", b"\r\n"))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGHUP)
            process.wait()
            process.stdout.close()

    def _sync(self, connection: socket.socket) -> None:
        while True:
            kind, length = struct.unpack("<4sI", _exactly(connection, 8))
            if kind == b"QUIT":
                return
            path = _exactly(connection, length).decode()
            if kind == b"STAT":
                found = Path(path).stat() if Path(path).exists() else None
                numbers = (found.st_mode, found.st_size, int(found.st_mtime)) if found else (0, 0, 0)
                connection.sendall(b"STAT" + struct.pack("<III", *numbers))
            elif kind == b"SEND":
                self._receive(connection, path)
            else:
                _fail(connection, f"unknown {kind!r}")
                return

    def _receive(self, connection: socket.socket, path_and_mode: str) -> None:
        path, _, mode = path_and_mode.rpartition(",")
        content = b""
        while True:
            kind, length = struct.unpack("<4sI", _exactly(connection, 8))
            if kind == b"DONE":
                break
            content += _exactly(connection, length)
        if len(content) > self.room:
            message = b"No space left on device"
            connection.sendall(b"FAIL" + struct.pack("<I", len(message)) + message)
            return
        Path(path).write_bytes(content)
        Path(path).chmod(int(mode) & 0o777)
        connection.sendall(b"OKAY" + struct.pack("<I", 0))


def _exactly(connection: socket.socket, count: int) -> bytes:
    content = b""
    while len(content) < count:
        piece = connection.recv(count - len(content))
        if not piece:
            raise EOFError
        content += piece
    return content


def _answer(connection: socket.socket, text: str) -> None:
    connection.sendall(b"OKAY" + f"{len(text):04x}{text}".encode())


def _fail(connection: socket.socket, text: str) -> None:
    connection.sendall(b"FAIL" + f"{len(text):04x}{text}".encode())
