"""Losses of distillation: how far a compressed network's outputs and inner tensors are from the dense network's.

References:
    [KD] Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network. arXiv:1503.02531.
    [FitNets] Romero et al.: FitNets: Hints for Thin Deep Nets. ICLR 2015.
    [AT] Zagoruyko, Komodakis: Paying More Attention to Attention. ICLR 2017.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

#: By which class scores are divided before they are compared, where Plans are judged and where they are trained.
TEMPERATURE = 4.0


def is_distribution(output: Tensor) -> bool:
    """Whether outputs of shape (batch, ...) are taken as class scores: KL is the loss for these, else squared error."""
    return output.ndim == 2 and output.shape[1] > 1


def response_loss(dense: Tensor, compressed: Tensor, temperature: float) -> Tensor:
    """Mean over samples of KL(softmax(dense / T) || softmax(compressed / T)) * T^2 [KD]; for outputs that are no class scores,
    the squared error as a share of the dense output's variance.

    Args:
        dense, compressed: outputs, shape (batch, ...).
    """
    if is_distribution(dense):
        wanted, found = (dense / temperature).log_softmax(1), (compressed / temperature).log_softmax(1)
        return temperature**2 * F.kl_div(found, wanted, reduction="batchmean", log_target=True)
    return feature_loss(dense, compressed)


def feature_loss(dense: Tensor, compressed: Tensor) -> Tensor:
    """Squared error as a share of the dense tensor's variance over the batch, of all channels together [FitNets].

    Args:
        dense, compressed: the same tensor of both networks, shape (batch, ...).
    """
    variance = (dense - dense.mean(0, keepdim=True)).square().mean()
    return (compressed - dense).square().mean() / variance.clamp_min(1e-12)


def attention_loss(dense: Tensor, compressed: Tensor) -> Tensor:
    """Squared distance of the attention maps, the channels' mean square at each position scaled to length 1, per sample [AT].

    The networks may have different numbers of channels.

    Args:
        dense, compressed: shape (batch, channels, height, width).
    """
    maps = [F.normalize(x.square().mean(1).flatten(1), dim=1, eps=1e-12) for x in (dense, compressed)]
    return (maps[0] - maps[1]).square().sum(1).mean()
