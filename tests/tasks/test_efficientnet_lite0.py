from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from autocompress.tasks import photos
from autocompress.tasks.efficientnet_lite0 import SHORT_SIDE, SIZE, FreshCrops, _package_folder, load_model, preprocess
from autocompress.tasks.loader import load_task
from autocompress.tasks.task import Task, evaluation_data


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def shipped() -> Task:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AUTOCOMPRESS_IMAGENET", raising=False)
        return load_task("efficientnet-lite0")


def test_the_weights_know_the_photographs() -> None:
    paths = sorted((_package_folder("foolbox") / "data").glob("imagenet_*.jpg"))
    labels = torch.tensor([int(re.findall(r"_(\d+)\.jpg", path.name)[0]) for path in paths])
    crops = [photos.centre_crop(photos.read_photo(path), SIZE, SHORT_SIDE) for path in paths]
    with torch.no_grad():
        answers = load_model()(preprocess(photos.to_tensor(crops))).argmax(1)
    assert len(labels) == 20
    assert int((answers == labels).sum()) >= 18


def test_the_task_on_shipped_photographs(shipped: Task) -> None:
    inputs, labels = evaluation_data(shipped)
    assert isinstance(shipped.calibration, torch.Tensor)
    assert shipped.calibration.shape == (344, 3, 224, 224) and inputs.shape == (96, 3, 224, 224)
    assert shipped.metric == "agreement" and labels is None
    assert sum(parameter.numel() for parameter in shipped.model.parameters()) == 4_652_008
    for crops in (shipped.calibration, inputs):
        assert -127 / 128 <= float(crops.min()) < -0.9 and 0.9 < float(crops.max()) <= 1.0
        assert len({crop.numpy().tobytes() for crop in crops}) == len(crops)


def test_calibration_and_evaluation_share_no_photograph(shipped: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[set[Path]] = []

    def record(wanted: list[tuple[Path, int]], size: int, seed: int) -> list[Image.Image]:
        used.append({path for path, _ in wanted})
        return [Image.new("RGB", (size, size), (index, 0, 0)) for index in range(sum(count for _, count in wanted))]

    monkeypatch.delenv("AUTOCOMPRESS_IMAGENET", raising=False)
    monkeypatch.setattr(photos, "random_crops", record)
    load_task("efficientnet-lite0")
    calibration, evaluation = used
    assert len(calibration) == 40 + 48 and len(evaluation) == 16 and not calibration & evaluation
    assert all(path.is_file() for path in calibration | evaluation)


@pytest.mark.parametrize("by_environment", [False, True])
def test_the_task_on_a_folder_of_labelled_photographs(
    by_environment: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in range(9):
        Image.new("RGB", (300, 260), (label * 20, 0, 0)).save(tmp_path / f"{label:03}_photo.png")
    monkeypatch.delenv("AUTOCOMPRESS_IMAGENET", raising=False)
    if by_environment:
        monkeypatch.setenv("AUTOCOMPRESS_IMAGENET", str(tmp_path))
    task = load_task("efficientnet-lite0", data=None if by_environment else tmp_path)
    inputs, labels = evaluation_data(task)
    assert isinstance(task.calibration, torch.Tensor) and labels is not None
    assert task.calibration.shape == (6, 3, 224, 224) and inputs.shape == (3, 3, 224, 224)
    assert task.metric == "top1" and len(set(labels.tolist())) == 3
    red = torch.round(inputs[:, 0, 0, 0] * 128 + 127)
    assert red.tolist() == (labels * 20).tolist()
    # What trains is neither evaluated on nor judges, and there is more of it than the folder has.
    assert isinstance(task.training, FreshCrops)
    own = {path.name for path in task.training.paths if path.parent == tmp_path}
    assert len(own) == 9 - 3 - 2 and not own & {f"{label:03}_photo.png" for label in labels.tolist()}
    assert len(task.training.paths) > 100 and all(path.is_file() for path in task.training.paths)


def test_preprocessing_is_that_of_the_weights() -> None:
    assert preprocess(torch.tensor([0.0, 127.0, 255.0])).tolist() == [-127 / 128, 0.0, 1.0]
    assert np.isclose(SIZE / SHORT_SIDE, 0.875)
