"""Photographs for networks trained on ImageNet: reading, cropping, labels in names, and a split by photograph.

Needs Pillow, which the extra `demo` installs.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance

from ..errors import UserError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
CLASSES = 1000

_WNID = re.compile(r"n\d{8}")
_LEADING_INDEX = re.compile(r"(\d{1,4})(?=[_-])")


@dataclass(frozen=True)
class Photo:
    """A file, and its class index, 0 to 999."""

    path: Path
    label: int


def read_photo(path: Path) -> Image.Image:
    """The photograph in RGB.

    Raises:
        UserError: the file is not an image that Pillow reads.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as an image ({error}): remove it, or put a good copy in its place.") from error


def centre_crop(image: Image.Image, size: int, short_side: int) -> Image.Image:
    """The central square of `size` pixels after resizing the short side to `short_side` (bicubic)."""
    scale = short_side / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return resized.crop((left, top, left + size, top + size))


def random_crop(image: Image.Image, size: int, generator: np.random.Generator) -> Image.Image:
    """A square of `size` pixels showing a random part of the photograph, perhaps mirrored, in mildly changed light.

    The part covers 25 to 100 % of the area at an aspect ratio of 3:4 to 4:3 (Szegedy et al., arXiv:1409.4842), a little more than
    in training, as these crops stand for whole photographs.
    """
    width, height = image.size
    area = width * height * generator.uniform(0.25, 1.0)
    ratio = math.exp(generator.uniform(math.log(3 / 4), math.log(4 / 3)))
    part_width = min(width, round(math.sqrt(area * ratio)))
    part_height = min(height, round(math.sqrt(area / ratio)))
    left = generator.integers(0, width - part_width + 1)
    top = generator.integers(0, height - part_height + 1)
    box = (int(left), int(top), int(left) + part_width, int(top) + part_height)
    crop = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    if generator.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        crop = change(crop).enhance(generator.uniform(0.8, 1.2))
    return crop


def random_crops(wanted: Sequence[tuple[Path, int]], size: int, seed: int) -> list[Image.Image]:
    """Random crops of photographs, one photograph after the other.

    A photograph's crops do not depend on the others.

    Args:
        wanted: photographs, and how many crops of each.
    """
    crops_of = partial(_crops_of, size=size, seed=seed)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow resizes without Python's lock
        return [crop for own in pool.map(crops_of, *zip(*wanted, strict=True)) for crop in own]


def _crops_of(path: Path, count: int, size: int, seed: int) -> list[Image.Image]:
    image = read_photo(path)
    generator = np.random.default_rng([seed, *hashlib.sha256(path.name.encode()).digest()[:8]])
    return [random_crop(image, size, generator) for _ in range(count)]


def to_tensor(images: Sequence[Image.Image]) -> torch.Tensor:
    """Equally large images as float32 pixels, 0 to 255: shape (images, 3, height, width)."""
    pixels = np.stack([np.asarray(image, dtype=np.uint8) for image in images])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)


def split_photos(photos: Sequence[Photo], calibration: int, evaluation: int) -> tuple[list[Photo], list[Photo]]:
    """A third of the photographs, at most `calibration`, and half of the rest, at most `evaluation`: who trains gets the others.

    The order is that of the file names' hashes: it mixes the classes, and is the same on every machine.

    Raises:
        UserError: there are fewer than three photographs.
    """
    if len(photos) < 3:
        raise UserError(f"{len(photos)} labelled photographs are too few to split: give at least three, better some hundreds.")
    mixed = sorted(photos, key=lambda photo: (hashlib.sha256(photo.path.name.encode()).digest(), photo.path))
    third = len(mixed) // 3
    half = (len(mixed) - third + 1) // 2
    return mixed[: min(third, calibration)], mixed[third : third + min(half, evaluation)]


def find_photos(folder: Path) -> list[Photo]:
    """All photographs below `folder`, with the labels in their names.

    A label is the name of the photograph's own folder (`2/x.jpg`, `n01484850/x.jpg`), or begins the file's name
    (`002_n01484850_great_white_shark.jpg`), or is a synset anywhere in it (`ILSVRC2012_val_00000001_n01484850.jpg`).

    Raises:
        UserError: there are no photographs, one has no label, or synsets cannot be mapped to class indices.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise UserError(f"{folder} holds no photographs ({', '.join(sorted(SUFFIXES))}): name the folder that does.")
    labels = {path: _label(path) for path in paths}
    synsets = {label for label in labels.values() if isinstance(label, str)}
    indices = _synset_indices(folder, synsets) if synsets else {}
    photos = []
    for path, label in labels.items():
        if label is None:
            raise UserError(
                f"{path} has no label in its name: name it like 002_shark.jpg or 2/shark.jpg (class index 0 to {CLASSES - 1}), "
                "or n01484850/shark.jpg (synset)."
            )
        index = indices.get(label, -1) if isinstance(label, str) else label
        if not 0 <= index < CLASSES:
            raise UserError(f"the label {label} of {path} is not one of the {CLASSES} classes: rename or remove the photograph.")
        photos.append(Photo(path, index))
    return photos


def _label(path: Path) -> int | str | None:
    """The class index or the synset in the name of the file or of its folder."""
    parent = path.parent.name
    if parent.isdecimal():
        return int(parent)
    if _WNID.fullmatch(parent):
        return parent
    leading = _LEADING_INDEX.match(path.stem)
    if leading:
        return int(leading[1])
    synset = _WNID.search(path.stem)
    return synset[0] if synset else None


def _synset_indices(folder: Path, synsets: set[str]) -> dict[str, int]:
    """Class index of each synset: they are numbered in alphabetical order of all 1000."""
    ordered = sorted(synsets)
    if len(ordered) != CLASSES:
        lists = [folder / "LOC_synset_mapping.txt"]
        timm = importlib.util.find_spec("timm")
        if timm is not None and timm.origin is not None:
            lists.append(Path(timm.origin).parent / "data" / "_info" / "imagenet_synsets.txt")
        known = [path for path in lists if path.is_file()]
        if not known:
            raise UserError(
                f"{folder} names {len(ordered)} synsets, and their class indices are known only with all {CLASSES} there: put "
                "ImageNet's LOC_synset_mapping.txt into it, install timm, or name photographs by class index (002_shark.jpg)."
            )
        ordered = sorted(_WNID.findall(known[0].read_text(encoding="utf-8")))
        if len(ordered) != CLASSES:
            raise UserError(f"{known[0]} lists {len(ordered)} synsets instead of {CLASSES}: put a good copy in its place.")
    return {synset: index for index, synset in enumerate(ordered)}
