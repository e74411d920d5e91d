"""Programs against the Candidates that they were made from, op by op and as a whole, and against the model itself."""

from __future__ import annotations

import functools
import json
import statistics
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from autocompress.api import Prepared
from autocompress.compressors.candidate import Candidate
from autocompress.compressors.exact import ExactCandidate
from autocompress.deployment.agreement import Agreement, agreement
from autocompress.deployment.program import lower, program
from autocompress.errors import UserError
from autocompress.evaluators.latency import LatencyEvaluator
from autocompress.kernels import native
from autocompress.kernels.artifact import write_artifact
from autocompress.kernels.calls import Call
from autocompress.kernels.interpret import Interpreter, run_program
from autocompress.kernels.jobs import job_of
from autocompress.kernels.program import Program
from autocompress.kernels.runtime import Model
from autocompress.kernels.table import LatencyTable
from autocompress.kernels.targets import load_target
from autocompress.kernels.toolchain import build
from autocompress.spaces.network import INPUT, KINDS, Network
from autocompress.spaces.option import Bits, Option, Structure
from autocompress.spaces.plan import Plan
from autocompress.tasks.fashion_mnist import load_network

from .networks import SMALL, captured, make_candidate, mixed, narrowed, randomised, samples, uniform

ALL_BITS: tuple[Bits, ...] = (32, 16, 8, 4)
LARGE = ("efficientnet_lite0", "mobilenetv3_large_100", "mobilenetv4_conv_small", "resnet18")
SHIPPED = ("mobilenet", "resnet")


@functools.cache
def small(name: str) -> Network:
    return captured(SMALL[name].model(), SMALL[name].shape)


@functools.cache
def large(name: str) -> Network:
    """A timm model for small inputs, or one of the two with committed weights."""
    if name in SHIPPED:
        return captured(load_network(name).eval(), (1, 28, 28))
    torch.manual_seed(0)
    return captured(randomised(timm.create_model(name)), (3, 64, 64))


def check(candidate: Candidate, sample: torch.Tensor | None = None) -> Agreement:
    """What must hold for every Program; returns its agreement with the exact Candidate."""
    x = samples(candidate.network)[0] if sample is None else sample
    lowered = lower(candidate)
    runner = Interpreter(lowered.program)
    exact = agreement(ExactCandidate.like(candidate), lowered, x, runner)
    fast = agreement(candidate, lowered, x, runner)
    assert [op.name for op in exact.ops] == [op.name for op in candidate.network.ops]
    assert exact.equal == 1.0 and exact.worst == 0
    codes = [op for op in fast.ops if op.type == "int8"]
    for op in codes:
        assert op.worst <= 1
        # One code in a thousand; of a small tensor one.
        assert (1 - op.equal) * op.values <= max(1.01, 1e-3 * op.values), op
    if codes:
        assert sum(op.equal * op.values for op in codes) >= 0.999 * sum(op.values for op in codes)
    for found in (exact, fast):
        assert found.largest_error("fp32") <= 1e-4
        assert found.largest_error("fp16") <= 1e-2
    return exact


def check_runtime(candidate: Candidate, folder: Path) -> None:
    """The C runtime computes what the steps one by one compute, to the bit, and keeps less in memory."""
    made = program(candidate)
    write_artifact(made, folder / "model.acm")
    runner = Interpreter(made)
    with Model(folder / "model.acm") as model:
        for x in samples(candidate.network, 2).numpy():
            np.testing.assert_array_equal(model.run(x), runner(x))
        assert model.metadata == dict(made.metadata)


def count(made: Program, kernel: str) -> int:
    return sum(step.call.kernel.endswith(kernel) for step in made.steps)


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("name", SMALL)
def test_small_networks(name: str, bits: Bits) -> None:
    network = small(name)
    assert set(SMALL[name].kinds) <= {op.kind for op in network.ops}
    candidate = make_candidate(network, uniform(network, bits))
    found = check(candidate)
    assert found.error <= {32: 1e-4, 16: 1e-2, 8: 1e-4, 4: 1e-4}[bits]


def test_every_kind_is_there() -> None:
    assert {op.kind for name in SMALL for op in small(name).ops} == set(KINDS)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SMALL)
def test_small_networks_with_mixed_plans(name: str, seed: int) -> None:
    network = small(name)
    check(make_candidate(network, mixed(network, seed)))


@pytest.mark.parametrize("name", SMALL)
def test_values_move_only_where_they_must(name: str) -> None:
    network = small(name)
    ways: tuple[Bits, ...] = (32, 8)
    for way, bits in enumerate(ways):
        made = program(make_candidate(network, uniform(network, bits)))
        assert count(made, "_gather") == SMALL[name].gathers[way]
        assert count(made, "_copy") == SMALL[name].copies[way]


@pytest.mark.parametrize("name", SMALL)
def test_an_fp32_program_is_the_model(name: str) -> None:
    network, model = small(name), SMALL[name].model()
    made = program(make_candidate(network, uniform(network, 32)))
    for x in samples(network, 2):
        with torch.inference_mode():
            wanted = model(x.unsqueeze(0).clone())[0]
        got = run_program(made, x.numpy())
        assert got.shape == tuple(wanted.shape) and float(wanted.abs().max()) > 0
        np.testing.assert_allclose(got, wanted.numpy(), atol=1e-5 * float(wanted.abs().max()) + 1e-6)


def test_blocks_of_columns_are_not_broken_up_by_a_flatten() -> None:
    network = small("flatten")
    structures: tuple[Structure, ...] = ("block1x4", "block4x4")
    made = {
        structure: program(make_candidate(network, {**uniform(network, 8), "b": Option(structure, 0.5, 8)}))
        for structure in structures
    }
    for structure, found in made.items():
        assert count(found, "_gather") == 1
        (layer,) = [step for step in found.steps if step.name == "b"]
        blocks = layer.call.indices.size
        assert layer.call.kernel == f"s8_{structure}"
        assert blocks <= 0.65 * 336 / 4 * (5 if structure == "block1x4" else 2)


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("name", [*LARGE, *SHIPPED])
def test_dense_networks(name: str, bits: Bits) -> None:
    network = large(name)
    candidate = make_candidate(network, uniform(network, bits))
    # Between integers and the last Layer's real numbers nothing is lost. Sums in fp16 depend on the machine, and random weights
    # can make one input's last digit grow through the network: the median of a few inputs counts.
    errors = [check(candidate, x).error for x in samples(network, 5 if bits == 16 else 1)]
    assert statistics.median(errors) <= {32: 1e-4, 16: 1e-2, 8: 1e-4, 4: 1e-4}[bits]


@pytest.mark.parametrize("name", ["resnet18", *SHIPPED])
def test_layers_run_on_the_kernels_of_their_rows(name: str) -> None:
    for seed, network in enumerate((large(name), narrowed(large(name), 1))):
        latency = LatencyEvaluator(network, (), LatencyTable.for_target(load_target("pixel7")))
        for options in (uniform(network, 32), mixed(network, seed)):
            used = {step.name: step.call.kernel for step in program(make_candidate(network, options)).steps}
            for layer, option in options.items():
                geometry = latency.layer_geometry(layer, {})
                assert used[layer] == job_of(geometry, option.structure, option.sparsity, option.bits).kernel
            if options == uniform(network, 32):
                assert ("f32_winograd" in used.values()) is ("resnet" in name)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", [*LARGE, *SHIPPED])
def test_mixed_plans(name: str, seed: int) -> None:
    network = narrowed(large(name), seed)
    options = mixed(network, seed)
    found = check(make_candidate(network, options))
    used = {step.call.kernel for step in lower(make_candidate(network, options)).program.steps}
    assert {"s8_dense_w4", "f32_to_s8", "s8_to_f32"} <= used
    assert len([kernel for kernel in used if "block" in kernel or "unstructured" in kernel]) >= 3
    if name != "mobilenetv3_large_100":  # its weights are random: one rounding in fp16 grows to 0.7 there
        assert found.error < 0.2


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_in_the_runtime(name: str, tmp_path: Path) -> None:
    network = small(name)
    check_runtime(make_candidate(network, uniform(network, 32)), tmp_path)
    check_runtime(make_candidate(network, uniform(network, 8)), tmp_path)


@pytest.mark.parametrize("name", [*LARGE, *SHIPPED])
def test_mixed_plans_in_the_runtime(name: str, tmp_path: Path) -> None:
    network = narrowed(large(name), 0)
    check_runtime(make_candidate(network, mixed(network, 3)), tmp_path)


@pytest.mark.parametrize("seed", range(6))
def test_recovered_plans_of_a_search(tiny: Prepared, random_plan: Callable[[int], Plan], seed: int) -> None:
    """Weights of the layer database, channels removed, statistics correction folded in."""
    plan = random_plan(seed)
    made = tiny.recovered(plan)
    check(made, tiny.evaluator.samples[0])
    assert json.loads(program(made, {"task": "tiny"}).metadata["plan"]) == plan.to_json()


def test_metadata_say_what_it_is() -> None:
    network = small("flatten")
    metadata = program(make_candidate(network, uniform(network, 8)), {"task": "a task"}).metadata
    assert metadata["task"] == "a task" and metadata["version"]


def test_a_wrong_sample_is_refused() -> None:
    network = small("flatten")
    made = program(make_candidate(network, uniform(network, 32)))
    with pytest.raises(UserError, match=r"give one sample of shape \(6, 9, 8\)"):
        run_program(made, np.zeros((6, 9, 9), np.float32))


def test_a_wrong_weight_is_seen() -> None:
    """The comparison itself: a Program of other weights does not agree."""
    network = small("squeeze_excite")
    candidate = make_candidate(network, uniform(network, 8))
    weight = candidate.network.tensors["c.weight"].roll(1, 0)
    other = replace(candidate, network=replace(candidate.network, tensors={**candidate.network.tensors, "c.weight": weight}))
    found = agreement(ExactCandidate.like(candidate), lower(other), samples(network)[0])
    assert [op.name for op in found.ops if op.error > 0.1] == ["c"]
    assert found.error > 0.1


@pytest.mark.parametrize(
    "name", ["squeeze_excite", "pads", "pools", "flatten_of_odd_channels", "adaptive_pool_of_unequal_windows"]
)
def test_int8_programs_give_the_same_bytes_on_a_phone(name: str, tmp_path: Path) -> None:
    network = small(name)
    runner = Interpreter(program(make_candidate(network, uniform(network, 8))))
    calls: list[Call] = []
    made = runner.program
    runner(samples(network)[0].numpy())
    for step in made.steps:
        # Inputs as they are after the run: no step writes over what another one has read.
        x = runner.memory[step.x.tensor].reshape(-1).view(np.uint8)[step.x.offset :]
        call = replace(step.call, x=x[: step.call.x.nbytes].view(step.call.x.dtype).reshape(step.call.x.shape).copy())
        if step.x2 is not None:
            x2 = runner.memory[step.x2.tensor].reshape(-1).view(np.uint8)[step.x2.offset :]
            call = replace(call, x2=x2[: step.call.x2.nbytes].view(step.call.x2.dtype).reshape(step.call.x2.shape).copy())
        calls.append(call)
    native.write_jobs(tmp_path / "jobs", calls)
    emulated = ["qemu-aarch64", "-cpu", "cortex-a76", str(build("aarch64-linux-musl", "cortex_x1", product="run"))]
    done = subprocess.run([*emulated, tmp_path / "jobs", tmp_path / "output"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Counter(call.kernel for call in calls)["s8_dense"] >= 2
    for call, output in zip(calls, native.read_outputs(tmp_path / "output", calls), strict=True):
        # What a kernel leaves alone is 0x55 on both sides.
        here = np.full(call.y_shape, 0, call.y_dtype)
        here.view(np.uint8)[:] = 0x55
        np.testing.assert_array_equal(output, native.Prepared(call, output=here)())


def test_the_input_is_a_plane_per_channel() -> None:
    network = small("ends_sliced")
    made = program(make_candidate(network, uniform(network, 32)))
    assert made.tensors[made.input].name == INPUT
    assert (made.tensors[made.input].channels, made.tensors[made.input].pixels) == (6, 72)
    assert made.input_shape == (6, 9, 8) and made.output_shape == (3, 9, 8)
