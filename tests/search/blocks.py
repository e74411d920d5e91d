"""Small Blocks, all their solutions, and Blocks as large as a network's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from hypothesis import strategies as st

from autocompress.search.solver import Block, Branch, Choice, Solution, evaluate

TIMES = st.floats(0.0, 50.0).map(lambda value: round(value, 2))
ERRORS = st.floats(0.0, 9.0).map(lambda value: round(value, 3))
SIZES = st.integers(0, 1000)


@st.composite
def branches(draw: st.DrawFn, sized: bool = False) -> Branch:
    times, errors, sizes = [], [], []
    for _ in range(draw(st.integers(1, 2))):
        options = draw(st.integers(1, 4))
        times.append(np.array(draw(st.lists(TIMES, min_size=options, max_size=options))))
        errors.append(np.array(draw(st.lists(ERRORS, min_size=options, max_size=options))))
        if sized:
            sizes.append(np.array(draw(st.lists(SIZES, min_size=options, max_size=options)), np.float64))
    # A branch's own time and size may be negative: what other layers save.
    time, size = draw(st.floats(-20.0, 20.0)), float(draw(st.integers(-300, 300))) if sized else 0.0
    return Branch(tuple(times), tuple(errors), time, draw(ERRORS), tuple(sizes), size)


BLOCKS = st.lists(st.lists(branches(), min_size=1, max_size=2).map(lambda b: Block(tuple(b))), min_size=1, max_size=3)
SIZED = st.lists(st.lists(branches(True), min_size=1, max_size=2).map(lambda b: Block(tuple(b))), min_size=1, max_size=3)


def choices_of(block: Block) -> Iterator[Choice]:
    for index, branch in enumerate(block.branches):
        for options in itertools.product(*(range(len(times)) for times in branch.times)):
            yield Choice(index, options)


def everything(blocks: list[Block]) -> list[Solution]:
    """Every solution there is."""
    return [evaluate(blocks, choices) for choices in itertools.product(*(choices_of(block) for block in blocks))]


def random_layers(seed: int, layers: int = 54, options: int = 60) -> list[Block]:
    """Blocks of one member each, where what is slow or large loses less."""
    generator = np.random.default_rng(seed)
    blocks = []
    for _ in range(layers):
        times, sizes = generator.uniform(1, 100, options), generator.uniform(1, 1000, options)
        errors = generator.exponential(1, options) / times / sizes
        blocks.append(Block((Branch((times,), (errors,), sizes=(sizes,)),)))
    return blocks


def budgets_of(blocks: list[Block], excess: float = 2000.0) -> list[float]:
    """Budgets of time from the fastest solution's to so much more."""
    fastest = sum(block.fastest for block in blocks)
    return [float(budget) for budget in np.linspace(fastest, fastest + excess, 5)]
