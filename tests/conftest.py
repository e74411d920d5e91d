"""Shared set-up of the tests."""

from __future__ import annotations

import sys
import types

import torch

# timm imports torchvision, whose PyPI wheel registers CUDA operators on import and fails beside a CPU-only torch.
# Nothing here needs these operators: with this stub the pure-Python part (10 MB of wheels, --no-deps) is enough.
sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("torchvision._meta_registrations"))

torch.set_num_threads(1)
