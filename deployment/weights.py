"""Weights of a compressed network as safetensors, each in the format that the kernels read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..compressors.candidate import Candidate
from ..compressors.quantization import codes
from ..errors import UserError
from ..files import replacing


def load_weights(candidate: Candidate, path: Path) -> Candidate:
    """`candidate` with the tensors that `save_weights` wrote for the same Plan.

    Raises:
        UserError: the file cannot be read, or is of another network.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            if (opened.metadata() or {}).get("plan") != candidate.plan.key:
                raise UserError(f"{path} is not of this plan: export the trial again.")
            stored = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
        scales = {layer: stored[f"{layer}.scale"] for layer in candidate.scales}
        tensors = {name: stored[name].float() for name in candidate.network.tensors}
    except (OSError, SafetensorError, KeyError) as error:
        raise UserError(f"cannot read {path} ({error}): export the trial again.") from error
    for layer, scale in scales.items():
        weight = tensors[f"{layer}.weight"]
        tensors[f"{layer}.weight"] = weight * scale.view(-1, *[1] * (weight.ndim - 1))
    return replace(candidate, network=replace(candidate.network, tensors=tensors), scales=scales)


def save_weights(candidate: Candidate, path: Path) -> None:
    """Write `<layer>.weight` as int8 codes with `<layer>.scale` (8 and 4 bits), float16 or float32, and every other tensor
    in float32. `<tensor>.quantizer` holds scale and zero point of each int8 activation.

    Raises:
        UserError: the file cannot be written.
    """
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in candidate.network.tensors.items():
        layer = name.removesuffix(".weight")
        option = candidate.plan.get(layer) if name.endswith(".weight") else None
        if option is None or option.bits == 32:
            tensors[name] = tensor.contiguous()
        elif option.bits == 16:
            tensors[name] = tensor.half().contiguous()
        else:
            scale = candidate.scales[layer]
            per_row = scale.view(-1, *[1] * (tensor.ndim - 1))
            tensors[name] = codes(tensor, per_row, option.bits).to(torch.int8).contiguous()
            tensors[f"{layer}.scale"] = scale.contiguous()
    for op, type_ in candidate.types.items():
        quantizer = candidate.quantizers.get(op)
        if type_ == "int8" and quantizer is not None:
            tensors[f"{op}.quantizer"] = torch.tensor([quantizer.scale, quantizer.zero_point], dtype=torch.float64)
    metadata = {"format": "autocompress weights 1", "plan": candidate.plan.key}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata)
