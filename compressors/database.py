"""LayerDatabase: every Layer under each of its Options, compressed once and kept on disk.

One folder a database, named after everything its contents depend on; in it one safetensors file per (Layer, structure), and
one per Group for its channels. Files appear whole or not at all, carry a digest of what is in them, and are the only index: a
build that was killed goes on with what is missing, and a damaged file is built again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import UserError
from ..files import replacing
from ..spaces.groups import Group
from ..spaces.layers import Layer
from ..spaces.network import Network
from ..spaces.option import BLOCKS, Bits, Option, Structure
from ..spaces.plan import Plan
from .channels import ChannelChoice, Consumer, choose_channels, prunable, remove_columns
from .input_statistics import InputStatistics
from .pruning import to_matrix, to_weight
from .quantization import codes, quantize, round_to_grid, to_half, weight_scales
from .reconstruction import Curvature, Method, Reconstruction, corrected_bias, curvature, reconstruct, relative_error

#: To be raised whenever the same inputs would give other entries.
VERSION = 4
#: Statistics that are held in memory at a time.
STATISTICS_BYTES = 1 << 30
#: Room for all databases under one root, unless told otherwise.
MAX_BYTES = 4 << 30

#: Called with the Layers whose statistics are needed.
StatisticsProvider = Callable[[Sequence[Layer]], Mapping[str, InputStatistics]]
#: Called with (steps done, steps in all, what is next).
Progress = Callable[[int, int, str], None]

_VALUE_BYTES: dict[Bits, int] = {32: 4, 16: 2, 8: 1, 4: 1}


@dataclass(frozen=True)
class CompressedLayer:
    """One Layer under one Option. The tensors may be shared: do not change them.

    Attributes:
        weight: float32 values, shape as the dense weight.
        bias: (out,).
        scale: (out,), the step of each output channel's grid, for 8 and 4 bits.
        error: change of the outputs' variance over the outputs' variance.
    """

    weight: Tensor
    bias: Tensor
    scale: Tensor | None
    error: float


@dataclass(frozen=True)
class StitchedWeights:
    """What a Plan means, in tensors of full size. They may be shared: do not change them.

    Attributes:
        tensors: `<layer>.weight` and `<layer>.bias` of every Layer; zeros where a removed channel would be read.
        scales: (out,) for each Layer with 8 or 4 bits.
        kept: the channels that remain, by name of each Group from which the Plan removes some.
    """

    tensors: dict[str, Tensor]
    scales: dict[str, Tensor]
    kept: dict[str, Tensor]


@dataclass(frozen=True)
class _File:
    """One file of the database.

    Attributes:
        tensors: `<position>.<what>`, mapped from disk; `mean` of a Layer's inputs.
        rows: an Option (of a Layer) or a share of channels (of a Group) -> position and relative error.
    """

    tensors: Mapping[str, Tensor]
    rows: Mapping[Option | float, tuple[int, float]]


@dataclass(frozen=True)
class _Step:
    """What one step of a build adds: Options of a Layer by structure, or shares of a Group's channels."""

    name: str
    layers: tuple[Layer, ...]
    options: Mapping[Structure, tuple[Option, ...]]
    group: Group | None = None
    shares: tuple[float, ...] = ()


class LayerDatabase:
    """Compressed Layers by (Layer, Option). Opened by `build`, which computes only what is not on disk yet.

    Attributes:
        folder: where the files are.
        evicted: names of other databases that were deleted to stay below the size bound.
    """

    def __init__(self, folder: Path, network: Network, layers: Sequence[Layer], groups: Sequence[Group]) -> None:
        self.folder = folder
        self.evicted: tuple[str, ...] = ()
        self._network = network
        self._layers = {layer.name: layer for layer in layers}
        self._groups = tuple(groups)
        self._lock = _acquire(folder)
        self._files: dict[str, _File] = {}
        for path in folder.glob("*.safetensors"):
            file = _load(path)
            if file is not None:
                self._files[path.stem] = file

    @staticmethod
    def build(
        root: Path,
        network: Network,
        layers: Sequence[Layer],
        groups: Sequence[Group],
        wanted: Mapping[str, Sequence[Option]],
        statistics: StatisticsProvider,
        fingerprint: str,
        method: Method = "obs",
        progress: Progress | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> LayerDatabase:
        """Open the database of this network under `root`, and add every Option in `wanted` that it does not have.

        Args:
            root: holds one folder a database.
            network: the dense network.
            layers, groups: all of `network`.
            wanted: Options by Layer; a `channel` Option of a producer asks for its Group with fewer channels.
            statistics: called only when something is missing, with the Layers concerned; more than once if all their
                statistics do not fit in memory together.
            fingerprint: names the calibration data and whatever else `statistics` depends on.
            method: `obs`, or the `magnitude` baseline.
            progress: told what comes next.
            max_bytes: for all databases under `root`. Those used longest ago are deleted to make room, if nobody has them open.

        Raises:
            UserError: what is wanted needs more than `max_bytes`, or `root` cannot be written.
        """
        database = LayerDatabase(root / database_key(network, layers, groups, fingerprint, method), network, layers, groups)
        steps = database._missing(wanted)
        needed = database.size_bytes + sum(database._estimate(step) for step in steps)
        if needed > max_bytes:
            raise UserError(
                f"the layer database of this network needs {needed / 1e6:.0f} MB, but its bound is {max_bytes / 1e6:.0f} MB: "
                "raise the bound, or search fewer structures, levels or bits"
            )
        database.evicted = _evict(root, database.folder, max_bytes - needed)
        report = progress if progress is not None else _silent
        done = 0
        for chunk in _chunks(steps):
            report(done, len(steps), "input statistics")
            found = statistics(list(dict.fromkeys(layer for step in chunk for layer in step.layers)))
            for step in chunk:
                report(done, len(steps), step.name)
                if step.group is None:
                    database._compress_layer(step.layers[0], step.options, found[step.layers[0].name], method)
                else:
                    database._compress_group(step.group, step.shares, found, method)
                done += 1
        report(done, len(steps), "done")
        return database

    @property
    def size_bytes(self) -> int:
        """Size of all files of this database."""
        return _size(self.folder)

    @cached_property
    def errors(self) -> dict[str, dict[Option, float]]:
        """Relative error of every Option on disk, by Layer.

        That of a `channel` Option is the rounding error of the Layer's own weights; the first producer of the Group carries
        the sum of the errors of the Group's consumers as well.
        """
        table: dict[str, dict[Option, float]] = {name: {} for name in self._layers}
        for name, file in self._files.items():
            layer = name.rpartition(".")[0]
            table[layer].update({key: error for key, (_, error) in file.rows.items() if isinstance(key, Option)})
        for group in self._groups:
            removed = self._files.get(f"{group.name}.channel")
            for share, (_, error) in removed.rows.items() if removed is not None else ():
                assert isinstance(share, float)
                for position, span in enumerate(group.producers):
                    own = {option: value for option, value in table[span.op].items() if option.structure == "dense"}
                    for option, value in own.items():
                        table[span.op][Option("channel", share, option.bits)] = value + (error if position == 0 else 0.0)
        return table

    def entry(self, layer: str, option: Option) -> CompressedLayer:
        """`layer` under `option`; for a `channel` Option its own weights at full size, rounded to its bits.

        Raises:
            ValueError: the database was not built with this Option.
        """
        own = _own(option)
        file = self._files.get(f"{layer}.{own.structure}")
        if file is None or own not in file.rows:
            raise ValueError(f"the layer database was not built with {option} for layer {layer}")
        position, error = file.rows[own]
        if own == Option("dense", 0.0, 32):
            return CompressedLayer(self._weight(layer), self._bias(layer), None, 0.0)
        scale = file.tensors.get(f"{position}.scale")
        weight = file.tensors[f"{position}.weight"].float()
        if scale is not None:
            weight = weight * scale.view(-1, *[1] * (weight.dim() - 1))
        return CompressedLayer(weight, file.tensors[f"{position}.bias"], scale, error)

    def channels(self, group: Group, sparsity: float) -> ChannelChoice:
        """`group` with the share `sparsity` of its channels removed.

        Raises:
            ValueError: the database was not built with this share.
        """
        file = self._files.get(f"{group.name}.channel")
        if file is None or sparsity not in file.rows:
            raise ValueError(
                f"the layer database was not built with {sparsity:.1%} of the channels of group {group.name} removed"
            )
        position, error = file.rows[sparsity]
        compensated = {
            name: (file.tensors[f"{position}.{name}.weight"], file.tensors[f"{position}.{name}.bias"])
            for name in _consumers(group)
        }
        return ChannelChoice(file.tensors[f"{position}.kept"], compensated, error)

    def weights(self, network: Network, groups: Sequence[Group], plan: Plan) -> StitchedWeights:
        """What `plan` means for the Layers of `network`.

        A Layer that reads a Group with removed channels gets its own Option's weights plus what makes up for these
        channels, under the Option's mask and on its grid; its bias keeps the mean of its outputs.

        Raises:
            ValueError: an Option that the database was not built with, or producers of a Group that remove different shares.
        """
        kept: dict[str, Tensor] = {}
        losses: dict[str, list[tuple[Group, ChannelChoice]]] = {}
        for group in groups:
            share = _share(group, plan)
            if share > 0:
                choice = self.channels(group, share)
                kept[group.name] = choice.kept
                for name in choice.compensated:
                    losses.setdefault(name, []).append((group, choice))
        tensors: dict[str, Tensor] = {}
        scales: dict[str, Tensor] = {}
        for layer, option in plan.items():
            entry = self.entry(layer, option)
            if layer in losses:
                entry = self._stitch(layer, option, entry, losses[layer])
            tensors[f"{layer}.weight"], tensors[f"{layer}.bias"] = entry.weight, entry.bias
            if entry.scale is not None:
                scales[layer] = entry.scale
        return StitchedWeights(tensors, scales, kept)

    def _stitch(
        self, name: str, option: Option, entry: CompressedLayer, losses: Sequence[tuple[Group, ChannelChoice]]
    ) -> CompressedLayer:
        """`entry` of a Layer that reads Groups with removed channels."""
        layer, dense = self._layers[name], self._weight(name)
        weight = entry.weight
        for _, choice in losses:
            weight = weight + (choice.compensated[name][0] - dense)
        if option.structure in BLOCKS:
            weight = weight * (entry.weight != 0)
        for group, choice in losses:
            weight = remove_columns(weight, group, layer, choice.kept)
        matrix = to_matrix(weight, layer.groups)
        scale = None
        if option.bits in (8, 4):
            scale = weight_scales(matrix, option.bits)
            matrix = round_to_grid(matrix, scale, option.bits)
        elif option.bits == 16:
            matrix = to_half(matrix)
        mean = self._files[f"{name}.dense"].tensors["mean"]
        bias = corrected_bias(self._bias(name), matrix, to_matrix(dense, layer.groups), mean)
        return CompressedLayer(to_weight(matrix, tuple(dense.shape)), bias, scale.flatten() if scale is not None else None, 0.0)

    def _compress_layer(
        self, layer: Layer, options: Mapping[Structure, tuple[Option, ...]], statistics: InputStatistics, method: Method
    ) -> None:
        dense, bias = to_matrix(self._weight(layer.name), layer.groups), self._bias(layer.name)
        shape, channels = tuple(self._weight(layer.name).shape), layer.in_channels // layer.groups
        curve = curvature(statistics)
        for structure, chosen in options.items():
            levels = sorted({option.sparsity for option in chosen})
            if structure == "dense":
                bases = [Reconstruction(dense, torch.ones_like(dense, dtype=torch.bool), 0.0)]
            else:
                bases = reconstruct(dense, curve, structure, channels, levels, method)
            by_level = dict(zip(levels or [0.0], bases, strict=True))
            tensors: list[dict[str, Tensor]] = []
            rows: list[tuple[Option | float, float]] = []
            for bits in sorted({option.bits for option in chosen}):
                same = [option for option in chosen if option.bits == bits]
                weights, scales = _rounded([by_level[option.sparsity] for option in same], bits, curve, method)
                for option, weight, scale in zip(same, weights, scales, strict=True):
                    rows.append((option, relative_error(weight, dense, curve.covariance)))
                    tensors.append({"bias": corrected_bias(bias, weight, dense, statistics.mean)})
                    if scale is not None:
                        stored = codes(weight, scale, bits).to(torch.int8)
                        tensors[-1]["scale"] = scale.flatten()
                    else:
                        stored = weight.half() if bits == 16 else weight
                    if option != Option("dense", 0.0, 32):
                        tensors[-1]["weight"] = to_weight(stored, shape)
            self._save(f"{layer.name}.{structure}", rows, tensors, {"mean": statistics.mean})

    def _compress_group(
        self, group: Group, shares: Sequence[float], statistics: Mapping[str, InputStatistics], method: Method
    ) -> None:
        consumers = [
            Consumer(self._layers[name], self._weight(name), self._bias(name), statistics[name]) for name in _consumers(group)
        ]
        choices = choose_channels(group, consumers, shares, method)
        tensors = []
        for choice in choices.values():
            tensors.append({"kept": choice.kept})
            for name, (weight, bias) in choice.compensated.items():
                tensors[-1][f"{name}.weight"], tensors[-1][f"{name}.bias"] = weight, bias
        self._save(f"{group.name}.channel", [(share, choice.error) for share, choice in choices.items()], tensors, {})

    def _save(
        self,
        name: str,
        rows: Sequence[tuple[Option | float, float]],
        tensors: Sequence[Mapping[str, Tensor]],
        shared: Mapping[str, Tensor],
    ) -> None:
        """Add rows to a file, which is replaced as a whole."""
        old = self._files.get(name, _File({}, {}))
        contents = {**old.tensors, **shared}
        index = [(key, error) for key, (_, error) in old.rows.items()]
        for position, parts in enumerate(tensors, start=len(index)):
            contents.update({f"{position}.{what}": tensor.contiguous() for what, tensor in parts.items()})
        index += rows
        text = json.dumps([[key.to_json() if isinstance(key, Option) else key, error] for key, error in index])
        path = self.folder / f"{name}.safetensors"
        with replacing(path) as temporary:
            temporary.write_bytes(save(contents, {"rows": text, "digest": _digest(text, contents)}))
        file = _load(path)
        if file is None:
            raise UserError(f"{path} cannot be read back after writing it: check the disk, or choose another cache folder")
        self._files[name] = file
        self.__dict__.pop("errors", None)

    def _missing(self, wanted: Mapping[str, Sequence[Option]]) -> list[_Step]:
        """The steps that add what is wanted and not on disk."""
        steps = []
        for name, options in wanted.items():
            own = dict.fromkeys(_own(option) for option in options)
            lacking: dict[Structure, tuple[Option, ...]] = {}
            for structure in ("dense", *BLOCKS):
                file = self._files.get(f"{name}.{structure}")
                of_structure = tuple(option for option in own if option.structure == structure)
                absent = tuple(option for option in of_structure if file is None or option not in file.rows)
                # The dense file also holds the mean of the inputs, so it is there whatever is wanted.
                if absent or (structure == "dense" and file is None):
                    lacking[structure] = absent
            if lacking:
                steps.append(_Step(name, (self._layers[name],), lacking))
        for group in self._groups:
            if not prunable(group):
                continue
            shares = {o.sparsity for span in group.producers for o in wanted.get(span.op, ()) if o.structure == "channel"}
            file = self._files.get(f"{group.name}.channel")
            absent_shares = tuple(sorted(share for share in shares if file is None or share not in file.rows))
            if absent_shares:
                layers = tuple(self._layers[name] for name in _consumers(group))
                steps.append(_Step(f"channels of {group.name}", layers, {}, group, absent_shares))
        return steps

    def _estimate(self, step: _Step) -> int:
        """Bytes that `step` adds to the disk."""
        total = 0
        for layer in step.layers:
            size = self._weight(layer.name).numel()
            fixed = 8 * layer.out_channels + 512
            total += len(step.shares) * (4 * size + fixed)
            for options in step.options.values():
                total += sum(
                    size * _VALUE_BYTES[option.bits] * (option != Option("dense", 0.0, 32)) + fixed for option in options
                )
                total += 4 * layer.groups * layer.columns + 512
        return total

    def _weight(self, layer: str) -> Tensor:
        return self._network.tensors[f"{layer}.weight"]

    def _bias(self, layer: str) -> Tensor:
        return self._network.tensors[f"{layer}.bias"]


def database_key(network: Network, layers: Sequence[Layer], groups: Sequence[Group], fingerprint: str, method: Method) -> str:
    """Name of the folder of a database: a hash of everything that its contents depend on."""
    digest = hashlib.sha256(repr((VERSION, method, fingerprint, tuple(layers), tuple(groups))).encode())
    for layer in layers:
        for what in ("weight", "bias"):
            digest.update(_bytes(network.tensors[f"{layer.name}.{what}"]))
    return digest.hexdigest()


def _rounded(
    bases: Sequence[Reconstruction], bits: Bits, curve: Curvature, method: Method
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Weights of several levels of one Layer in one format, with their scales. Rows are independent: all levels go together."""
    if bits >= 16:
        return [to_half(base.weight) if bits == 16 else base.weight for base in bases], [None] * len(bases)
    weight = torch.cat([base.weight for base in bases], 1)
    mask = torch.cat([base.mask for base in bases], 1)
    if method == "magnitude":
        scale = weight_scales(weight, bits)
        weight = round_to_grid(weight, scale, bits)
    else:
        scale = weight_scales(weight, bits, curve.covariance.diagonal(dim1=1, dim2=2))
        weight = quantize(weight, scale, bits, curve, mask)
    return list(weight.chunk(len(bases), 1)), list(scale.chunk(len(bases), 1))


def _own(option: Option) -> Option:
    """What `option` means for the Layer's own weights: removing its output channels leaves the others as they are."""
    return Option("dense", 0.0, option.bits) if option.structure == "channel" else option


def _share(group: Group, plan: Plan) -> float:
    """The share of the channels of `group` that `plan` removes."""
    if not prunable(group):
        return 0.0
    options = [plan[span.op] for span in group.producers]
    shares = {option.sparsity if option.structure == "channel" else 0.0 for option in options}
    if len(shares) > 1:
        raise ValueError(f"the producers of group {group.name} remove different shares of their channels: {sorted(shares)}")
    return shares.pop()


def _consumers(group: Group) -> list[str]:
    return list(dict.fromkeys(span.op for span in group.consumers))


def _chunks(steps: Sequence[_Step]) -> Iterator[list[_Step]]:
    """Steps in order, cut where the statistics of their Layers would pass `STATISTICS_BYTES`."""
    chunk: list[_Step] = []
    held: dict[str, int] = {}
    for step in steps:
        added = {layer.name: 4 * layer.groups * layer.columns**2 for layer in step.layers}
        if chunk and sum({**held, **added}.values()) > STATISTICS_BYTES:
            yield chunk
            chunk, held = [], {}
        chunk.append(step)
        held.update(added)
    if chunk:
        yield chunk


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(_bytes(tensors[name]))
    return digest.hexdigest()


def _load(path: Path) -> _File | None:
    """The file at `path`, checked against its digest; None if it is damaged, so that it is built again."""
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError:
        return None
    text = metadata.get("rows", "")
    if metadata.get("digest") != _digest(text, tensors):
        return None
    rows = {
        Option.from_json(key) if isinstance(key, dict) else key: (n, error) for n, (key, error) in enumerate(json.loads(text))
    }
    return _File(tensors, rows)


def _acquire(folder: Path) -> IO[bytes]:
    """Mark a database as in use until the returned file is closed, by a shared lock on `folder/lock`, and as used now."""
    try:
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / "lock"
            handle = path.open("ab")
            if _try_exclusive(handle):
                # Nobody else is here: temporary files are left over from a build that was killed.
                for leftover in folder.glob(".*.part"):
                    leftover.unlink()
            fcntl.flock(handle, fcntl.LOCK_SH)
            # The folder may have been evicted in between; then the lock is on a deleted file.
            if path.exists() and path.stat().st_ino == os.fstat(handle.fileno()).st_ino:
                os.utime(path)
                return handle
            handle.close()
    except OSError as error:
        raise UserError(f"cannot use {folder} as a layer database: {error.strerror}. Choose another cache folder") from error


def _try_exclusive(handle: IO[bytes]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _evict(root: Path, own: Path, room: int) -> tuple[str, ...]:
    """Delete other databases under `root`, those used longest ago first, until they take no more than `room` bytes."""
    locks = [path for path in root.glob("*/lock") if path.parent != own]
    locks.sort(key=lambda path: path.stat().st_mtime)
    sizes = {path: _size(path.parent) for path in locks}
    total = sum(sizes.values())
    evicted = []
    for path in locks:
        if total <= room:
            break
        with path.open("ab") as handle:
            if _try_exclusive(handle):
                shutil.rmtree(path.parent)
                total -= sizes[path]
                evicted.append(path.parent.name)
    return tuple(evicted)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _silent(done: int, total: int, label: str) -> None:
    """The Progress of a caller who does not want to know."""
