"""The toolchain: builds once, keeps apart what differs, and says what to do when it cannot build."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from autocompress.errors import UserError
from autocompress.kernels import toolchain
from autocompress.kernels.toolchain import build, cache_folder, kernels_hash, names_for


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of ours, while the compiler keeps its own (rebuilding its C library takes a minute)."""
    zig = os.environ.get("ZIG_GLOBAL_CACHE_DIR") or str(cache_folder().parent.parent / "zig")
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", zig)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "autocompress" / "kernels"


@pytest.fixture
def small_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source folder that compiles in no time."""
    folder = tmp_path / "csrc"
    folder.mkdir()
    (folder / "one.c").write_text("int one(void);\nint one(void) { return 1; }\n")
    (folder / "run.c").write_text("int one(void);\nint main(void) { return one() - 1; }\n")
    monkeypatch.setattr(toolchain, "SOURCES", folder)
    return folder


def test_a_second_build_is_looked_up(own_cache: Path, small_sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build()
    assert first.parent == own_cache
    runs: list[object] = []
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **_: runs.append(arguments))
    assert build() == first
    assert runs == []


def test_what_decides_a_build_gives_it_another_name(
    own_cache: Path, small_sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [build(), build(flags=("-DX",)), build(cpu="baseline"), build(product="run")]
    (small_sources / "one.c").write_text("int one(void);\nint one(void) { return 2 - 1; }\n")
    paths.append(build())
    monkeypatch.setattr(toolchain, "_cpu", lambda: "another machine that shares this folder")
    paths.append(build())
    assert len(set(paths)) == len(paths)
    assert sorted(paths) == sorted(path for path in own_cache.iterdir() if path.suffix != ".o")


def test_all_products_hold_the_same_object(own_cache: Path, small_sources: Path) -> None:
    build(product="run")
    (object_,) = own_cache.glob("*.o")
    made = object_.stat().st_mtime_ns
    archive = build(product="static")
    build()
    # A program of its own changes nothing in the kernels.
    first = build(product="run")
    (small_sources / "run.c").write_text("int main(void) { return 0; }\n")
    assert build(product="run") != first
    assert list(own_cache.glob("*.o")) == [object_] and object_.stat().st_mtime_ns == made
    assert archive.read_bytes()[:8] == b"!<arch>\n"
    assert object_.read_bytes() in archive.read_bytes() and b"autocompress.o" in archive.read_bytes()


def test_the_kernels_hash_is_that_of_the_kernels(small_sources: Path) -> None:
    first = kernels_hash()
    (small_sources / "run.c").write_text("int main(void) { return 1; }\n")
    (small_sources / "runtime.c").write_text("int two(void);\nint two(void) { return 2; }\n")
    assert kernels_hash() == first
    (small_sources / "one.h").write_text("int one(void);\n")
    assert kernels_hash() != first


@pytest.mark.parametrize(
    ("model", "features", "cpu"),
    [
        ("cortex-x1", ("dotprod", "fp16"), "cortex_x1"),
        ("cortex-a78", ("dotprod", "fp16"), "cortex_a78"),
        ("cortex-a55", ("dotprod", "fp16"), "cortex_a55"),
        ("cortex-a73", (), "cortex_a73"),
        ("cortex-a715", ("dotprod", "fp16"), "generic+v8_2a+dotprod+fullfp16"),
        ("my-core", (), "generic"),
    ],
)
def test_every_core_has_a_build(own_cache: Path, small_sources: Path, model: str, features: tuple[str, ...], cpu: str) -> None:
    assert names_for("aarch64", model, features) == ("aarch64-linux-musl", cpu)
    program = build("aarch64-linux-musl", cpu, product="run")
    assert int.from_bytes(program.read_bytes()[18:20], "little") == 183  # EM_AARCH64


def test_machines_without_a_build() -> None:
    assert names_for("x86_64", "x86-64-v3", ()) == ("x86_64-linux-musl", "x86_64_v3")
    with pytest.raises(UserError, match="not built for armv7l"):
        names_for("armv7l", "cortex-a55", ())


def test_a_half_made_file_is_built_again(own_cache: Path, small_sources: Path) -> None:
    path = build(product="run")
    path.write_bytes(b"")
    path.chmod(0o644)
    assert build(product="run") == path
    assert subprocess.run([path], check=False).returncode == 0


def test_a_phone_program_is_static_and_of_its_machine(own_cache: Path, small_sources: Path) -> None:
    program = build("aarch64-linux-musl", "cortex_x1", product="run").read_bytes()
    assert program[:4] == b"\x7fELF"
    assert int.from_bytes(program[18:20], "little") == 183  # EM_AARCH64
    assert b"ld-musl" not in program


def test_a_failing_compilation_is_explained_and_leaves_nothing(own_cache: Path, small_sources: Path) -> None:
    (small_sources / "one.c").write_text("this is not C\n")
    with pytest.raises(UserError, match="do not compile for host with cpu native") as caught:
        build()
    assert "one.c:1" in str(caught.value)
    assert list(own_cache.iterdir()) == []


def test_an_unknown_cpu_is_explained(own_cache: Path, small_sources: Path) -> None:
    with pytest.raises(UserError, match="cpu pentium_9"):
        build("aarch64-linux-musl", "pentium_9", product="run")


def test_a_missing_compiler_is_explained(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install ziglang"):
        build()


def test_a_cache_folder_that_is_a_file_is_explained(small_sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        build()


def test_the_kernels_compile_without_warnings(own_cache: Path) -> None:
    assert build(flags=("-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Werror"), product="run").exists()
    assert shutil.which("qemu-aarch64"), "the tests of phone builds need qemu-user"
