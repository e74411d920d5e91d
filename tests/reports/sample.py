"""A study result of realistic shape for the tests of this folder."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from autocompress.reports.result import HistoryRow, LayerRow, OpRow, Point, StudyResult

BASELINES = (
    ("fp32 dense", 21.4, 0.0),
    ("fp16 dense", 13.1, 2e-5),
    ("int8 dense", 7.92, 0.0061),
    ("uniform unstructured", 4.97, 0.118),
    ("uniform block4x1", 4.93, 0.094),
    ("uniform block1x4", 4.99, 0.137),
    ("uniform block4x4", 4.88, 0.231),
    ("uniform channel", 4.95, 0.412),
    ("plain solver", 4.98, 0.0483),
)
STRUCTURES = ("dense", "channel", "unstructured", "block4x1", "block1x4", "block4x4")


def sample_result(trials: int = 150, layers: int = 49, budget_ms: float | None = 5.0) -> StudyResult:
    """`trials` trials after the baselines, whose losses fall as the search learns."""
    randoms = random.Random(0)
    rows: list[Point] = []
    for trial in range(len(BASELINES) + trials):
        if trial < len(BASELINES):
            name, latency, loss = BASELINES[trial]
        else:
            name, latency = (
                None,
                randoms.choice((randoms.uniform(3.0, 4.9), randoms.uniform(4.7, 5.0), randoms.uniform(5.0, 7.5))),
            )
            excess = 1.0 + 2.0 * randoms.random() ** 2 * math.exp(-trial / 80) + 0.5 * randoms.random()
            loss = 0.021 * (5.0 / latency) ** 4.2 * excess
        rows.append(
            Point(
                trial=trial,
                latency_ms=latency,
                search_loss=loss,
                size_bytes=int(18.6e6 * (latency / 21.4) if trial < 3 else 8e5 + 6e5 * latency),
                on_front=False,
                feasible=budget_ms is None or latency <= budget_ms,
                plan=f"plans/{trial}.json",
                latency_low_ms=latency * 0.94,
                latency_high_ms=latency * 1.07,
                name=name,
            )
        )
    front = {row.trial for row in rows if not any(_dominates(other, row) for other in rows)}
    best = min((row for row in rows if row.latency_ms <= 5.0), key=lambda row: row.search_loss, default=None)
    rows = [
        replace(
            row,
            on_front=row.trial in front,
            loss=row.search_loss * (1.12 + 0.1 * randoms.random()),
            metric=max(0.0, 1.0 - 1.1 * math.sqrt(row.search_loss) / 4.4),
        )
        if row.trial in front or row.name is not None
        else row
        for row in rows
    ]
    chosen, others = _layers(layers, randoms, best.latency_ms if best else 5.0)
    return StudyResult(
        study="efficientnet-lite0-pixel7-5ms",
        task="efficientnet-lite0",
        target="pixel7",
        latency_source="modelled",
        latency_note="median error 11 %, worst 23 % against 62 published end-to-end times of Cortex-X1 networks",
        budget_ms=budget_ms,
        dense_ms={"fp32": 21.4, "fp16": 13.1, "int8": 7.92},
        loss_name="soft KL to dense",
        metric_name="agreement",
        points=tuple(row for row in rows if row.name is None),
        baselines=tuple(row for row in rows if row.name is not None),
        best=best.trial if best else None,
        history=tuple(
            HistoryRow(row.trial, row.search_loss, row.latency_ms, row.feasible, 0.6 + 0.3 * randoms.random()) for row in rows
        ),
        layers=chosen,
        other_ops=others,
        provenance={
            "autocompress": "0.1.0",
            "torch": "2.13.0",
            "optuna": "5.0.0",
            "seed": 0,
            "sampler": "swap",
            "trials": len(rows),
            "table": {"source": "analytic core model (cortex-x1)", "fingerprint": "9f3c2a7be01d4c55"},
            "data": {"search": "256 unlabelled photographs", "evaluation": "344 other photographs"},
            "machine": "x86_64, 2 cores",
            "date": "2026-11-22",
            "seconds": {"capture": 3.1, "database": 118.4, "baselines": 9.7, "search": 121.9, "report": 2.2},
        },
    )


def _dominates(one: Point, other: Point) -> bool:
    better = one.latency_ms < other.latency_ms or one.search_loss < other.search_loss
    return better and one.latency_ms <= other.latency_ms and one.search_loss <= other.search_loss


def _layers(count: int, randoms: random.Random, total: float) -> tuple[tuple[LayerRow, ...], tuple[OpRow, ...]]:
    weights = [0.2 + randoms.random() ** 2 for _ in range(count)]
    scale = 0.93 * total / sum(weights)
    rows = []
    for index, weight in enumerate(weights):
        depthwise = index % 3 == 1
        structure = "dense" if depthwise else randoms.choice(STRUCTURES)
        sparsity = 0.0 if structure == "dense" else randoms.choice((0.3, 0.5, 0.6, 0.75))
        bits = randoms.choice((8, 8, 8, 4, 16))
        share = "" if structure == "dense" else f" {sparsity:.0%}"
        last = index == count - 1
        rows.append(
            LayerRow(
                name="classifier" if last else f"blocks.{index // 7}.{index % 7}.{('conv_pw', 'conv_dw', 'conv_pwl')[index % 3]}",
                op="linear" if last else "depthwise 5x5" if depthwise else "conv 1x1",
                option=f"{structure}{share} {'fp16' if bits == 16 else f'int{bits}'}",
                structure=structure,
                sparsity=sparsity,
                bits=bits,
                ms=weight * scale,
                share=weight * scale / total,
                dense_int8_ms=weight * scale / (1.0 - 0.7 * sparsity) * (0.6 if bits == 16 else 1.0),
                runner_up=None if depthwise and index % 2 else "block4x1 50% int8",
                runner_up_delta_ms=None if depthwise and index % 2 else randoms.uniform(-0.02, 0.04),
                runner_up_delta_loss=None if depthwise and index % 2 else randoms.uniform(0.0, 0.003),
            )
        )
    others = tuple(
        OpRow(name, 0.07 * total * part) for name, part in (("blocks.2.1.add", 0.3), ("global_pool", 0.2), ("fp32 -> int8", 0.5))
    )
    return tuple(rows), others
