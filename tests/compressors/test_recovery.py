from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from autocompress.api import Prepared
from autocompress.compressors.candidate import Candidate
from autocompress.compressors.quantization import codes
from autocompress.compressors.recovery import Moments, StatisticsCorrection, dense_moments, fold
from autocompress.deployment.weights import save_weights
from autocompress.evaluators.evaluator import PlanEvaluator, dense_candidate
from autocompress.evaluators.loss import divergence
from autocompress.spaces.network import Network, Op
from autocompress.spaces.option import Option
from autocompress.spaces.plan import Plan


@pytest.mark.parametrize("option", [Option("block4x1", 0.5, 16), Option("block4x4", 0.5, 8)], ids=str)
def test_every_layer_moves_towards_the_dense_moments(tiny: Prepared, option: Option) -> None:
    evaluator = tiny.evaluator
    plan = tiny.profile.space.uniform(option)
    assert option in plan.values()
    moments = dense_moments(evaluator.dense, evaluator.samples)
    assert set(moments) == {layer.name for layer in tiny.profile.layers}
    candidate = evaluator.candidate(plan)
    correction, steps = StatisticsCorrection(moments), []

    def watch(op: Op, output: Tensor, scale: float) -> Tensor:
        if op.name not in moments:
            return correction(op, output, scale)
        before = Moments.of(op, output, scale)
        fixed = correction(op, output, scale)
        after, wanted = Moments.of(op, fixed, scale), moments[op.name]
        typical = float(wanted.spread().mean(0).median().sqrt())
        # One part of the way for all channels.
        way, gone = wanted.mean.mean(0) - before.mean.mean(0), after.mean.mean(0) - before.mean.mean(0)
        step = float((gone @ way) / (way @ way))
        assert torch.allclose(gone, step * way, atol=1e-3 * typical)
        steps.append(step)
        # Damping takes a little from channels that vary little.
        dense_variance = wanted.spread().mean(0)
        lively = dense_variance > 0.05 * dense_variance.median()
        far, near = (float((found.spread().mean(0) / dense_variance)[lively].log().square().mean()) for found in (before, after))
        assert near <= far + 1e-4
        return fixed

    candidate.run(evaluator.samples, watch)
    assert len(steps) == len(moments) and all(-1e-3 <= step <= 1 + 1e-3 for step in steps)
    # Half of a network removed: most of what it changes is no noise.
    assert sorted(steps)[len(steps) // 2] > 0.5


CONVOLUTION = Op("layer", "conv2d", ("x",), {})


def layer_outputs(inputs: int, channels: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    level = torch.randn(inputs, channels, 1, 1, generator=generator)
    return (level + torch.randn(inputs, channels, 6, 5, generator=generator)).contiguous(memory_format=torch.channels_last)


@given(st.integers(2, 40), st.integers(1, 20), st.floats(0.25, 4), st.floats(-3, 3), st.floats(0.01, 100), st.integers(0, 999))
@settings(deadline=None)
def test_what_is_the_same_for_every_input_is_undone(
    inputs: int, channels: int, gain: float, shift: float, scale: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    dense = layer_outputs(inputs, channels, seed)
    shifts = shift * torch.rand(1, channels, 1, 1, generator=generator)
    moved = (dense + shifts) / scale
    correction = StatisticsCorrection({"layer": Moments.of(CONVOLUTION, dense)})
    assert torch.allclose(correction(CONVOLUTION, moved.clone(), scale) * scale, dense, atol=1e-3 * (1 + abs(shift)))
    # A gain changes each input as far as it differs from the mean: it is undone as far as that tells.
    spread = Moments.of(CONVOLUTION, dense).spread().mean(0)
    shrunk = (dense - dense.mean((0, 2, 3), keepdim=True)) * gain
    fixed = correction(CONVOLUTION, shrunk.clone(), 1.0)
    far, near = ((Moments.of(CONVOLUTION, x).spread().mean(0) / spread).log().abs().max() for x in (shrunk, fixed))
    assert near <= far + 1e-3


@pytest.mark.parametrize("inputs", [8, 24])
def test_noise_of_few_inputs_is_mostly_left_alone(inputs: int) -> None:
    """Outputs whose moments differ from the dense ones by chance alone: the less is changed, the better."""
    changed, taken_for_true = 0.0, 0.0
    for seed in range(20):
        dense = layer_outputs(inputs, 64, seed)
        noisy = dense + 0.3 * torch.randn(inputs, 64, 1, 1, generator=torch.Generator().manual_seed(seed + 1000))
        fixed = StatisticsCorrection({"layer": Moments.of(CONVOLUTION, dense)})(CONVOLUTION, noisy.clone(), 1.0)
        changed += float((fixed - noisy).mean((0, 2, 3)).square().sum())
        taken_for_true += float((dense - noisy).mean((0, 2, 3)).square().sum())
    assert changed < 0.1 * taken_for_true


def test_one_input_tells_nothing_of_noise() -> None:
    dense, found = layer_outputs(1, 5, 0), layer_outputs(1, 5, 1)
    correction = StatisticsCorrection({"layer": Moments.of(CONVOLUTION, dense)})
    assert torch.allclose(correction(CONVOLUTION, found.clone(), 1.0), found, atol=1e-6)


def corrected(evaluator: PlanEvaluator, candidate: Candidate) -> tuple[Tensor, StatisticsCorrection]:
    """What a Candidate, corrected on the evaluator's correcting inputs, gives for the samples, and the correction."""
    inputs = evaluator.correcting.contiguous(memory_format=torch.channels_last)
    correction = StatisticsCorrection(evaluator.kept_moments(dense_moments(evaluator.dense, inputs), candidate.plan))
    candidate.run(inputs, correction)
    samples = evaluator.samples.contiguous(memory_format=torch.channels_last)
    return fold(candidate, correction).run(samples), correction


@pytest.mark.parametrize("seed", range(6))
def test_the_loss_is_that_of_the_folded_correction(tiny: Prepared, random_plan: Callable[[int], Plan], seed: int) -> None:
    evaluator, plan = tiny.evaluator, random_plan(seed)
    candidate = evaluator.candidate(plan)
    output, _ = corrected(evaluator, candidate)
    assert divergence(evaluator.dense_outputs, output) == pytest.approx(evaluator.loss(plan), rel=1e-4, abs=1e-8)


def test_without_rounding_the_folded_correction_is_exact(tiny: Prepared) -> None:
    """Channels removed from a fp32 network: the correction matters, and nothing is rounded."""
    evaluator, space = tiny.evaluator, tiny.profile.space
    offered = [option for options in space.options.values() for option in options if option.structure == "channel"]
    option = max((option for option in offered if option.bits == 32), key=lambda option: option.sparsity)
    plan = space.consistent(dict(space.uniform(option)))
    assert option in plan.values()
    candidate = evaluator.candidate(plan)
    output, _ = corrected(evaluator, candidate)
    folded = divergence(evaluator.dense_outputs, output)
    uncorrected = divergence(evaluator.dense_outputs, candidate.run(evaluator.samples))
    assert folded == pytest.approx(evaluator.loss(plan), rel=1e-3, abs=1e-8)
    assert uncorrected > 1.2 * folded


def test_a_recovered_network_is_corrected_on_all_these_inputs(tiny: Prepared, random_plan: Callable[[int], Plan]) -> None:
    evaluator, plan = tiny.evaluator, random_plan(3)
    inputs = torch.cat([evaluator.correcting, evaluator.samples]).contiguous(memory_format=torch.channels_last)
    candidate = evaluator.candidate(plan)
    moments = evaluator.kept_moments(dense_moments(evaluator.dense, inputs), plan)
    correction = StatisticsCorrection(moments)
    candidate.run(inputs, correction)
    expected = fold(candidate, correction)
    for name, value in tiny.recovered(plan).network.tensors.items():
        assert torch.allclose(value, expected.network.tensors[name], rtol=1e-4, atol=1e-5)


def test_folding_keeps_integer_codes_and_half_precision(tiny: Prepared, random_plan: Callable[[int], Plan]) -> None:
    integers = halves = 0
    for seed in range(8):
        plan = random_plan(seed)
        before, after = tiny.evaluator.candidate(plan), tiny.recovered(plan)
        for layer, option in plan.items():
            old, new = (c.network.tensors[f"{layer}.weight"] for c in (before, after))
            if option.bits in (8, 4):
                assert torch.equal(codes(old, shaped(before, layer), option.bits), codes(new, shaped(after, layer), option.bits))
                integers += 1
            elif option.bits == 16:
                assert torch.equal(new, new.half().float())
                halves += 1
    assert integers > 5 and halves > 5


def shaped(candidate: Candidate, layer: str) -> Tensor:
    weight = candidate.network.tensors[f"{layer}.weight"]
    return candidate.scales[layer].view(-1, *[1] * (weight.ndim - 1))


def dead_channel(network: Network, layer: str) -> Network:
    tensors = dict(network.tensors)
    for name in (f"{layer}.weight", f"{layer}.bias"):
        tensors[name] = tensors[name].clone()
        tensors[name][0] = 0
    return replace(network, tensors=tensors)


def test_a_channel_that_is_constant_keeps_a_usable_scale(tiny: Prepared) -> None:
    layer = tiny.profile.layers[0].name
    evaluator, plan = tiny.evaluator, tiny.profile.space.uniform(Option("dense", 0.0, 8))
    candidate = evaluator.candidate(plan)
    candidate = replace(candidate, network=dead_channel(candidate.network, layer))
    moments = dense_moments(dense_candidate(dead_channel(evaluator.network, layer)), evaluator.samples)
    correction = StatisticsCorrection(moments)
    expected = candidate.run(evaluator.samples, correction)
    folded = fold(candidate, correction)
    assert float(folded.scales[layer].min()) > 0
    assert torch.isfinite(codes(folded.network.tensors[f"{layer}.weight"], shaped(folded, layer), 8)).all()
    assert torch.allclose(folded.run(evaluator.samples), expected, atol=0.05 * float(expected.abs().max()))


def test_saved_weights_are_the_recovered_network(tiny: Prepared, random_plan: Callable[[int], Plan], tmp_path: Path) -> None:
    for seed in range(4):
        plan = random_plan(seed)
        candidate = tiny.recovered(plan)
        save_weights(candidate, tmp_path / "weights.safetensors")
        stored = load_file(tmp_path / "weights.safetensors")
        for layer, option in plan.items():
            weight = stored[f"{layer}.weight"]
            assert weight.dtype == {32: torch.float32, 16: torch.float16, 8: torch.int8, 4: torch.int8}[option.bits]
            real = weight.float()
            if option.bits <= 8:
                real = real * stored[f"{layer}.scale"].view(-1, *[1] * (real.ndim - 1))
            assert torch.allclose(real, candidate.network.tensors[f"{layer}.weight"], rtol=1e-5, atol=1e-7)
            assert torch.equal(stored[f"{layer}.bias"], candidate.network.tensors[f"{layer}.bias"])
