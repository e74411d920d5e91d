from __future__ import annotations

from pathlib import Path

import pytest

from autocompress.errors import UserError
from autocompress.kernels.targets import _FOLDER, _read_toml, list_targets, load_target, target_from_json

MINIMAL = """
schema = 1
name = "my-phone"
[[core]]
name = "big"
model = "cortex-x1"
ghz = 3
l3_kb = 8192
l3_gbps = 40.0
dram_gbps = 20.0
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "my_phone.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_built_in_targets() -> None:
    phones = {"pixel6", "pixel7", "pixel8", "galaxy-s23"}
    assert phones | {"host", "raspberry-pi4", "raspberry-pi5", "apple-m1", "neoverse-n1", "neoverse-v1"} <= set(list_targets())
    for name in list_targets():
        target = load_target(name)
        assert target.name == name
        assert target.core().name == target.default_core
        assert {source for source, _ in target.sources} >= {"ghz", "l3_kb", "l3_gbps", "dram_gbps"}
        assert all(text for _, text in target.sources) and target.end_to_end_source


def test_pixel7_cores() -> None:
    target = load_target("pixel7")
    assert [(core.name, core.ghz) for core in target.cores] == [("X1", 2.85), ("A78", 2.35), ("A55", 1.8)]
    assert target.core("a55").in_order
    assert not any("i8mm" in core.features for core in target.cores)
    with pytest.raises(UserError, match="choose one of X1, A78, A55"):
        target.core("X9")


def test_features_of_the_newer_and_older_cores() -> None:
    newer = [core for name in ("pixel8", "galaxy-s23", "neoverse-v1") for core in load_target(name).cores]
    assert all("i8mm" in core.features and core.rate("i8mm", "dense") and core.rate("i8mm", "block4x4") for core in newer)
    assert all(core.rate("i8mm", "dense") is None for core in load_target("pixel7").cores)
    assert load_target("raspberry-pi4").core().features == ()
    assert load_target("raspberry-pi5").core().features == ("dotprod", "fp16")


def test_every_core_of_the_library_tells_its_sources() -> None:
    library = _read_toml(_FOLDER / "_cores.toml")
    assert len(library) >= 14
    for name, core in library.items():
        assert set(core["sources"]) == {"macs_per_cycle", "ports", "caches"}, name


def test_unknown_name_gives_the_nearest_and_the_list() -> None:
    with pytest.raises(UserError, match=r"did you mean 'pixel7'.*host, .*pixel6, pixel7, pixel8"):
        load_target("pixle7")


def test_user_file(tmp_path: Path) -> None:
    target = load_target(write(tmp_path, MINIMAL))
    core = target.core()
    assert (core.name, core.ghz, core.rate("int8", "dense")) == ("big", 3.0, 63.6)
    assert (target.transport, target.slope, target.intercept_ms) == ("none", 1.0, 0.0)


def test_figures_of_the_model_can_be_overridden(tmp_path: Path) -> None:
    assert load_target(write(tmp_path, MINIMAL + "l2_kb = 512\n")).core().l2_kb == 512.0


@pytest.mark.parametrize("name", list_targets())
def test_json_round_trip(name: str) -> None:
    target = load_target(name)
    assert target_from_json(target.to_json(), "test") == target


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schema = 1", "schema = 2", "schema 1"),
        ("schema = 1", "", "schema is missing"),
        ('name = "my-phone"', 'name = "../phone"', "name must be letters"),
        ("ghz = 3", "ghz = -3", "ghz must be a finite number above 0"),
        ("ghz = 3", "ghz = nan", "ghz must be a finite number above 0"),
        ("ghz = 3", 'ghz = "fast"', "ghz must be of type float"),
        ("ghz = 3", "gzh = 3", "ghz is missing"),
        ("ghz = 3", "ghz = 3\nsimd = 4", "simd is not a key"),
        ("l3_kb", "l3_kB", "l3_kb is missing"),
        ('"cortex-x1"', '"cortex-x99"', "'cortex-x99' is not known"),
        ("dram_gbps = 20.0", "dram_gbps = 90.0", "must not exceed l3_gbps"),
        ("l3_kb = 8192", "l3_kb = 1", "l2_kb exceed l3_kb"),
        ("schema = 1", 'schema = 1\ntransport = "usb"', "transport must be"),
        ("schema = 1", 'schema = 1\ndefault_core = "small"', "default_core must be one of big"),
        ("schema = 1", "schema = 1\ncores = 3", "did you mean 'core'"),
        ("ghz = 3", 'ghz = 3\nfeatures = ["sve9"]', "features must be a list of"),
        ("schema = 1", "schema == 1", "is not TOML"),
    ],
)
def test_schema_errors(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in MINIMAL
    with pytest.raises(UserError, match=message):
        load_target(write(tmp_path, MINIMAL.replace(old, new, 1)))


def test_two_cores_of_one_name(tmp_path: Path) -> None:
    core = MINIMAL[MINIMAL.index("[[core]]") :]
    with pytest.raises(UserError, match="names must differ"):
        load_target(write(tmp_path, MINIMAL + core))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read target file"):
        load_target(tmp_path / "none.toml")
