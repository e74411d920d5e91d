from __future__ import annotations

import torch

from autocompress.api import Prepared
from autocompress.evaluators.loss import divergence, outputs
from autocompress.spaces.option import Option


def test_a_network_has_the_dense_statistics_on_the_inputs_that_corrected_it(tiny: Prepared) -> None:
    plan = tiny.profile.space.uniform(Option("block4x4", 0.5, 8))
    inputs = torch.cat([tiny.evaluator.correcting, tiny.evaluator.samples])
    dense, plain = tiny.evaluator.dense.run(inputs), tiny.evaluator.candidate(plan).run(inputs)
    corrected = tiny.recovered(plan).run(inputs)
    assert divergence(dense, corrected) < divergence(dense, plain)


def test_a_network_that_is_made_again_is_the_same(tiny: Prepared) -> None:
    plan = tiny.profile.space.uniform(Option("block1x4", 0.5, 8))
    first, again = tiny.recovered(plan), tiny.recovered(plan)
    assert first.network.tensors.keys() == again.network.tensors.keys()
    assert all(torch.equal(tensor, again.network.tensors[name]) for name, tensor in first.network.tensors.items())


def test_held_out_inputs_judge_the_network_as_it_is_used(tiny: Prepared) -> None:
    plan = tiny.profile.space.uniform(Option("block4x4", 0.5, 8))
    inputs = tiny.held_out
    dense, used = outputs(tiny.evaluator.dense.run, inputs), outputs(tiny.recovered(plan).run, inputs)
    assert tiny.held_out_loss(plan) == divergence(dense, used)
