"""Check the sdist and the wheel in a folder against the sources: every file is there, real, and under one name only.

python .ci/check_packages.py SOURCE DIST
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path


def package_files(source: Path) -> set[str]:
    """Every file of the package, with the symlinked folders looked into: `autocompress/kernels/table.py`, ..."""
    package = source / "src" / "autocompress"
    folders = [package, *(path for path in package.iterdir() if path.is_symlink())]
    files: set[str] = set()
    for folder in folders:
        assert folder.is_dir(), f"{folder} points to no folder"
        inside = (path for path in folder.resolve().rglob("*") if path.is_file())
        at = folder.relative_to(package.parent)
        files |= {str(at / path.relative_to(folder.resolve())) for path in inside}
    return {file for file in files if "__pycache__" not in file}


def check_wheel(path: Path, wanted: set[str]) -> None:
    """The wheel holds the package's files and its own metadata, nothing else."""
    names = {name for name in zipfile.ZipFile(path).namelist() if not name.endswith("/")}
    metadata = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    found = names - metadata
    assert found == wanted, f"{path.name}: missing {sorted(wanted - found)}, not wanted {sorted(found - wanted)}"
    for part in ("entry_points.txt", "licenses/LICENSE"):
        assert any(name.endswith(part) for name in metadata), f"{path.name} has no {part}"


def check_sdist(path: Path, wanted: set[str]) -> None:
    """The sdist holds the package's files as real files under src/, and what builds them."""
    with tarfile.open(path) as archive:
        links = [member.name for member in archive if member.issym() or member.islnk()]
        files = {member.name.partition("/")[2] for member in archive if member.isfile()}
    assert not links, f"{path.name} holds links: {links}"
    needed = {f"src/{file}" for file in wanted} | {"pyproject.toml", "README.md", "LICENSE"}
    assert needed <= files, f"{path.name} lacks {sorted(needed - files)}"


def main() -> None:
    source, dist = map(Path, sys.argv[1:])
    wanted = package_files(source)
    assert len(wanted) > 50, f"only {len(wanted)} files under {source / 'src'}"
    (wheel,) = dist.glob("*.whl")
    (sdist,) = dist.glob("*.tar.gz")
    check_wheel(wheel, wanted)
    check_sdist(sdist, wanted)
    print(f"{wheel.name} and {sdist.name}: {len(wanted)} files of the package, {wheel.stat().st_size / 1e6:.1f} MB as a wheel")


if __name__ == "__main__":
    main()
