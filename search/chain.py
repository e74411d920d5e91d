"""Chain: the exact choice of Options on a Network whose ops stand in one row.

There the type in which a Layer computes costs a conversion only behind the next one, and the channels that a Group keeps are
read by the next Layers alone. So what is still to come depends on a Layer's type and on the share that its Group loses, and on
nothing else: dynamic programming over these states, Layer by Layer, counts couplings and conversions as they are. Networks
with branches are solved by iteration (`problem.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..evaluators.latency import LatencyEvaluator
from ..spaces.datatypes import DataType
from ..spaces.groups import Group
from ..spaces.network import INPUT, Network, Op
from ..spaces.option import ACTIVATIONS, Option
from ..spaces.plan import Plan
from ..spaces.space import Space, kept_channels
from .solver import Floats


class State(NamedTuple):
    """What the Layers to come need to know: the type of the tensor between them, its Group, and the share that this loses."""

    type: DataType
    group: str = ""
    share: float = 0.0


@dataclass(frozen=True)
class _Moves:
    """All that one Layer may do, as arrays of equal length.

    Attributes:
        states: those in which it may leave the network.
        before, after: numbers of the states before and behind the Layer.
        options: numbers of its Options.
        us: microseconds of the Layer, and of what stands before it.
    """

    states: tuple[State, ...]
    before: npt.NDArray[np.int64]
    after: npt.NDArray[np.int64]
    options: npt.NDArray[np.int64]
    us: Floats


def is_chain(network: Network) -> bool:
    """Whether every op reads one computed tensor, the one before it, and no tensor is read twice."""
    reads = Counter(name for op in network.ops for name in op.inputs if name in network.shapes)
    last = INPUT
    for op in network.ops:
        if [name for name in op.inputs if name in network.shapes] != [last] or reads[last] != 1:
            return False
        last = op.name
    return last == network.output


class Chain:
    """The choice of a Plan for a Network that `is_chain`.

    Times are sums of the table's rows, in microseconds.
    """

    def __init__(self, space: Space, latency: LatencyEvaluator) -> None:
        self._space = space
        self._latency = latency
        self._groups = {group.name: group for group in space.groups}
        names = {layer.name for layer in space.layers}
        #: The ops before each Layer that are none, and those behind the last one.
        self._between: list[list[Op]] = [[]]
        for op in latency.network.ops:
            if op.name in names:
                self._between.append([])
            else:
                self._between[-1].append(op)
        self._moves: list[_Moves] = []
        states: tuple[State, ...] = (State("fp32"),)
        for number in range(len(space.layers)):
            self._moves.append(self._all_moves(number, states))
            states = self._moves[-1].states
        #: Microseconds behind the last Layer, by its state.
        self._tail = np.array([self._gap(len(space.layers), state, None) for state in states])

    def solve(self, budget: float, errors: Sequence[Floats], steps: int) -> tuple[Plan, float] | None:
        """The Plan of least error within a finite budget, with its time; None where there is none.

        A state keeps one way, that of least error, for each of `steps` steps of time; ways carry their exact times. What is
        returned errs by no more than the best within a budget that is smaller by a step for each Layer.

        Args:
            errors: by Layer, those of its Options.
        """
        if budget <= 0:
            return None
        step = budget / steps
        # Times are rounded, up as often as down: a few steps above the budget may stand for a time within it.
        width = steps + len(self._moves) + 2
        least, times = np.full((1, width), np.inf), np.zeros((1, width))
        least[0, 0] = 0.0
        taken: list[npt.NDArray[np.int32]] = []
        for moves, own in zip(self._moves, errors, strict=True):
            found = np.full((len(moves.states), width), np.inf)
            found_times, chosen = np.zeros_like(found), np.full(found.shape, -1, np.int32)
            for number in _useful(moves, own):
                before, after, us = moves.before[number], moves.after[number], moves.us[number]
                shift = round(us / step)
                if shift >= width:
                    continue
                error = least[before, : width - shift] + own[moves.options[number]]
                better = np.flatnonzero(error < found[after, shift:])
                found[after, shift + better] = error[better]
                found_times[after, shift + better] = times[before, better] + us
                chosen[after, shift + better] = number
            taken.append(chosen)
            least, times = found, found_times
        whole = times + self._tail[:, None]
        least = np.where(whole <= budget, least, np.inf)
        state, bucket = np.unravel_index(int(np.argmin(least)), least.shape)
        if not np.isfinite(least[state, bucket]):
            return None
        return self._plan(taken, step, int(state), int(bucket)), float(whole[state, bucket])

    def _plan(self, taken: Sequence[npt.NDArray[np.int32]], step: float, state: int, bucket: int) -> Plan:
        """The Plan whose way ends in a state and a step of time."""
        options: dict[str, Option] = {}
        for layer, moves, chosen in zip(self._space.layers[::-1], self._moves[::-1], taken[::-1], strict=True):
            number = int(chosen[state, bucket])
            options[layer.name] = self._space.options[layer.name][int(moves.options[number])]
            bucket -= round(moves.us[number] / step)
            state = int(moves.before[number])
        return Plan.of({layer.name: options[layer.name] for layer in self._space.layers})

    def _all_moves(self, number: int, before: Sequence[State]) -> _Moves:
        """What a Layer may do behind each of some states."""
        layer = self._space.layers[number]
        group = self._space.group_of(layer.name)
        states: dict[State, int] = {}
        found: list[tuple[int, int, int, float]] = []
        gaps: dict[tuple[int, DataType], float] = {}
        for at, state in enumerate(before):
            for index, option in enumerate(self._space.options[layer.name]):
                share = option.sparsity if option.structure == "channel" else 0.0
                if group is not None and group.name == state.group and share != state.share:
                    continue  # producers of one Group lose the same share
                type_ = ACTIVATIONS[option.bits]
                if (at, type_) not in gaps:
                    gaps[at, type_] = self._gap(number, state, type_)
                after = State(type_, "" if group is None else group.name, share)
                kept = {**self._kept(state), **self._kept(after)}
                us = gaps[at, type_] + self._latency.layers_microseconds(kept)[layer.name][option]
                found.append((at, states.setdefault(after, len(states)), index, us))
        befores, afters, options, times = zip(*found, strict=True)
        return _Moves(tuple(states), np.array(befores), np.array(afters), np.array(options), np.array(times, np.float64))

    def _gap(self, number: int, state: State, type_: DataType | None) -> float:
        """Microseconds of the ops before a Layer, in the state behind the one before that, and of the conversion into its type.

        Args:
            number: of the Layer; their number for what stands behind the last one.
            type_: in which it computes; None behind the last one.
        """
        network, layers, kept = self._latency.network, self._space.layers, self._kept(state)
        tensor = network.output if number == len(layers) else network.op(layers[number].name).inputs[0]
        # A Layer that ends the network writes fp32, whatever it computes in.
        wanted = type_ or ("fp32" if self._between[number] else state.type)
        us = sum([self._latency.other_microseconds(op, state.type, kept) for op in self._between[number]])
        if wanted != state.type:
            us += self._latency.conversion_microseconds((tensor, state.type, wanted), kept)
        return us

    def _kept(self, state: State) -> dict[str, int]:
        group: Group | None = self._groups.get(state.group)
        return {group.name: kept_channels(group.channels, state.share)} if group is not None and state.share else {}


def _useful(moves: _Moves, errors: Floats) -> list[int]:
    """Numbers of the moves that no other one between the same states beats in both time and error."""
    own = errors[moves.options]
    order = np.lexsort((own, moves.us, moves.after, moves.before))
    useful: list[int] = []
    last, least = (-1, -1), np.inf
    for number in order.tolist():
        ends = int(moves.before[number]), int(moves.after[number])
        if ends != last or own[number] < least:
            useful.append(number)
            last, least = ends, own[number]
    return useful
