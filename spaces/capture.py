"""Capture a torch model as a Network.

The model is traced by `torch.export` with a static batch of copies of the example, then lowered node by node to the
per-sample ops of `network.KINDS`: a value that depends on parameters only is computed once and becomes a constant, every
other value must keep the batch as its first axis. Batch norms, padding and activations are then folded into other ops, and
the result is compared with the model before it is returned.
"""

from __future__ import annotations

import operator
import re
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from .builder import BATCH, Builder, Ref, Refused
from .execute import run
from .lowering import RULES, Arguments
from .network import INPUT, Network

_TOLERANCE = 1e-4


def capture(model: nn.Module, example: Tensor) -> Network:
    """The Network of `model`, batch norms folded, padding and activations fused; `model` is left as it is.

    Args:
        model: in eval mode, float32, on the CPU; takes one tensor, returns one tensor; treats every sample by itself.
        example: one input, shape (1, ...), float32. The Network is fixed to its shape; the batch is free.

    Raises:
        UserError: the model cannot be captured; the message names the op and the module.
    """
    _check(model, example)
    try:
        with torch.no_grad():
            expected = model(example.clone())
    except Exception as error:
        raise UserError(
            f"the model cannot run on the example of shape {tuple(example.shape)}{_where(model, error)}: {_first_line(error)}. "
            "It must take one tensor of the shape of example_input."
        ) from error
    if not isinstance(expected, Tensor):
        raise UserError(
            f"the model returns a {type(expected).__name__}: wrap it in a module that returns the one tensor to be compared."
        )
    program = _export(model, example)
    with torch.no_grad():
        builder = Builder(tuple(example.shape[1:]))
        output = _lower(program, builder)
        network = builder.network(output, model)
        _verify(network, model, example, expected)
    return network


def _check(model: nn.Module, example: Tensor) -> None:
    if not isinstance(example, Tensor) or example.dtype != torch.float32 or example.dim() < 2 or example.shape[0] < 1:
        raise UserError("the example input must be one float32 tensor of shape (1, ...): the first axis is the batch.")
    for name, module in model.named_modules():
        if module.training:
            raise UserError(f"module {name or '(the model itself)'} is in training mode: call model.eval() before capture.")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.device.type != "cpu" or (tensor.is_floating_point() and tensor.dtype != torch.float32):
            raise UserError(f"{name} is {tensor.dtype} on {tensor.device}: call model.float().cpu() before capture.")


def _export(model: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    batch = torch.cat([example[:1]] * BATCH)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch.export uses what torch itself has deprecated
            program: torch.export.ExportedProgram = torch.export.export(model, (batch,))
            if any(node.op == "call_function" and not _accepted(node) for node in program.graph.nodes):
                # Ops made of others, and ops that change their input, are rewritten; that takes as long as the export.
                program = program.run_decompositions({})
    except Exception as error:
        raise UserError(
            f"torch.export cannot trace the model{_where(model, error)}: {_first_line(error)}. "
            "Its control flow must not depend on the values of tensors."
        ) from error
    return program


def _where(model: nn.Module, error: BaseException) -> str:
    """` in module a.b`, the innermost module on the traceback of `error`; empty when none is known."""
    names = {id(module): name for name, module in model.named_modules()}
    found, traceback = "", error.__traceback__
    while traceback is not None:
        found = names.get(id(traceback.tb_frame.f_locals.get("self")), "") or found
        traceback = traceback.tb_next
    return f" in module {found}" if found else ""


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def _verify(network: Network, model: nn.Module, example: Tensor, expected: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    scale = float(example.std()) if example.numel() > 1 else 1.0
    noise = torch.randn((BATCH, *example.shape[1:]), generator=generator) * (scale or 1.0) + example.mean()
    for x, wanted in ((example, expected), (noise, model(noise.clone()))):
        got = run(network, x)
        if got.shape != wanted.shape:
            raise UserError(
                f"the captured network returns shape {tuple(got.shape)} where the model returns {tuple(wanted.shape)}: "
                "the model must treat every sample of a batch by itself."
            )
        error = float((got - wanted).abs().max()) / max(float(wanted.abs().max()), 1e-30)
        if not error <= _TOLERANCE:
            raise UserError(
                f"the captured network differs from the model (relative error {error:.2g}, {_TOLERANCE:g} allowed): "
                "the model must be deterministic, give finite outputs and treat every sample of a batch by itself."
            )


def _lower(program: torch.export.ExportedProgram, builder: Builder) -> str:
    """Lower every node of the traced graph; return the name of the model's output."""
    values: dict[torch.fx.Node, Any] = {}
    signature = program.graph_signature
    stored = {**program.state_dict, **program.constants}
    targets = {**signature.inputs_to_parameters, **signature.inputs_to_buffers, **signature.inputs_to_lifted_tensor_constants}
    if signature.buffers_to_mutate or len(signature.user_outputs) != 1:
        raise UserError("the model changes its own buffers in eval mode: make forward() a pure function of its input.")
    _refuse_unsupported(program, set(targets))
    result: Any = None
    for node in program.graph.nodes:
        if node.op == "placeholder":
            values[node] = stored[targets[node.name]] if node.name in targets else Ref(INPUT, builder.shapes[INPUT])
        elif node.op == "output":
            result = next((values[source] for source in node.all_input_nodes if source.name in signature.user_outputs), None)
        elif node.users:
            builder.path = _module_path(node)
            try:
                values[node] = _value(node, values, builder)
            except Refused as refusal:
                raise UserError(
                    f"cannot capture {_describe(node)}: {refusal}. docs/capture.md lists what is accepted."
                ) from refusal
    if not isinstance(result, Ref) or result.name == INPUT:
        raise UserError("the model's output is not computed from its input: there is nothing to compress.")
    builder.path = ""
    return builder.materialise(result)


def _refuse_unsupported(program: torch.export.ExportedProgram, constants: set[str]) -> None:
    """Raise one UserError which names every op outside the accepted set."""
    variable: set[torch.fx.Node] = set()
    refused: dict[str, torch.fx.Node] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name not in constants:
            variable.add(node)
        elif node.op not in ("placeholder", "output") and any(source in variable for source in node.all_input_nodes):
            variable.add(node)
            if not _accepted(node):
                refused.setdefault(str(node.target), node)
    if refused:
        first = next(iter(refused.values()))
        others = f" (nor are {', '.join(list(refused)[1:])})" if len(refused) > 1 else ""
        raise UserError(
            f"cannot capture {_describe(first)}: the op is not supported{others}. "
            "Replace it; docs/capture.md lists what is accepted."
        )


def _accepted(node: torch.fx.Node) -> bool:
    return node.target is operator.getitem or str(node.target) in RULES


def _describe(node: torch.fx.Node) -> str:
    path = _module_path(node)
    return f"{node.target} (node {node.name}, in {f'module {path}' if path else 'the model itself'})"


def _module_path(node: torch.fx.Node) -> str:
    """Path of the innermost module that called this node; a later call of a shared module counts as the first."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values()]
    return re.sub(r"@\d+", "", paths[-1]) if paths else ""


def _value(node: torch.fx.Node, values: Mapping[torch.fx.Node, Any], builder: Builder) -> Any:
    """The value of one call: computed now when it depends on constants only, else lowered to ops."""
    args: Any = torch.fx.node.map_arg(node.args, lambda source: values[source])
    kwargs: Any = torch.fx.node.map_arg(node.kwargs, lambda source: values[source])
    if node.target is operator.getitem:
        return args[0][args[1]]
    assert callable(node.target)
    if not any(_depends(values[source]) for source in node.all_input_nodes):
        return node.target(*args, **kwargs)
    assert isinstance(node.target, torch._ops.OpOverload)
    arguments = {}
    for position, parameter in enumerate(node.target._schema.arguments):
        if position < len(args):
            arguments[parameter.name] = args[position]
        elif parameter.name in kwargs:
            arguments[parameter.name] = kwargs[parameter.name]
        else:
            arguments[parameter.name] = parameter.default_value
    wanted = node.meta.get("val")
    result = RULES[str(node.target)](builder, Arguments(arguments, _shape(wanted)))
    for got, fake in zip(*((result, wanted) if isinstance(result, list) else ([result], [wanted])), strict=False):
        if fake is not None and fake.dtype != torch.float32:
            raise Refused(f"it computes {fake.dtype}, and only float32 is accepted")
        if isinstance(got, Ref) and (BATCH, *got.shape) != tuple(fake.shape):
            raise Refused("it uses the batch axis")
    return result


def _depends(value: Any) -> bool:
    """Whether a value, or one of a list of them, depends on the model's input."""
    return any(isinstance(part, Ref) for part in value) if isinstance(value, list | tuple) else isinstance(value, Ref)


def _shape(value: Any) -> tuple[int, ...]:
    first = value[0] if isinstance(value, list | tuple) else value
    return () if first is None else tuple(first.shape)
