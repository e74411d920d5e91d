from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from autocompress.api import Prepared
from autocompress.compressors import finetune as module
from autocompress.compressors.candidate import Candidate
from autocompress.compressors.finetune import (
    Lesson,
    Recipe,
    Student,
    augment,
    batch_size,
    batches,
    feature_layers,
    finetune,
    stored_mask,
)
from autocompress.compressors.pruning import block_sums, to_matrix
from autocompress.compressors.quantization import codes, round_through
from autocompress.errors import UserError
from autocompress.evaluators.loss import divergence, outputs
from autocompress.spaces.option import BLOCKS, Option
from autocompress.spaces.plan import Plan


class Clock:
    """Time that passes by a step at every look, so that a run of some minutes is some batches."""

    def __init__(self, seconds: float) -> None:
        self.now, self.seconds = 0.0, seconds

    def monotonic(self) -> float:
        self.now += self.seconds
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock(1.0)
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture(scope="module")
def images() -> Tensor:
    """More inputs like those of the tiny task."""
    generator = torch.Generator().manual_seed(5)
    return torch.rand(64, 3, 24, 24, generator=generator)


@dataclass
class Told:
    """A progress bar that remembers, and can stop a run."""

    stop_at: int | None = None
    calls: int = 0

    def __call__(self, done: int, total: int, what: str) -> None:
        assert 0 <= done <= total
        self.calls += 1
        if self.stop_at == self.calls:
            raise KeyboardInterrupt


def lesson_of(tiny: Prepared, plan: Plan) -> Lesson:
    evaluator = tiny.evaluator
    calibration = tiny.task.calibration
    assert isinstance(calibration, Tensor)
    dense = outputs(evaluator.dense.run, tiny.held_out)
    return Lesson(
        evaluator.dense,
        tiny.recovered(plan),
        evaluator.rows(plan),
        calibration[:48],
        lambda candidate: divergence(dense, outputs(candidate.run, tiny.held_out)),
    )


@pytest.fixture(scope="module")
def plan(tiny: Prepared) -> Plan:
    """Blocks and channels removed, in int8: it has lost something."""
    space = tiny.profile.space
    changes = dict(space.uniform(Option("dense", 0.0, 8)))
    for number, (layer, options) in enumerate(space.options.items()):
        wanted = "block4x4" if number % 2 else "channel"
        fitting = [o for o in options if o.structure == wanted and o.bits == 8 and 0.3 <= o.sparsity <= 0.6]
        if fitting:
            changes[layer] = fitting[0]
    made = space.consistent(changes)
    assert {option.structure for option in made.values()} >= {"block4x4", "channel"}
    return made


def step_of(candidate: Candidate, layer: str) -> Tensor:
    return candidate.scales[layer].view(-1, *[1] * (candidate.network.tensors[f"{layer}.weight"].ndim - 1))


def check_form(start: Candidate, trained: Candidate) -> None:
    """The same masks, grids, types and formats."""
    assert trained.plan == start.plan and trained.types == start.types and trained.quantizers == start.quantizers
    assert trained.network.ops == start.network.ops and trained.network.shapes == start.network.shapes
    for layer, option in start.plan.items():
        old, new = (c.network.tensors[f"{layer}.weight"] for c in (start, trained))
        assert old.shape == new.shape
        if option.structure == "unstructured":
            assert not new[old == 0].any()
        elif option.structure in BLOCKS and start.network.op(layer).attributes.get("groups", 1) == 1:
            stored = [block_sums((to_matrix(w) != 0).float(), option.structure, w.shape[1]) > 0 for w in (old, new)]
            assert not (stored[1] & ~stored[0]).any()
        if option.bits <= 8:
            step = step_of(trained, layer)
            integers = codes(new, step, option.bits)
            assert (step > 0).all() and torch.allclose(integers * step, new, rtol=0.0 if trained is not start else 1e-6, atol=0.0)
        elif option.bits == 16:
            assert torch.equal(new, new.half().float())


def test_a_student_begins_as_the_candidate(tiny: Prepared, random_plan: Callable[[int], Plan], images: Tensor) -> None:
    for seed in range(6):
        start = tiny.recovered(random_plan(seed))
        with torch.no_grad():
            same = Student.of(start, images[:16]).candidate()
        for name, tensor in start.network.tensors.items():
            assert torch.allclose(tensor, same.network.tensors[name], rtol=1e-3 if "weight" in name else 1e-6, atol=1e-7), name
        check_form(start, same)


@pytest.mark.parametrize("seed", range(6))
def test_gradients_reach_what_is_stored_and_nothing_else(
    tiny: Prepared, random_plan: Callable[[int], Plan], images: Tensor, seed: int
) -> None:
    start = tiny.recovered(random_plan(seed))
    student = Student.of(start, images[:16])
    output = student.candidate().run(images[:32])
    torch.autograd.backward(output.square().sum())
    pruned = kept = reached = 0
    for layer in start.plan:
        mask = student.masks[layer]
        gradient = student.parameters[f"{layer}.weight"].grad
        assert gradient is not None and torch.isfinite(gradient).all()
        assert not gradient[~mask].any()
        pruned += int((~mask).sum())
        # Channels that are clipped everywhere pass nothing on.
        shift = student.parameters[f"{layer}.bias"].grad
        assert shift is not None
        alive = mask & (shift != 0).view(-1, *[1] * (mask.ndim - 1))
        kept, reached = kept + int(alive.sum()), reached + int((gradient[alive] != 0).sum())
        for part in ("gain", "bias"):
            others = student.parameters[f"{layer}.{part}"].grad
            assert others is not None and torch.isfinite(others).all() and others.any()
    # Those that no image excites leave the weights that read them alone.
    assert kept > 0 and reached > 0.6 * kept
    assert pruned > 0 or all(option.structure in ("dense", "channel") for option in start.plan.values())


def test_the_gradient_of_a_rounded_network_is_about_that_of_a_smooth_one(tiny: Prepared, images: Tensor) -> None:
    plan = tiny.profile.space.uniform(Option("dense", 0.0, 8))
    rounded = tiny.evaluator.candidate(plan)
    gradients = []
    for candidate in (rounded, replace(tiny.evaluator.dense, network=rounded.network)):
        student = Student.of(candidate, images[:16])
        torch.autograd.backward(student.candidate().run(images).square().mean())
        found = [student.parameters[f"{layer}.bias"].grad for layer in plan]
        gradients.append(torch.cat([g for g in found if g is not None]))
    assert float(torch.cosine_similarity(gradients[0], gradients[1], dim=0)) > 0.95


def test_rounding_keeps_exact_values_with_and_without_gradients() -> None:
    x = torch.linspace(-300, 300, 4001)
    with_gradient = round_through(x.clone().requires_grad_())
    assert torch.equal(with_gradient.detach(), round_through(x.clone())) and torch.equal(with_gradient.detach(), x.round())


def test_stored_blocks_are_whole_and_no_others(tiny: Prepared, plan: Plan) -> None:
    candidate = tiny.recovered(plan)
    seen = 0
    for layer, option in plan.items():
        mask, weight = stored_mask(candidate, layer), candidate.network.tensors[f"{layer}.weight"]
        assert not weight[~mask].any()
        if option.structure == "block4x4":
            counts = block_sums(to_matrix(mask.float()), "block4x4", weight.shape[1])
            assert set(counts.unique().tolist()) <= {0.0, 16.0, 4.0, 8.0, 12.0} and 0 < float(mask.float().mean()) < 1
            seen += 1
        elif option.structure not in BLOCKS:
            assert mask.all()
    assert seen


def test_training_helps_and_stays_on_masks_and_grids(tiny: Prepared, plan: Plan, tmp_path: Path) -> None:
    lesson, told = lesson_of(tiny, plan), Told()
    found = finetune(lesson, 2.0, tmp_path / "x.safetensors", told)
    assert told.calls == found.steps + 1 and found.steps > 80
    assert found.improved and found.loss_after < 0.8 * found.loss_before
    assert found.loss_before == lesson.loss(lesson.start) and found.loss_after == lesson.loss(found.candidate)
    check_form(lesson.start, found.candidate)
    moved = [
        layer
        for layer in plan
        if not torch.equal(*(c.network.tensors[f"{layer}.weight"] for c in (lesson.start, found.candidate)))
    ]
    assert len(moved) == len(plan)


@pytest.mark.parametrize("seed", range(4))
def test_every_kind_of_plan_can_be_trained(tiny: Prepared, random_plan: Callable[[int], Plan], tmp_path: Path, seed: int) -> None:
    lesson = lesson_of(tiny, random_plan(20 + seed))
    recipe = Recipe(attention=0.1, temperature=2.0)
    found = finetune(lesson, 0.2, tmp_path / "x.safetensors", Told(), recipe)
    check_form(lesson.start, found.candidate)
    assert found.loss_after <= found.loss_before


def test_training_helps_in_either_precision(tiny: Prepared, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And with the same batches they lead to about the same network."""
    lesson, found = lesson_of(tiny, plan), []
    for half in (False, True):
        monkeypatch.setattr(module, "fast_bfloat16", lambda half=half: half)
        found.append(finetune(lesson, 1.0, tmp_path / f"{half}.safetensors", Told()))
    single, half_precision = found
    assert single.steps == half_precision.steps and single.loss_before == half_precision.loss_before
    gains = [one.loss_before - one.loss_after for one in found]
    assert min(gains) > 0.5 * max(gains) > 0, gains
    assert single.loss_after != half_precision.loss_after


def test_ruinous_training_gives_back_what_it_got(tiny: Prepared, plan: Plan, tmp_path: Path) -> None:
    lesson = lesson_of(tiny, plan)
    ruin = Recipe(weight_rate=30.0, small_rate=30.0, warm_up=1e-6)
    found = finetune(lesson, 0.02, tmp_path / "x.safetensors", Told(), ruin)
    assert found.steps > 0 and not found.improved and found.candidate is lesson.start
    assert found.loss_after == found.loss_before == lesson.loss(lesson.start)


def test_rates_that_are_too_high_are_lowered(tiny: Prepared, plan: Plan, tmp_path: Path) -> None:
    lesson = lesson_of(tiny, plan)
    found = finetune(lesson, 1.0, tmp_path / "x.safetensors", Told(), Recipe(weight_rate=0.3, small_rate=0.3))
    assert found.improved and found.loss_after < found.loss_before


def test_training_ends_when_nothing_improves(tiny: Prepared, plan: Plan, tmp_path: Path) -> None:
    lesson = replace(lesson_of(tiny, plan), loss=lambda candidate: 1.0)
    found = finetune(lesson, 1.0, tmp_path / "x.safetensors", Told())
    assert not found.improved and 0.4 < found.minutes < 0.6


@pytest.mark.parametrize("stop_at", [1, 8, 18])
def test_a_stopped_run_goes_on_with_the_time_that_is_left(
    tiny: Prepared, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    lesson, path = lesson_of(tiny, plan), tmp_path / "x.safetensors"
    whole = finetune(lesson, 0.4, tmp_path / "whole.safetensors", Told())
    with pytest.raises(KeyboardInterrupt):
        finetune(lesson, 0.4, path, Told(stop_at))
    assert path.exists() == (stop_at > 1)
    rest = Told()
    found = finetune(lesson, 0.4, path, rest)
    assert rest.calls == whole.steps + 1 - (stop_at - 1) and found.steps == whole.steps
    assert found.minutes == pytest.approx(whole.minutes)
    assert found.loss_before == whole.loss_before and found.loss_after <= found.loss_before


def test_a_finished_run_costs_nothing_again_and_more_minutes_train_on(tiny: Prepared, plan: Plan, tmp_path: Path) -> None:
    lesson, path = lesson_of(tiny, plan), tmp_path / "x.safetensors"
    first = finetune(lesson, 0.2, path, Told())
    told = Told()
    again = finetune(lesson, 0.2, path, told)
    assert told.calls == 1 and (again.steps, again.loss_after) == (first.steps, first.loss_after)
    for name, tensor in first.candidate.network.tensors.items():
        assert torch.equal(tensor, again.candidate.network.tensors[name])
    more = finetune(lesson, 0.3, path, Told())
    assert more.steps > first.steps and more.loss_after <= first.loss_after


def test_a_checkpoint_of_something_else_is_not_used(tiny: Prepared, plan: Plan, tmp_path: Path) -> None:
    lesson, path = lesson_of(tiny, plan), tmp_path / "x.safetensors"
    finetune(lesson, 0.1, path, Told())
    before = path.stat().st_mtime_ns
    told = Told()
    finetune(lesson, 0.1, path, told, Recipe(seed=1))
    assert told.calls > 2 and path.stat().st_mtime_ns != before
    path.write_bytes(b"damaged")
    with pytest.raises(UserError, match="damaged"):
        finetune(lesson, 0.1, path, Told())


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("nan"), float("inf")])
def test_no_time_is_refused(tiny: Prepared, plan: Plan, tmp_path: Path, minutes: float) -> None:
    with pytest.raises(UserError, match="--finetune"):
        finetune(lesson_of(tiny, plan), minutes, tmp_path / "x.safetensors", Told())


def test_batches_come_from_tensors_and_from_iterables() -> None:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.arange(10.0)[:, None]
    endless = batches(numbers, 4, generator)
    rounds = [torch.cat([next(endless), next(endless)]).flatten().tolist() for _ in range(3)]
    assert all(len(set(one)) == 8 for one in rounds) and rounds[0] != rounds[1]
    few = batches(numbers[:3], 4, generator)
    assert sorted(next(few).flatten().tolist()) == [0, 1, 2]

    class Own:
        def __iter__(self) -> Iterator[Tensor]:
            yield numbers[:6]
            yield numbers[6:]

    own = batches(Own(), 4, generator)
    assert [len(next(own)) for _ in range(6)] == [4, 2, 4, 4, 2, 4]
    for nothing in (numbers[:0], []):
        with pytest.raises(UserError, match="no training inputs"):
            next(batches(nothing, 4, generator))


def test_augmented_images_are_shifted_and_mirrored(images: Tensor) -> None:
    plain = augment(images, torch.Generator().manual_seed(0))
    assert plain.shape == images.shape
    changed = mirrored = 0
    for one, other in zip(images, plain, strict=True):
        inner = other[:, 4:8, 4:8]
        windows = [v.unfold(1, 4, 1).unfold(2, 4, 1).permute(1, 2, 0, 3, 4) for v in (one, one.flip(2))]
        found = [bool((w == inner).flatten(2).all(2).any()) for w in windows]
        assert any(found)
        mirrored += found[1] and not found[0]
        changed += not torch.equal(one, other)
    assert changed > 48 and 16 < mirrored < 48
    vectors = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(augment(vectors, torch.Generator().manual_seed(0)), vectors)


def test_what_is_compared_are_the_ends_of_blocks(tiny: Prepared) -> None:
    layers = feature_layers(tiny.evaluator.dense)
    assert len(layers) == 2 and all("project" in layer for layer in layers)
    assert 8 <= batch_size(tiny.evaluator.network) <= 64
