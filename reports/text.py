"""Numbers and sentences that the terminal and the page share."""

from __future__ import annotations

import math

from .result import Point, StudyResult

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
#: Losses that differ by a smaller factor are compared in percent.
PLAIN_FACTOR = 1.5


def number(value: float | None) -> str:
    """Three significant digits without an exponent where that stays short; an en dash for None."""
    if value is None:
        return MISSING
    if value == 0.0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    return f"{value:.1e}" if magnitude < -4 else f"{value:,.{max(0, 2 - magnitude)}f}"


def signed(value: float) -> str:
    """`number` with its sign, a true minus sign for negatives."""
    if value == 0.0:
        return "±0"
    return ("+" if value > 0 else MINUS) + number(abs(value))


def size(count: int) -> str:
    """Bytes in decimal units."""
    if count < 1000:
        return f"{count} B"
    value, unit = (count / 1e6, "MB") if count >= 1e6 else (count / 1e3, "kB")
    return f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"


def metric(result: StudyResult, value: float | None) -> str:
    """A value of the metric: shares in percent, the user's own metrics as numbers."""
    return percent_or_number(result.metric_name, value)


def percent_or_number(metric_name: str, value: float | None) -> str:
    """A value of the metric of that name."""
    if value is None or metric_name not in ("agreement", "top1"):
        return number(value)
    return f"{value * 100:.1f} %"


def metric_name(result: StudyResult) -> str:
    return "top-1" if result.metric_name == "top1" else result.metric_name


def loss_name(result: StudyResult) -> str:
    """The short name of the loss: `soft KL` for `soft KL to dense`."""
    return result.loss_name.removesuffix(" to dense")


def latency(result: StudyResult, milliseconds: float) -> str:
    """A latency with the word that says where it comes from, as `4.93 ms (modelled)`."""
    return f"{number(milliseconds)} ms ({result.latency_source})"


def point_latency(result: StudyResult, point: Point) -> str:
    """A Point's latency with its interval where that is known, as `4.93 ms (modelled, 4.3 to 5.6)`."""
    if point.latency_low_ms is None or point.latency_high_ms is None:
        return latency(result, point.latency_ms)
    interval = f"{number(point.latency_low_ms)} to {number(point.latency_high_ms)}"
    if result.pessimism != 0.5:
        interval = f"{percentile(result)}; median {number(point.latency_median_ms)}, {interval}"
    return f"{number(point.latency_ms)} ms ({result.latency_source}, {interval})"


def percentile(result: StudyResult) -> str:
    """What latencies are when the study is pessimistic, as `90th percentile`."""
    return f"{result.pessimism * 100:g}th percentile"


def budget(result: StudyResult) -> str:
    """All budgets, as `5 ms and 4.0 MB`."""
    limits = [f"{result.budget_ms:g} ms"] if result.budget_ms is not None else []
    if result.max_size_bytes is not None:
        limits.append(size(result.max_size_bytes))
    return " and ".join(limits)


def goal(result: StudyResult) -> str:
    """What was searched for, as `within 5 ms`, `loss against latency` or `loss against size within 5 ms`."""
    parts = [f"loss against {' and '.join(result.minimised)}"] if result.minimised else []
    return " ".join([*parts, f"within {budget(result)}"] if result.bounded else parts)


def over_budget(result: StudyResult, point: Point) -> bool:
    return result.bounded and not point.feasible


def point_name(point: Point) -> str:
    return point.name or f"trial {point.trial}"


def printable(text: str) -> str:
    """`text` without control characters, which could move a terminal's cursor or colour it."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def headline(result: StudyResult) -> str:
    """The result in one line: latency, loss, metric and size of the best; else what is the case instead."""
    best = result.best_point
    if best is not None:
        parts = [point_latency(result, best)]
        if best.loss is None:
            parts.append(f"{loss_name(result)} {number(best.search_loss)} on search data")
        else:
            parts.append(f"{loss_name(result)} {number(best.loss)}")
        if best.metric is not None:
            parts.append(f"{metric_name(result)} {metric(result, best.metric)}")
        return " · ".join([*parts, size(best.size_bytes)])
    points = result.everything
    if not points:
        return "No trial has been evaluated yet"
    if result.bounded and not any(point.feasible for point in points):
        return f"Nothing fits {budget(result)}"
    front = result.front
    if not front:
        return "No front yet"
    ends = dict.fromkeys((front[0], front[-1]))
    costs = {
        point: latency(result, point.latency_ms) if "latency" in result.objectives else size(point.size_bytes) for point in ends
    }
    reach = " to ".join(f"{cost} at {loss_name(result)} {number(point.search_loss)}" for point, cost in costs.items())
    return f"A front of {count(len(front), 'plan')}: {reach}"


def count(amount: int, noun: str) -> str:
    return f"{amount:,} {noun}" if amount == 1 else f"{amount:,} {noun}s"


def remarks(result: StudyResult) -> list[str]:
    """Sentences below the headline: what is missing and what to do, or what the best is worth against the baselines."""
    points = result.everything
    if not points:
        return ["Resume the study to evaluate its baselines and its first trials."]
    sentences = []
    if not result.points:
        sentences.append("Only baselines have been evaluated: resume the study to search.")
    if result.bounded and not any(point.feasible for point in points):
        sentences.append(_nothing_fits(result))
    best = result.best_point
    if best is not None:
        candidates = (_finetuned(result, best), _against_baselines(result, best), _against_dense(result, best))
        sentences += [sentence for sentence in candidates if sentence]
    return sentences


def _nothing_fits(result: StudyResult) -> str:
    """What comes nearest to the budgets, and what to do."""
    points, told, tries = result.everything, [], []
    fastest, smallest = min(points, key=lambda point: point.latency_ms), min(points, key=lambda point: point.size_bytes)
    if result.budget_ms is not None:
        told.append(f"the fastest of {count(len(points), 'plan')} takes {latency(result, fastest.latency_ms)}")
        tries.append(f"--budget {_rounded_up(fastest.latency_ms):g}ms")
    if result.max_size_bytes is not None:
        of = "" if told else f" of {count(len(points), 'plan')}"
        told.append(f"the smallest{of} is {size(smallest.size_bytes)}")
        tries.append(f"--max-size {_rounded_up(smallest.size_bytes / 1e3):g}kB")
    facts = ", ".join(told)
    return f"{facts[0].upper()}{facts[1:]}. Try {' or '.join(tries)}, or resume the study with more trials."


def _finetuned(result: StudyResult, best: Point) -> str:
    found = result.finetuned
    if found is None:
        return ""
    spent = f"{number(found.minutes)} minutes of fine-tuning"
    if not found.improved:
        return f"{spent} gave nothing better on held-out data: the network is as it was."
    before = f"{loss_name(result)} {number(found.loss_before)}, {metric_name(result)} {metric(result, found.metric_before)}"
    after = f"{loss_name(result)} {number(best.loss)}, {metric_name(result)} {metric(result, best.metric)}"
    return f"{spent}: from {before} to {after}."


def _against_baselines(result: StudyResult, best: Point) -> str:
    rival = result.best_baseline
    words = {"latency": "no slower", "size": "no larger"}
    where = [f"within {budget(result)}"] if result.bounded else []
    if result.minimised:
        where.append(f"that is {' and '.join(words[objective] for objective in result.minimised)}")
    if best.name is not None:
        return f"The best plan is a baseline, {best.name}: the search found nothing better."
    if best.loss is None:
        return ""
    if rival is None or rival.loss is None:
        return f"There is no baseline {' '.join(where)} to compare with."
    name = loss_name(result)[:1].upper() + loss_name(result)[1:]
    other = f"the best baseline {' '.join(where)} ({rival.name}, {number(rival.loss)})"
    if best.loss > 0.0 and rival.loss > 0.0:
        factor, word = (rival.loss / best.loss, "lower") if rival.loss >= best.loss else (best.loss / rival.loss, "higher")
        share = abs(1.0 - best.loss / rival.loss)
        much = f"{factor:.2g}{TIMES}" if factor >= PLAIN_FACTOR else f"{100 * share:.2g} %"
        return f"{name} is {much} {word} than that of {other}."
    return f"{name} is {number(best.loss)}; compare {other}."


def _against_dense(result: StudyResult, best: Point) -> str:
    dense = result.dense_ms.get("int8")
    if not dense:
        return ""
    ratio = dense / best.latency_ms
    comparison = f"is {ratio:.2g}{TIMES} as fast as" if ratio >= 1.0 else f"takes {100 / ratio - 100:.2g} % longer than"
    return f"It {comparison} dense int8, {latency(result, dense)}."


def _rounded_up(value: float) -> float:
    """`value` with two significant digits, never less than it is."""
    decimals = 1 - math.floor(math.log10(value))
    return math.ceil(value * 10.0**decimals) / 10.0**decimals
