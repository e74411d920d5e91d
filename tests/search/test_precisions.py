from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest

from autocompress.evaluators.error_table import ErrorTable
from autocompress.search.precisions import LONGEST, refinements
from autocompress.search.problem import Problem
from autocompress.spaces.option import Option
from autocompress.spaces.plan import Plan

INT8, FP16 = Option("dense", 0.0, 8), Option("dense", 0.0, 16)


def rounding(problem: Problem, costs: dict[str, float]) -> ErrorTable:
    """An error table in which int8 alone costs something, as much as is said for each Layer."""
    errors = {
        name: {option: costs.get(name, 0.0) if option.bits <= 8 else 0.0 for option in options}
        for name, options in problem.space.options.items()
    }
    return ErrorTable(math.fsum(costs.values()), errors)


def conversions(plan: Plan) -> float:
    """Ten for every Layer, one more in fp16, and one for each change of type from one Layer to the next."""
    bits = [option.bits for option in plan.values()]
    return 10 * len(bits) + sum(one > 8 for one in bits) + sum(a != b for a, b in itertools.pairwise(bits))


def test_layers_in_a_row_change_together(tiny_problem: Problem) -> None:
    space = tiny_problem.space
    names = [layer.name for layer in space.layers]
    middle = names[2:5]
    errors = rounding(tiny_problem, dict.fromkeys(middle, 1.0))
    found = refinements(space, space.uniform(INT8), errors, conversions)
    assert found[0] == (space.uniform(INT8), conversions(space.uniform(INT8)))
    assert [name for name, option in found[1][0].items() if option == FP16] == middle
    assert len(found) == 2, "nothing else gains"


def test_every_step_gains_and_refines(tiny_problem: Problem) -> None:
    space = tiny_problem.space
    errors = rounding(tiny_problem, {layer.name: 1.0 + place for place, layer in enumerate(space.layers)})
    found = refinements(space, tiny_problem.base, errors, tiny_problem.latency.ms)
    for (before, _), (after, ms) in itertools.pairwise(found):
        changed = [name for name in before if before[name] != after[name]]
        assert 0 < len(changed) <= LONGEST
        assert all(after[name].structure == "dense" and after[name].bits > before[name].bits for name in changed)
        assert errors.predict(after) < errors.predict(before)
        assert ms == tiny_problem.latency.ms(after)
    assert all(option == FP16 for option in found[-1][0].values())


def test_the_solver_finds_a_row_that_pays_only_as_a_whole(tiny_problem: Problem) -> None:
    space, latency = tiny_problem.space, tiny_problem.latency
    dense = {name: tuple(o for o in options if o in (INT8, FP16)) for name, options in space.options.items()}
    names = [layer.name for layer in space.layers]
    base, missed = space.uniform(INT8), 0
    for first in range(len(names) - 2):
        row = names[first : first + 3]
        whole = latency.ms(base.replace(dict.fromkeys(row, FP16)))
        problem = Problem(replace(space, options=dense), latency, rounding(tiny_problem, dict.fromkeys(row, 1.0)))
        solved = problem.solve(whole)
        assert solved is not None and solved.ms <= whole
        assert solved.expected == pytest.approx(0.0)
        from_base = problem.solve(whole, start=base)
        missed += from_base is None or from_base.expected > 0.1
    assert missed, "from the base Plan alone all are found"
