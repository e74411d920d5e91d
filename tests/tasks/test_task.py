from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from autocompress.errors import UserError
from autocompress.tasks.task import Task, check_task, evaluation_data, input_batches, task_fingerprint

IMAGES = torch.arange(5 * 3 * 4 * 4, dtype=torch.float32).reshape(5, 3, 4, 4) / 100
LABELS = torch.tensor([0, 1, 2, 1, 0])


class Scaled(nn.Module):
    """A linear classifier with 3 classes over (3, 4, 4) images, and a switch for what goes wrong."""

    def __init__(self, spoil: Callable[[torch.Tensor], Any] | None = None) -> None:
        super().__init__()
        self.linear = nn.Linear(48, 3)
        nn.init.constant_(self.linear.weight, 0.01)
        self.spoil = spoil

    def forward(self, x: torch.Tensor) -> Any:
        logits = self.linear(x.flatten(1))
        return logits if self.spoil is None else self.spoil(logits)


def make(**changes: Any) -> Task:
    values: dict[str, Any] = {
        "name": "toy",
        "model": Scaled(),
        "example_input": IMAGES[:1],
        "calibration": IMAGES,
        "evaluation": (IMAGES, LABELS),
        "metric": "top1",
    }
    return Task(**(values | changes))


def test_a_good_task_passes_and_its_model_is_put_in_eval_mode() -> None:
    task = make()
    task.model.train()
    check_task(task)
    assert not any(module.training for module in task.model.modules())


@pytest.mark.parametrize("metric", ["agreement", lambda model, data: 1.0])
def test_labels_are_optional_unless_the_metric_is_top1(metric: Any) -> None:
    check_task(make(evaluation=IMAGES, metric=metric))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": " "}, "no name"),
        ({"metric": "f1"}, "unknown metric 'f1'"),
        ({"model": "net"}, "give a torch.nn.Module"),
        ({"model": Scaled().double()}, "give the float32 model"),
        ({"example_input": IMAGES}, r"must be 1"),
        ({"example_input": IMAGES[:1].double()}, "float32 tensor on the CPU"),
        ({"example_input": [1.0]}, "example_input is a list"),
        ({"calibration": IMAGES[:, :, :2]}, r"calibration has shape \(5, 3, 2, 4\).*\(samples, 3, 4, 4\)"),
        ({"calibration": IMAGES[0]}, "calibration has shape"),
        ({"calibration": IMAGES[:0]}, "at least one sample"),
        ({"calibration": IMAGES.long()}, "int64 on cpu"),
        ({"calibration": IMAGES / 0}, "NaN or infinity"),
        ({"evaluation": (IMAGES[:0], LABELS[:0])}, "at least one sample"),
        ({"evaluation": (IMAGES[..., :3], LABELS)}, "evaluation has shape"),
        ({"evaluation": IMAGES}, "'top1' needs labels"),
        ({"evaluation": (IMAGES, LABELS[:4])}, "for 5 inputs"),
        ({"evaluation": (IMAGES, LABELS[:, None])}, "for 5 inputs"),
        ({"evaluation": (IMAGES, LABELS + 1)}, "from 1 to 3, and the model has 3 classes"),
        ({"evaluation": (IMAGES, LABELS - 1)}, "from -1 to 1"),
        ({"model": Scaled(lambda logits: (logits, logits))}, "returns a tuple"),
        ({"model": Scaled(lambda logits: logits * math.nan)}, "returns NaN"),
        ({"model": Scaled(lambda logits: logits.sum())}, "must be the batch"),
        ({"model": Scaled(lambda logits: logits.reshape(1, -1))}, "for 2 inputs"),
        ({"model": Scaled(lambda logits: logits[:, :, None])}, "a metric of its own"),
        ({"model": nn.Linear(7, 3)}, "fails on example_input"),
    ],
)
def test_each_mistake_has_its_own_message(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_task(make(**changes))


def test_untrained_garbage_in_the_weights_is_found() -> None:
    model = Scaled()
    nn.init.constant_(model.linear.bias, math.inf)
    with pytest.raises(UserError, match=r"linear\.bias holds NaN or infinity"):
        check_task(make(model=model))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"calibration": 3}, "calibration is a int"),
        ({"calibration": []}, "calibration is empty"),
        ({"calibration": [(IMAGES, LABELS)]}, "batch 0 of calibration is a tuple"),
        ({"calibration": [IMAGES, IMAGES[..., :2]]}, "do not fit together"),
        ({"evaluation": 3}, "evaluation is a int"),
        ({"evaluation": []}, "evaluation is empty"),
        ({"evaluation": [{"image": IMAGES}]}, "neither tensors nor"),
        ({"evaluation": (IMAGES, LABELS.float())}, "class indices as integers"),
    ],
)
def test_data_that_cannot_be_joined_are_refused_at_once(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(**changes)


def test_generators_are_read_once_and_kept() -> None:
    task = make(
        calibration=iter([IMAGES[:2], IMAGES[2:]]), evaluation=((i[None], y[None]) for i, y in zip(IMAGES, LABELS, strict=True))
    )
    for _ in range(2):
        assert torch.equal(torch.cat(list(input_batches(task.calibration, 2))), IMAGES)
        inputs, labels = evaluation_data(task)
        assert torch.equal(inputs, IMAGES)
        assert labels is not None and torch.equal(labels, LABELS)


def test_a_shuffling_loader_is_read_once() -> None:
    loader = DataLoader(TensorDataset(IMAGES, LABELS.to(torch.int32)), batch_size=2, shuffle=True)
    task = make(evaluation=loader)
    (inputs, labels), (again, _) = evaluation_data(task), evaluation_data(task)
    assert torch.equal(inputs, again)
    assert labels is not None and labels.dtype == torch.int64
    assert sorted(zip(inputs.sum((1, 2, 3)).tolist(), labels.tolist(), strict=True)) == sorted(
        zip(IMAGES.sum((1, 2, 3)).tolist(), LABELS.tolist(), strict=True)
    )


def test_a_list_of_two_tensors_is_two_batches_and_a_tuple_is_inputs_with_labels() -> None:
    inputs, labels = evaluation_data(make(evaluation=[IMAGES, IMAGES], metric="agreement"))
    assert inputs.shape[0] == 10 and labels is None
    inputs, labels = evaluation_data(make(evaluation=(IMAGES, LABELS), metric="agreement"))
    assert inputs.shape[0] == 5 and labels is not None


def test_a_callable_metric_gets_its_evaluation_as_given() -> None:
    given_data = {"anything": 1}
    assert make(evaluation=given_data, metric=lambda model, data: 0.0).evaluation is given_data

    def stream() -> Iterator[torch.Tensor]:
        yield IMAGES

    kept = make(evaluation=stream(), metric=lambda model, data: 0.0).evaluation
    assert isinstance(kept, list) and kept[0] is IMAGES


@settings(deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=5), batch_size=st.integers(1, 7), limit=st.none() | st.integers(1, 25)
)
def test_batches_hold_every_input_once_in_order(sizes: list[int], batch_size: int, limit: int | None) -> None:
    everything = torch.arange(sum(sizes), dtype=torch.float32)[:, None]
    expected = everything[:limit]
    for inputs in (everything, list(torch.split(everything, sizes)), iter(torch.split(everything, sizes))):
        batches = list(input_batches(inputs, batch_size, limit))
        assert torch.equal(torch.cat(batches), expected)
        assert all(len(batch) == batch_size for batch in batches[:-1])
        assert 1 <= len(batches[-1]) <= batch_size


def test_equal_tasks_have_equal_fingerprints() -> None:
    torch.manual_seed(0)
    first = make(model=Scaled())
    torch.manual_seed(0)
    second = make(model=Scaled(), calibration=iter([IMAGES[:3], IMAGES[3:]]), name="another name")
    assert task_fingerprint(first) == task_fingerprint(second)
    assert len(task_fingerprint(first)) == 64


def test_any_change_changes_the_fingerprint() -> None:
    model = Scaled()
    changed = Scaled()
    changed.load_state_dict(model.state_dict())
    with torch.no_grad():
        changed.linear.bias[0] += 1e-6
    other_images = IMAGES.clone()
    other_images[-1, -1, -1, -1] += 1e-6
    tasks = [
        make(model=model),
        make(model=changed),
        make(model=model, calibration=other_images),
        make(model=model, evaluation=(other_images, LABELS)),
        make(model=model, evaluation=(IMAGES, LABELS.flip(0) + 1)),
        make(model=model, evaluation=IMAGES, metric="agreement"),
        make(model=model, metric="agreement"),
        make(model=model, metric=make_metric),
        make(model=model, evaluation={"a": [1, "2"]}, metric=make_metric),
        make(model=model, evaluation={"a": ["1", 2]}, metric=make_metric),
    ]
    assert len({task_fingerprint(task) for task in tasks}) == len(tasks)


def make_metric(model: nn.Module, data: Any) -> float:
    return 0.0
