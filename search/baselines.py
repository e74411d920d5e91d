"""Baselines: Plans that every study evaluates first, so that a report always shows what the search is worth."""

from __future__ import annotations

import math

from ..spaces.option import BLOCKS, Bits, Option, precision
from ..spaces.plan import Plan
from .problem import Problem, size_text

#: Uniform share of removed weights or channels, when there is no budget to meet.
UNIFORM_SHARES = (0.25, 0.5)
#: Where, between the extreme Plan and the dense one, points of the solver's front are taken.
FRONT_SHARES = (0.25, 0.5, 0.75)
#: Attribute of a trial that holds its baseline's name.
BASELINE = "baseline"
#: Name of the solver's Plan for the budget.
PLAIN_SOLVER = "plain solver"


def baselines(problem: Problem, budget_ms: float | None) -> dict[str, Plan]:
    """Named Plans: dense fp32 and int8; for each structure the same share removed everywhere, the smallest that meets the
    budgets; and the plain solver's Plan.

    Args:
        budget_ms: None for no limit of latency. Where an objective has no budget the uniform Plans have fixed shares, and the
            plain solver gives a few points of its front.
    """
    plans: dict[str, Plan] = {}
    minimised = problem.minimised(budget_ms)
    for bits in (32, 8):
        if all(Option("dense", 0.0, bits) in options for options in problem.space.options.values()):
            plans[f"{precision(bits)} dense"] = problem.space.uniform(Option("dense", 0.0, bits))
    for structure in (*BLOCKS, "channel"):
        for bits, ladder in _ladders(problem, structure).items():
            if minimised:
                chosen = [plan for share, plan in ladder if any(abs(share - wanted) < 0.051 for wanted in UNIFORM_SHARES)]
            else:
                chosen = [plan for _, plan in ladder if problem.fits(plan, budget_ms)][:1]
            for plan in chosen:
                share = max(option.sparsity for option in plan.values())
                plans[f"uniform {structure} {share:.3g} {precision(bits)}"] = plan
    limit = math.inf if budget_ms is None else budget_ms
    if not minimised:
        proposal = problem.solve(limit)
        if proposal is not None:
            plans[PLAIN_SOLVER] = proposal.plan
    if "latency" in minimised:
        fastest, dense = problem.fastest().ms, problem.latency.ms(problem.base)
        for share in FRONT_SHARES:
            proposal = problem.solve(fastest + share * (dense - fastest))
            if proposal is not None:
                plans[f"{PLAIN_SOLVER} {proposal.ms:.3g} ms"] = proposal.plan
    if "size" in minimised:
        smallest, whole = (problem.sizes.bytes(plan) for plan in (problem.smallest(limit), problem.base))
        for share in FRONT_SHARES:
            proposal = problem.solve(limit, max_bytes=smallest + share * (whole - smallest))
            if proposal is not None:
                plans[f"{PLAIN_SOLVER} {size_text(problem.sizes.bytes(proposal.plan))}"] = proposal.plan
    return plans


def _ladders(problem: Problem, structure: str) -> dict[Bits, list[tuple[float, Plan]]]:
    """For each number of bits that offers a structure, uniform Plans by rising share."""
    offered = {o for options in problem.space.options.values() for o in options if o.structure == structure}
    ladders: dict[Bits, list[tuple[float, Plan]]] = {}
    for option in sorted(offered):
        plan = problem.space.consistent(dict(problem.space.uniform(option)))
        ladders.setdefault(option.bits, []).append((option.sparsity, plan))
    return ladders
