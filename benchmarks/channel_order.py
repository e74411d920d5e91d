"""What the order of channels gains: uniform Plans with the model's own order and with that of compressors/channel_order.py.

    python benchmarks/channel_order.py [--task efficientnet-lite0] [--data FOLDER]

An Option is taken by every 1x1 convolution and linear Layer; the others are dense in its precision. Losses are on evaluation
inputs, after statistics correction on calibration inputs. Writes results/benchmarks/channel_order.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from autocompress.api import Profile, find_quantizers, profile, reordered
from autocompress.compressors.database import LayerDatabase
from autocompress.compressors.distillation import response_loss
from autocompress.compressors.input_statistics import collect
from autocompress.evaluators.evaluator import PlanEvaluator
from autocompress.evaluators.loss import divergence, memory_format, outputs
from autocompress.evaluators.recovery import Recovery
from autocompress.files import write_json
from autocompress.kernels.targets import load_target
from autocompress.samples import (
    BATCH,
    CORRECTING,
    calibration_inputs,
    inputs_for,
    split_calibration,
    split_samples,
    split_scoring,
)
from autocompress.settings import SearchSettings
from autocompress.spaces.layers import Layer
from autocompress.spaces.option import Option
from autocompress.spaces.plan import Plan
from autocompress.tasks.loader import load_task
from autocompress.tasks.task import Task, evaluation_data

RESULT = Path(__file__).resolve().parent.parent / "results" / "benchmarks" / "channel_order.json"
OPTIONS = (
    Option("block4x4", 0.3, 8),
    Option("block4x4", 0.5, 8),
    Option("block1x4", 0.5, 8),
    Option("block4x1", 0.5, 32),
    Option("block4x1", 0.7, 32),
)


def sparse_layers(found: Profile) -> list[str]:
    return [layer.name for layer in found.layers if layer.groups == 1 and layer.kernel == (1, 1)]


def uniform(found: Profile, option: Option) -> Plan:
    names = sparse_layers(found)
    dense = Option("dense", 0.0, option.bits)
    return Plan.of({layer.name: option if layer.name in names else dense for layer in found.layers})


def measure(task: Task, found: Profile, settings: SearchSettings, cache: Path) -> list[dict[str, Any]]:
    """Errors and losses of every Option, for the order that `found` has."""
    reconstruction, scoring = split_calibration(calibration_inputs(task, found.network))
    batches = [batch.contiguous(memory_format=memory_format(batch)) for batch in torch.split(reconstruction, BATCH)]

    def statistics(layers: Sequence[Layer]) -> Any:
        return collect(found.network, layers, batches)

    plans = {option: uniform(found, option) for option in OPTIONS}
    wanted = {layer.name: tuple({plan[layer.name] for plan in plans.values()}) for layer in found.layers}
    database = LayerDatabase.build(cache, found.network, found.layers, found.space.groups, wanted, statistics, "")
    quantizers = find_quantizers(found.network, batches[:2])
    samples = split_scoring(scoring, found.network, settings.search_samples).trials
    correcting = split_samples(reconstruction, inputs_for(found.network, *CORRECTING))[0]
    evaluator = PlanEvaluator(found.network, found.space.groups, database, quantizers, samples, correcting, prefix_bytes=0)
    recovered = Recovery(evaluator, torch.cat([correcting, samples]))
    inputs = evaluation_data(task)[0]
    dense = outputs(evaluator.dense.run, inputs)
    results = []
    for option, plan in plans.items():
        compressed = outputs(recovered(plan).run, inputs)
        results.append(
            {
                "option": str(option),
                "sum_of_layer_errors": sum(database.errors[name][option] for name in sparse_layers(found)),
                "search_soft_kl": evaluator.loss(plan),
                "soft_kl": divergence(dense, compressed),
                "kl": float(response_loss(dense, compressed, 1.0)),
                "agreement": float((dense.argmax(1) == compressed.argmax(1)).float().mean()),
            }
        )
        print(json.dumps(results[-1]), flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="efficientnet-lite0")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--target", default="pixel7")
    parser.add_argument("--output", type=Path, default=RESULT)
    asked = parser.parse_args()
    task, settings = load_task(asked.task, asked.data), SearchSettings()
    own = profile(task, load_target(asked.target))
    begin = time.process_time()
    ordered = reordered(own)
    seconds = time.process_time() - begin
    with tempfile.TemporaryDirectory() as cache:
        value = {
            "date": datetime.date.today().isoformat(),
            "machine": f"{platform.system()} {platform.machine()}",
            "task": asked.task,
            "evaluation_inputs": len(evaluation_data(task)[0]),
            "cpu_seconds_to_order": round(seconds, 2),
            "own_order": measure(task, own, settings, Path(cache)),
            "ordered": measure(task, ordered, settings, Path(cache)),
        }
    write_json(asked.output, value)
    print(json.dumps(value, indent=2))


if __name__ == "__main__":
    main()
