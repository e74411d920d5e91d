"""benchmarks/kernels.py: what is compared as the same work is the same work."""

from __future__ import annotations

import numpy as np
import pytest

from ..scripts import load_script

load_script("idle")
kernels = load_script("kernels")


@pytest.mark.parametrize(("dtype", "structure"), kernels.sparse_kernels())
@pytest.mark.parametrize("stride", [1, 2])
def test_a_window_and_its_1x1_layers_have_the_same_blocks(dtype: str, structure: str, stride: int) -> None:
    window, pointwise, one_plane = kernels.prepare_window(dtype, structure, 16, 6, stride, 0.7)
    assert len(window.offsets) == len(pointwise.offsets) == len(one_plane.offsets) > 0
    assert window.output.shape == pointwise.output.shape == one_plane.output.shape
    planes = len(window.output)
    assert pointwise.offsets.max() >= 8 * planes * 36 > planes * 36 > one_plane.offsets.max()
    # The 9 planes of a channel hold the same, so that one of them does as well.
    assert np.array_equal(pointwise(), one_plane())
    assert len(np.unique(window())) > 20 and len(np.unique(pointwise.output)) > 20


def test_means_of_windows() -> None:
    shape = {"dtype": "fp32", "structure": "block4x1"}
    rows = [
        {**shape, "stride": 1, "over_pointwise": 0.5, "over_one_plane": 1.0},
        {**shape, "stride": 2, "over_pointwise": 2.0, "over_one_plane": 4.0},
    ]
    assert kernels.window_means(rows) == [
        {**shape, "over_pointwise": 1.0, "least": 0.5, "largest": 2.0},
        {**shape, "stride": 1, "over_pointwise": 0.5, "least": 0.5, "largest": 0.5},
        {**shape, "stride": 2, "over_pointwise": 2.0, "least": 2.0, "largest": 2.0},
        {**shape, "over_one_plane": 2.0, "least": 1.0, "largest": 4.0},
        {**shape, "stride": 1, "over_one_plane": 1.0, "least": 1.0, "largest": 1.0},
        {**shape, "stride": 2, "over_one_plane": 4.0, "least": 4.0, "largest": 4.0},
    ]
