from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from autocompress.errors import UserError
from autocompress.tasks.photos import (
    Photo,
    centre_crop,
    find_photos,
    random_crop,
    random_crops,
    read_photo,
    split_photos,
    to_tensor,
)


def save(path: Path, size: tuple[int, int] = (12, 10), colour: tuple[int, int, int] = (10, 20, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("002_n01484850_great_white_shark.jpg", 2),
        ("7-dog.jpeg", 7),
        ("2/anything.png", 2),
        ("999/0_x.webp", 999),
        ("deep/er/017/1.JPG", 17),
    ],
)
def test_class_indices_in_names(name: str, label: int, tmp_path: Path) -> None:
    path = save(tmp_path / name)
    (tmp_path / "notes_5.txt").write_text("not a photograph")
    assert find_photos(tmp_path) == [Photo(path, label)]


def test_synsets_are_numbered_in_order_when_all_are_there(tmp_path: Path) -> None:
    synsets = [f"n{10_000_000 + 7 * index}" for index in range(1000)]
    for synset in synsets:
        (tmp_path / synset).mkdir()
        (tmp_path / synset / f"{synset}_1.jpg").touch()
    labels = {photo.path.parent.name: photo.label for photo in find_photos(tmp_path)}
    assert labels == {synset: index for index, synset in enumerate(synsets)}


def test_few_synsets_need_imagenets_own_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    path = save(tmp_path / "ILSVRC2012_val_00000001_n10000014.jpg")
    with pytest.raises(UserError, match=r"names 1 synsets.*LOC_synset_mapping\.txt"):
        find_photos(tmp_path)
    lines = [f"n{10_000_000 + 7 * index} thing {index}" for index in range(1000)]
    mapping = tmp_path / "LOC_synset_mapping.txt"
    mapping.write_text("\n".join(lines))
    assert find_photos(tmp_path) == [Photo(path, 2)]
    mapping.write_text("\n".join(lines[:10]))
    with pytest.raises(UserError, match="lists 10 synsets instead of 1000"):
        find_photos(tmp_path)
    mapping.write_text("\n".join(lines).replace("n10000014", "n20000000"))
    with pytest.raises(UserError, match=r"n10000014 of .* is not one of"):
        find_photos(tmp_path)


def test_timms_list_of_synsets_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "lib" / "timm"
    (package / "data" / "_info").mkdir(parents=True)
    (package / "__init__.py").touch()
    synsets = [f"n{10_000_000 + index}" for index in range(1000)]
    (package / "data" / "_info" / "imagenet_synsets.txt").write_text("\n".join(synsets))
    monkeypatch.syspath_prepend(tmp_path / "lib")
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    save(tmp_path / "photos" / "n10000123" / "a.jpg")
    assert [photo.label for photo in find_photos(tmp_path / "photos")] == [123]


@pytest.mark.parametrize(
    ("name", "message"), [("shark.jpg", "has no label"), ("1000/x.jpg", "label 1000 of"), ("1234_x.jpg", "label 1234 of")]
)
def test_labels_that_are_none(name: str, message: str, tmp_path: Path) -> None:
    save(tmp_path / name)
    with pytest.raises(UserError, match=message):
        find_photos(tmp_path)


def test_a_folder_without_photographs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no photographs"):
        find_photos(tmp_path)


def test_a_damaged_photograph(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(b"\xff\xd8 not really")
    with pytest.raises(UserError, match=r"1\.jpg cannot be read as an image"):
        read_photo(tmp_path / "1.jpg")


@settings(deadline=None, derandomize=True)
@given(count=st.integers(3, 60), calibration=st.integers(1, 30), evaluation=st.integers(1, 60))
def test_a_split_shares_no_photograph_and_does_not_depend_on_order(count: int, calibration: int, evaluation: int) -> None:
    photos = [Photo(Path(f"folder/{index:03}_x.jpg"), index) for index in range(count)]
    first, second = split_photos(photos, calibration, evaluation)
    assert not {photo.path for photo in first} & {photo.path for photo in second}
    assert len(first) == min(count // 3, calibration)
    assert len(second) == min((count - count // 3 + 1) // 2, evaluation)
    assert split_photos(photos[::-1], calibration, evaluation) == (first, second)


def test_two_photographs_cannot_be_split() -> None:
    with pytest.raises(UserError, match="too few"):
        split_photos([Photo(Path("0_a.jpg"), 0), Photo(Path("0_b.jpg"), 0)], 10, 10)


@settings(deadline=None, derandomize=True)
@given(width=st.integers(8, 90), height=st.integers(8, 90))
def test_a_centre_crop_is_a_square_of_the_middle(width: int, height: int) -> None:
    image = Image.new("RGB", (width, height))
    image.paste((255, 255, 255), (width // 2 - 1, height // 2 - 1, width // 2 + 1, height // 2 + 1))
    crop = centre_crop(image, 28, 32)
    assert crop.size == (28, 28)
    light = np.asarray(crop)[..., 0].astype(float)
    rows, columns = light.sum(1) @ np.arange(28) / light.sum(), light.sum(0) @ np.arange(28) / light.sum()
    scale = 32 / min(width, height)
    assert abs(rows - 13.5) <= scale + 0.5 and abs(columns - 13.5) <= scale + 0.5


def test_a_centre_crop_without_resizing_is_exact() -> None:
    image = noise(40, 32)
    assert np.array_equal(np.asarray(centre_crop(image, 28, 32)), np.asarray(image)[2:30, 6:34])


@settings(deadline=None, derandomize=True)
@given(width=st.integers(10, 80), height=st.integers(10, 80), seed=st.integers(0, 100))
def test_a_random_crop_has_its_size_and_repeats(width: int, height: int, seed: int) -> None:
    image = noise(width, height, seed)
    first = random_crop(image, 16, np.random.default_rng(seed))
    again = random_crop(image, 16, np.random.default_rng(seed))
    assert first.size == (16, 16)
    assert np.array_equal(np.asarray(first), np.asarray(again))


def test_crops_of_a_photograph_differ_and_do_not_depend_on_the_others(tmp_path: Path) -> None:
    for name in ("a", "b"):
        noise(50, 40, ord(name)).save(tmp_path / f"{name}.png")
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    together = to_tensor(random_crops([(a, 3), (b, 3)], 16, seed=0))
    alone = to_tensor(random_crops([(b, 3)], 16, seed=0))
    assert torch.equal(together[3:], alone)
    assert len({crop.numpy().tobytes() for crop in together}) == 6
    assert not torch.equal(alone, to_tensor(random_crops([(b, 3)], 16, seed=1)))


def test_pixels_keep_their_place_and_colour() -> None:
    image = Image.new("RGB", (3, 2))
    image.putpixel((2, 1), (1, 2, 255))
    pixels = to_tensor([image, image])
    assert pixels.shape == (2, 3, 2, 3) and pixels.dtype == torch.float32
    assert pixels[1, :, 1, 2].tolist() == [1.0, 2.0, 255.0]
    assert pixels.sum() == 2 * 258
