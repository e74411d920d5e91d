from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from autocompress.api import Prepared
from autocompress.compressors.candidate import Candidate
from autocompress.compressors.quantization import codes
from autocompress.compressors.recovery import MIN_POSITIONS, StatisticsCorrection, dense_moments, fold
from autocompress.deployment.weights import save_weights
from autocompress.evaluators.evaluator import PlanEvaluator, dense_candidate
from autocompress.evaluators.loss import divergence
from autocompress.spaces.network import Network, Op
from autocompress.spaces.option import Option
from autocompress.spaces.plan import Plan


@pytest.mark.parametrize("option", [Option("block4x1", 0.5, 16), Option("block4x4", 0.5, 8)], ids=str)
def test_moments_are_restored(tiny: Prepared, option: Option) -> None:
    evaluator = tiny.evaluator
    plan = tiny.profile.space.uniform(option)
    assert option in plan.values()
    moments = dense_moments(evaluator.dense, evaluator.samples)
    candidate = evaluator.candidate(plan)
    correction, checked = StatisticsCorrection(moments), []

    def watch(op: Op, output: Tensor, scale: float) -> Tensor:
        fixed = correction(op, output, scale)
        if op.name in moments:
            variance, mean = torch.var_mean(fixed * scale, [0, 2, 3], correction=0)
            wanted = moments[op.name]
            typical = float(wanted.variance.median().sqrt())
            assert torch.allclose(mean, wanted.mean, atol=1e-3 * typical)
            lively = wanted.variance > 0.05 * wanted.variance.median()
            # Damping takes a little from channels that vary little.
            assert torch.allclose(variance[lively], wanted.variance[lively], rtol=0.05)
            checked.append(op.name)
        return fixed

    candidate.run(evaluator.samples, watch)
    assert len(checked) >= 8


def test_layers_seen_at_few_positions_are_left_alone(tiny: Prepared) -> None:
    evaluator = tiny.evaluator
    moments = dense_moments(evaluator.dense, evaluator.samples)
    classifier = tiny.profile.layers[-1].name
    assert len(evaluator.samples) < MIN_POSITIONS and classifier not in moments
    assert set(moments) == {layer.name for layer in tiny.profile.layers} - {classifier}
    plan = tiny.profile.space.uniform(Option("dense", 0.0, 8))
    assert torch.equal(
        tiny.recovered(plan).network.tensors[f"{classifier}.weight"],
        evaluator.candidate(plan).network.tensors[f"{classifier}.weight"],
    )


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
