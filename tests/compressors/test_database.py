from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autocompress.compressors import database as database_module
from autocompress.compressors.database import LayerDatabase, database_key
from autocompress.compressors.input_statistics import InputStatistics, collect
from autocompress.compressors.pruning import to_matrix
from autocompress.compressors.reconstruction import Method
from autocompress.errors import UserError
from autocompress.spaces.execute import run
from autocompress.spaces.groups import Group
from autocompress.spaces.layers import Layer
from autocompress.spaces.network import Network
from autocompress.spaces.option import BITS, BLOCKS, Option
from autocompress.spaces.plan import Plan

DENSE = tuple(Option("dense", 0.0, bits) for bits in BITS)
INT8, INT4 = Option("dense", 0.0, 8), Option("dense", 0.0, 4)
HALF, FULL = Option("dense", 0.0, 16), Option("dense", 0.0, 32)


class Case:
    """A network to build databases of, with a statistics provider that counts its calls."""

    def __init__(self, network: Network, layers: dict[str, Layer], groups: tuple[Group, ...], batches: list[Tensor]) -> None:
        self.network, self.layers, self.groups, self.batches = network, layers, groups, batches
        self.asked: list[list[str]] = []
        sparse = tuple(Option(structure, level, 8) for structure in ("block1x4", "block4x4") for level in (0.3, 0.6))
        self.wanted: dict[str, tuple[Option, ...]] = dict.fromkeys(layers, DENSE)
        for name in ("project", "spread", "head", "fc"):
            self.wanted[name] = (*DENSE, *sparse, Option("unstructured", 0.5, 32), Option("block4x1", 0.5, 16))
        for name in ("expand", "depthwise", "stem", "project"):
            self.wanted[name] = (*self.wanted[name], Option("channel", 0.5, 8), Option("channel", 0.4, 32))

    def statistics(self, layers: Sequence[Layer]) -> dict[str, InputStatistics]:
        self.asked.append([layer.name for layer in layers])
        return collect(self.network, layers, self.batches, max_positions=2000)

    def build(self, root: Path, **changes: Any) -> LayerDatabase:
        arguments: dict[str, Any] = {"wanted": self.wanted, "statistics": self.statistics, "fingerprint": "f", **changes}
        return LayerDatabase.build(root, self.network, list(self.layers.values()), self.groups, **arguments)

    def plan(self, **options: Option) -> Plan:
        return Plan.of({name: options.get(name, FULL) for name in self.layers})

    def stitched(self, database: LayerDatabase, plan: Plan) -> Network:
        stitched = database.weights(self.network, self.groups, plan)
        return Network(self.network.ops, {**self.network.tensors, **stitched.tensors}, self.network.shapes, self.network.output)


@pytest.fixture
def case(network: Network, layers: dict[str, Layer], groups: tuple[Group, ...], batches: list[Tensor]) -> Case:
    return Case(network, layers, groups, batches)


@pytest.fixture(scope="module")
def built(
    tmp_path_factory: pytest.TempPathFactory,
    network: Network,
    layers: dict[str, Layer],
    groups: tuple[Group, ...],
    batches: list[Tensor],
) -> LayerDatabase:
    return Case(network, layers, groups, batches).build(tmp_path_factory.mktemp("built"))


def on_grid(weight: Tensor, scale: Tensor, end: int) -> bool:
    whole = weight.flatten(1) / scale[:, None]
    return bool(torch.allclose(whole, whole.round(), atol=1e-3)) and float(whole.abs().max()) <= end + 1e-3


def test_every_wanted_option_is_there(case: Case, built: LayerDatabase) -> None:
    for name, options in case.wanted.items():
        dense = case.network.tensors[f"{name}.weight"]
        for option in options:
            entry = built.entry(name, option)
            assert entry.weight.shape == dense.shape
            assert entry.weight.dtype == torch.float32
            assert entry.bias.shape == (dense.shape[0],)
            assert (entry.scale is not None) == (option.bits <= 8)
            if entry.scale is not None:
                assert on_grid(entry.weight, entry.scale, 127 if option.bits == 8 else 7)
            if option.bits == 16:
                assert torch.equal(entry.weight, entry.weight.half().float())
            if option.structure in BLOCKS:
                zeros = float((entry.weight == 0).float().mean())
                height, width = BLOCKS[option.structure]
                assert zeros >= option.sparsity - height * width / dense.numel()
            assert option in built.errors[name]


def test_errors_order_as_they_should(built: LayerDatabase) -> None:
    errors = built.errors["project"]
    assert errors[FULL] == 0.0
    assert errors[FULL] < errors[HALF] < errors[INT8] < errors[INT4] < 1
    assert errors[Option("block1x4", 0.3, 8)] < errors[Option("block1x4", 0.6, 8)] < errors[Option("block4x4", 0.6, 8)]
    expand = built.errors["expand"]
    assert expand[Option("channel", 0.5, 8)] > expand[Option("channel", 0.4, 8)] > expand[INT8]
    assert built.errors["depthwise"][Option("channel", 0.5, 8)] == built.errors["depthwise"][INT8]


def test_dense_full_precision_is_the_network_itself(case: Case, built: LayerDatabase) -> None:
    x = case.batches[0]
    assert torch.equal(run(case.stitched(built, case.plan()), x), run(case.network, x))


def test_unknown_options_are_refused(case: Case, built: LayerDatabase) -> None:
    with pytest.raises(ValueError, match="unstructured 90%"):
        built.entry("project", Option("unstructured", 0.9, 32))
    with pytest.raises(ValueError, match=r"70\.0%"):
        built.channels(next(group for group in case.groups if group.name == "expand"), 0.7)


def test_a_plan_with_fewer_channels(case: Case, built: LayerDatabase) -> None:
    half, more = Option("channel", 0.5, 8), Option("channel", 0.4, 32)
    plan = case.plan(expand=half, depthwise=half, stem=more, project=more, spread=Option("block1x4", 0.3, 8))
    stitched = built.weights(case.network, case.groups, plan)
    inner = next(group for group in case.groups if group.name == "expand")
    outer = next(group for group in case.groups if "project" in {span.op for span in group.producers})
    assert {name: len(kept) for name, kept in stitched.kept.items()} == {inner.name: 12, outer.name: 4}
    removed = torch.ones(24, dtype=torch.bool)
    removed[stitched.kept[inner.name]] = False
    assert (stitched.tensors["project.weight"][:, removed] == 0).all()
    assert torch.equal(stitched.tensors["project.weight"], built.channels(inner, 0.5).compensated["project"][0])
    spread, own = stitched.tensors["spread.weight"], built.entry("spread", Option("block1x4", 0.3, 8))
    assert (spread[own.weight == 0] == 0).all()
    assert on_grid(spread, stitched.scales["spread"], 127)
    assert set(stitched.scales) == {"expand", "depthwise", "spread"}


def test_biases_keep_the_mean_of_the_outputs(case: Case, built: LayerDatabase) -> None:
    mean = case.statistics([case.layers["project"]])["project"].mean[0]
    half = Option("channel", 0.5, 8)
    plan = case.plan(expand=half, depthwise=half, project=Option("block4x4", 0.3, 8))
    dense = to_matrix(case.network.tensors["project.weight"])[0] @ mean + case.network.tensors["project.bias"]
    for chosen in (case.plan(project=INT4), plan):
        stitched = built.weights(case.network, case.groups, chosen)
        found = to_matrix(stitched.tensors["project.weight"])[0] @ mean + stitched.tensors["project.bias"]
        torch.testing.assert_close(found, dense, rtol=1e-4, atol=1e-4)


def test_compensated_plan_is_closer_than_the_magnitude_one(case: Case, built: LayerDatabase, tmp_path: Path) -> None:
    half = Option("channel", 0.5, 8)
    plan = case.plan(expand=half, depthwise=half, spread=Option("block1x4", 0.6, 8), head=Option("block4x4", 0.6, 8))
    plain = case.build(tmp_path, method="magnitude")
    x = torch.cat(case.batches)
    target = run(case.network, x)
    ours, other = ((run(case.stitched(one, plan), x) - target).square().mean() for one in (built, plain))
    assert ours < other


def test_producers_must_agree(case: Case, built: LayerDatabase) -> None:
    with pytest.raises(ValueError, match="different shares"):
        built.weights(case.network, case.groups, case.plan(expand=Option("channel", 0.5, 8)))


def test_a_second_run_computes_nothing(case: Case, tmp_path: Path) -> None:
    first = case.build(tmp_path)
    assert case.asked
    case.asked.clear()
    labels: list[str] = []
    second = case.build(tmp_path, progress=lambda done, total, label: labels.append(label))
    assert case.asked == []
    assert labels == ["done"]
    assert second.folder == first.folder
    assert second.errors == first.errors
    assert second.size_bytes == first.size_bytes > 10_000


def test_new_options_are_added_and_old_ones_kept(case: Case, tmp_path: Path) -> None:
    project, more = Option("block1x4", 0.3, 8), Option("block1x4", 0.5, 8)
    first = case.build(tmp_path, wanted={"project": [project]})
    old = first.entry("project", project).weight.clone()
    case.asked.clear()
    second = case.build(tmp_path, wanted={"project": [more], "fc": [INT8]})
    assert case.asked == [["project", "fc"]]
    assert torch.equal(second.entry("project", project).weight, old)
    assert set(second.errors["project"]) == {project, more}


def test_other_contents_get_another_folder(case: Case, layers: dict[str, Layer]) -> None:
    def key(network: Network, fingerprint: str = "f", method: Method = "obs") -> str:
        return database_key(network, list(layers.values()), case.groups, fingerprint, method)

    changed = {**case.network.tensors, "fc.bias": case.network.tensors["fc.bias"] + 1e-3}
    other = Network(case.network.ops, changed, case.network.shapes, case.network.output)
    assert len({key(case.network), key(other), key(case.network, "g"), key(case.network, method="magnitude")}) == 4


def test_progress_counts_up(case: Case, tmp_path: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    case.build(tmp_path, progress=lambda done, total, label: calls.append((done, total, label)))
    assert calls[0][2] == "input statistics"
    assert calls[-1] == (calls[-1][1], calls[-1][1], "done")
    assert [done for done, _, _ in calls] == sorted(done for done, _, _ in calls)


def test_statistics_are_asked_for_in_pieces_that_fit(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = case.build(tmp_path / "whole")
    monkeypatch.setattr(database_module, "STATISTICS_BYTES", 30_000)
    case.asked.clear()
    pieces = case.build(tmp_path / "pieces")
    assert len(case.asked) > 3
    for name, table in whole.errors.items():
        assert pieces.errors[name] == pytest.approx(table)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "emptied"])
def test_damaged_files_are_built_again(case: Case, tmp_path: Path, damage: str) -> None:
    database = case.build(tmp_path, wanted={"project": [Option("block1x4", 0.3, 8)], "fc": [INT8]})
    path = database.folder / "project.block1x4.safetensors"
    content = path.read_bytes()
    old = database.entry("project", Option("block1x4", 0.3, 8)).weight.clone()
    if damage == "truncated":
        path.write_bytes(content[:-40])
    elif damage == "flipped":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        path.write_bytes(b"")
    case.asked.clear()
    again = case.build(tmp_path, wanted={"project": [Option("block1x4", 0.3, 8)], "fc": [INT8]})
    assert case.asked == [["project"]]
    assert torch.equal(again.entry("project", Option("block1x4", 0.3, 8)).weight, old)
    assert path.stat().st_size == len(content)


@pytest.mark.parametrize("moment", ["between", "within"])
def test_a_killed_build_goes_on(case: Case, tmp_path: Path, moment: str) -> None:
    """The build runs in a child process that dies without any clean-up, as under kill -9."""
    wanted = {name: [Option("block1x4", 0.5, 8), INT8] for name in ("project", "spread", "head", "fc")}

    def die(handle: int) -> None:
        if moment == "between" or len(list(tmp_path.glob("*/*.safetensors"))) == 3:
            os._exit(9)

    child = os.fork()
    if child == 0:
        if moment == "within":
            os.fsync = die
        case.build(tmp_path, wanted=wanted, progress=lambda done, *_: die(0) if moment == "between" and done == 2 else None)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.glob("*.safetensors"))) == (4 if moment == "between" else 3)
    assert bool(list(folder.glob(".*.part"))) == (moment == "within")
    finished = case.build(tmp_path, wanted=wanted)
    assert case.asked == [["head", "fc"] if moment == "between" else ["spread", "head", "fc"]]
    assert not list(folder.glob(".*.part"))
    whole = case.build(tmp_path / "other", wanted=wanted)
    for name, options in wanted.items():
        for option in options:
            assert torch.equal(finished.entry(name, option).weight, whole.entry(name, option).weight)


def test_too_small_a_bound_is_refused_before_any_work(case: Case, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="raise the bound"):
        case.build(tmp_path, max_bytes=10_000)
    assert case.asked == []


def test_databases_used_longest_ago_make_room(case: Case, tmp_path: Path) -> None:
    wanted = {"fc": [INT8, Option("unstructured", 0.5, 32)], "project": [INT8]}
    old, middle = (case.build(tmp_path, wanted=wanted, fingerprint=name) for name in ("old", "middle"))
    size = old.size_bytes
    for age, database in enumerate((middle, old)):
        os.utime(database.folder / "lock", (1e9 - age, 1e9 - age))
    open_one = case.build(tmp_path, wanted=wanted, fingerprint="new", max_bytes=int(2.5 * size))
    assert open_one.evicted == (), "both others are in use"
    folders = (old.folder, middle.folder)
    del old, middle, database
    last = case.build(tmp_path, wanted=wanted, fingerprint="last", max_bytes=int(3.5 * size))
    assert last.evicted == (folders[0].name,)
    assert [folder.exists() for folder in folders] == [False, True]
    assert open_one.folder.exists()


def test_estimate_is_close(case: Case, tmp_path: Path) -> None:
    database = case.build(tmp_path)
    empty = LayerDatabase(tmp_path / "empty", case.network, list(case.layers.values()), case.groups)
    estimate = sum(empty._estimate(step) for step in empty._missing(case.wanted))
    assert database.size_bytes <= 1.1 * estimate


def test_an_unusable_root_is_a_user_error(case: Case, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="another cache folder"):
        case.build(tmp_path / "file")
