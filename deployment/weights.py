"""Weights of a compressed network as safetensors, each in the format that the kernels read."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from ..compressors.candidate import Candidate
from ..compressors.quantization import codes
from ..files import replacing


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
