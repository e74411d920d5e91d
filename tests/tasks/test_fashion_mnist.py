from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from autocompress.errors import UserError
from autocompress.tasks import fashion_mnist as module
from autocompress.tasks import train_fashion_mnist as training
from autocompress.tasks.fashion_mnist import CHECKSUMS, NETWORKS, WEIGHTS, load_images, normalise, split_held_out
from autocompress.tasks.loader import load_task
from autocompress.tasks.task import evaluation_data
from autocompress.tasks.train_fashion_mnist import accuracy, augment

#: What the training script printed for the shipped weights, of the 10,000 test images.
TEST_ACCURACY = {"mobilenet": 0.9315, "resnet": 0.9273}


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.delenv("AUTOCOMPRESS_DATA", raising=False)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the four files, tiny: 200 training and 20 test images, whose brightness tells the class."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    checksums = {}
    for prefix, samples in (("train", 200), ("t10k", 20)):
        labels = np.arange(samples) % 10
        pixels = np.broadcast_to((labels * 25)[:, None], (samples, 784)).astype(np.uint8)
        files = {
            "images-idx3-ubyte": bytes(16) + pixels.tobytes(),
            "labels-idx1-ubyte": bytes(8) + labels.astype(np.uint8).tobytes(),
        }
        for kind, content in files.items():
            (folder / f"{prefix}-{kind}.gz").write_bytes(gzip.compress(content))
            checksums[f"{prefix}-{kind}"] = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(module, "CHECKSUMS", checksums)
    return folder


@pytest.mark.parametrize(("name", "network"), [("fashion-mnist", "mobilenet"), ("fashion-mnist-resnet", "resnet")])
def test_the_shipped_weights_are_trained(name: str, network: str) -> None:
    task = load_task(name)
    inputs, labels = evaluation_data(task)
    assert task.metric == "top1" and labels is not None
    assert task.example_input.shape == (1, 1, 28, 28) and inputs.shape == (10_000, 1, 28, 28)
    assert isinstance(task.calibration, torch.Tensor) and task.calibration.shape == (5_000, 1, 28, 28)
    with torch.no_grad():
        answers = torch.cat([task.model(batch).argmax(1) for batch in torch.split(inputs, 500)])
    assert float((answers == labels).float().mean()) == pytest.approx(TEST_ACCURACY[network], abs=0.0005)
    assert (WEIGHTS / f"fashion_mnist_{network}.safetensors").stat().st_size < 2_000_000


def test_calibration_is_of_training_images_that_did_not_train() -> None:
    images = load_images("train")
    trained, held_out = split_held_out(images)
    assert len(trained.labels) == 55_000 and len(held_out.labels) == 5_000
    assert trained.labels.bincount().sum() + held_out.labels.bincount().sum() == 60_000
    assert torch.equal(trained.labels.bincount() + held_out.labels.bincount(), torch.full((10,), 6_000))
    calibration = load_task("fashion-mnist").calibration
    assert isinstance(calibration, torch.Tensor)
    assert torch.equal(calibration, normalise(held_out.images))


def test_inputs_are_normalised() -> None:
    inputs = normalise(load_images("train").images)
    assert abs(float(inputs.mean())) < 1e-3 and abs(float(inputs.std()) - 1) < 1e-3


def test_images_keep_their_pixels_and_labels(tiny: Path) -> None:
    images = load_images("train", tiny)
    assert images.images.shape == (200, 1, 28, 28) and images.labels.dtype == torch.int64
    assert images.labels[:12].tolist() == [*range(10), 0, 1]
    assert images.images[3].unique().tolist() == [75]
    assert load_images("test", tiny).images.shape == (20, 1, 28, 28)


def test_the_folder_may_be_named_in_the_environment(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOCOMPRESS_DATA", str(tiny))
    assert len(load_images("train").labels) == 200


def test_a_folder_without_the_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no file train-images-idx3-ubyte\.gz"):
        load_images("train", tmp_path)


def test_files_that_are_not_what_they_should_be(tiny: Path) -> None:
    path = tiny / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(bytes(208)))
    with pytest.raises(UserError, match="sha256 differs"):
        load_images("train", tiny)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="not a good gzip file"):
        load_images("train", tiny)


def test_the_files_are_downloaded_once(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SYSTEM_FOLDER", tmp_path / "nothing")
    monkeypatch.setattr(module, "MIRROR", tiny.as_uri())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert len(load_images("test").labels) == 20
    cached = sorted(path.name for path in (tmp_path / "cache" / "autocompress" / "fashion-mnist").iterdir())
    assert cached == ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]
    monkeypatch.setattr(module, "MIRROR", (tmp_path / "gone").as_uri())
    assert len(load_images("test").labels) == 20


def test_a_bad_download_is_not_kept(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tiny / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"something else"))
    monkeypatch.setattr(module, "SYSTEM_FOLDER", tmp_path / "nothing")
    monkeypatch.setattr(module, "MIRROR", tiny.as_uri())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="sha256 differs"):
        load_images("test")
    assert not (tmp_path / "cache").exists()


def test_offline_the_message_says_three_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SYSTEM_FOLDER", tmp_path / "nothing")
    monkeypatch.setattr(module, "MIRROR", "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"dataset-fashion-mnist, or .*AUTOCOMPRESS_DATA, or go online"):
        load_images("test")


def test_the_checksums_are_of_the_four_files() -> None:
    assert set(CHECKSUMS) == {f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")}


def test_augmentation_moves_and_mirrors_and_keeps_the_pixels() -> None:
    images = torch.zeros(400, 1, 28, 28, dtype=torch.uint8)
    images[:, 0, 10, 3] = 200
    moved = augment(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape and moved.dtype == torch.uint8
    samples, _, rows, columns = moved.nonzero(as_tuple=True)
    assert samples.tolist() == list(range(400))
    assert set(rows.tolist()) == {9, 10, 11}
    assert set(columns.tolist()) == {2, 3, 4, 23, 24, 25}


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_training_learns_and_writes_weights(network: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD_OUT", 20)
    monkeypatch.setattr(training, "BATCH", 20)
    output = tmp_path / "weights.safetensors"
    arguments = ["--network", network, "--data", str(tiny), "--output", str(output), "--epochs", "2", "--learning-rate", "0.02"]
    first, second = (run_training(arguments, output, monkeypatch) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    model = NETWORKS[network]()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(first)
    assert any(not torch.equal(before[name], first[name]) for name in first)


def run_training(arguments: list[str], output: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    monkeypatch.setattr("sys.argv", ["train_fashion_mnist", *arguments])
    training.main()
    return safetensors.torch.load_file(output)


def test_accuracy_counts_right_answers(tiny: Path) -> None:
    class Brightness(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            level = (x.mean((1, 2, 3)) * 90.02 + 72.94) / 25
            return -(level[:, None] - torch.arange(10)).abs()

    images = load_images("train", tiny)
    assert accuracy(Brightness(), images) == 1.0
    images.labels[:50] = (images.labels[:50] + 1) % 10
    assert accuracy(Brightness(), images) == 0.75
