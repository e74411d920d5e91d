"""Candidates in ExecuTorch with XNNPACK, as far as benchmarks/peers.py needs it. Needs the package `executorch`."""

from __future__ import annotations

import operator
from dataclasses import replace
from typing import Any

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
from executorch.exir.delegate import executorch_call_delegate
from executorch.extension.pybindings import portable_lib
from executorch.runtime import Runtime
from numpy.typing import NDArray
from peer_networks import weight_codes
from peer_runtimes import Model
from torch.ao.quantization.fx import _decomposed  # noqa: F401 (it registers ops)

from autocompress.compressors.candidate import Candidate
from autocompress.errors import UserError
from autocompress.spaces.datatypes import MOVES
from autocompress.spaces.execute import run_op
from autocompress.spaces.network import INPUT, Activation, Op

_CODES = torch.ops.quantized_decomposed
_RELU6 = Activation("clamp", (0.0, 6.0))


class _Module(torch.nn.Module):
    """A Candidate whose Layers are all dense fp32, or all dense int8, as a module to export.

    In int8 it looks as after PT2E with XNNPACKQuantizer, but with the codes and formats of the Candidate, not
    those that observers find: quantised behind each op, weights with a scale for each output channel.
    """

    def __init__(self, candidate: Candidate) -> None:
        super().__init__()
        self._network = candidate.network
        self._formats = dict(candidate.quantizers) if next(iter(candidate.plan.values())).bits == 8 else {}
        self._numbers = {name: number for number, name in enumerate(candidate.plan)}
        for op in self._network.ops:
            if op.kind in MOVES and self._formats:
                self._formats[op.name] = self._formats[op.inputs[0]]
            if op.name not in self._numbers:
                continue
            parameters = {part: self._network.tensors[f"{op.name}.{part}"] for part in ("weight", "bias")}
            if self._formats:
                codes, scale = weight_codes(candidate, op.name, self._formats[op.inputs[0]].scale)
                parameters["weight"] = torch.from_numpy(codes)
                parameters["scale"] = torch.from_numpy(scale).float()
                parameters["zero"] = torch.zeros(len(scale), dtype=torch.int64)
            for part, value in parameters.items():
                # Weights with channels last would put a change of strides among the ops, which XNNPACK does not take.
                value = value.clone(memory_format=torch.contiguous_format)
                self.register_buffer(f"{part}{self._numbers[op.name]}", value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = {INPUT: self._stored(INPUT, x)}
        for op in self._network.ops:
            inputs = [self._real(name, values[name]) for name in op.inputs]
            values[op.name] = self._stored(op.name, self._computed(op, inputs))
        return self._real(self._network.output, values[self._network.output])

    def _format(self, name: str) -> tuple[float, int, int, int, torch.dtype]:
        return self._formats[name].scale, self._formats[name].zero_point, -128, 127, torch.int8

    def _stored(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return _CODES.quantize_per_tensor(x, *self._format(name)) if self._formats else x

    def _real(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """A tensor as an op reads it. In int8 each reader has a conversion of its own: the partitioner finds no way otherwise."""
        return _CODES.dequantize_per_tensor(x, *self._format(name)) if self._formats else x

    def _computed(self, op: Op, inputs: list[torch.Tensor]) -> torch.Tensor:
        tensors: dict[str, torch.Tensor] = {}
        if op.name in self._numbers:
            parts = ("weight", "bias", "scale", "zero") if self._formats else ("weight", "bias")
            values = {part: self.get_buffer(f"{part}{self._numbers[op.name]}") for part in parts}
            if self._formats:
                form = values["scale"], values["zero"], 0, -127, 127, torch.int8
                values["weight"] = _CODES.dequantize_per_channel(values["weight"], *form)
            tensors = {f"{op.name}.{part}": values[part] for part in ("weight", "bias")}
        if op.activation != _RELU6:
            return run_op(op, inputs, tensors)
        bare = replace(op, attributes={**op.attributes, "activation": Activation()})
        return torch.nn.functional.hardtanh(run_op(bare, inputs, tensors), 0.0, 6.0)  # which XNNPACK fuses; a clamp it does not


def program(candidate: Candidate) -> bytes:
    """A Candidate whose Layers are all dense fp32, or all dense int8, as a .pte file with fp32 input and output, batch 1.

    Raises:
        UserError: XNNPACK does not take all of it.
    """
    shape = (1, *candidate.network.shapes[INPUT])
    exported = torch.export.export(_Module(candidate).eval(), (torch.zeros(shape),))
    lowered = to_edge_transform_and_lower(
        exported, partitioner=[XnnpackPartitioner()], compile_config=EdgeCompileConfig(_check_ir_validity=False)
    )
    calls = [node for node in lowered.exported_program().graph.nodes if node.op == "call_function"]
    if [call.target for call in calls] != [executorch_call_delegate, operator.getitem]:
        raise UserError("ExecuTorch does not run all of this with XNNPACK. Install executorch 1.5.1.")
    return bytes(lowered.to_executorch().buffer)


def executorch(content: bytes, x: NDArray[Any]) -> Model:
    """ExecuTorch's runtime with a pool of one thread.

    Args:
        content: a .pte file with one input and one output.
        x: its input.

    Raises:
        UserError: the pool has more threads.
    """
    if portable_lib._threadpool_get_thread_count() != 1:
        portable_lib._unsafe_reset_threadpool(1)  # only once: models that are ready hold the pool
    if portable_lib._threadpool_get_thread_count() != 1:
        raise UserError("ExecuTorch does not run in one thread. Install executorch 1.5.1, whose thread pool can be set.")
    loaded = Runtime.get().load_program(content)
    method, source = loaded.load_method("forward")._method, torch.from_numpy(x)

    def read() -> NDArray[Any]:
        # Through the program, which must live as long as its method: it owns the bytes that the method reads.
        output: NDArray[Any] = loaded.load_method("forward")._method.get_outputs()[0].numpy()
        return output

    return Model(lambda: method.set_inputs([source]), method.execute, read)
