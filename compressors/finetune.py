"""Fine-tuning: train the network that a Plan means towards the dense one, and stay on the Plan's masks, grids and kernels.

The forward pass is the Candidate's own: weights on their grids, activations in their static formats; gradients pass straight
through every rounding. What is trained: the weights that the kernels store, on fixed integer grids; one factor for each output
channel, which goes into the grid's step (or into float weights); and the biases. All are counted in units of what they are when
training begins (a row's root mean square weight, a channel's spread), so that one learning rate fits Layers of all magnitudes.
Where bfloat16 is faster than float32, both networks multiply in it while one trains; what judges a Candidate never does.

References:
    [FM] Beyer et al.: Knowledge distillation: A good teacher is patient and consistent. CVPR 2022.
    [LSQ] Esser et al.: Learned Step Size Quantization. ICLR 2020.
    [SWA] Izmailov et al.: Averaging Weights Leads to Wider Optima and Better Generalization. UAI 2018.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import UserError
from ..files import replacing
from ..spaces.network import Network, Op
from ..spaces.option import BLOCKS
from .candidate import Candidate
from .distillation import TEMPERATURE, attention_loss, feature_loss, response_loss
from .pruning import block_sums, spread_blocks, to_matrix, to_weight
from .quantization import codes, to_half
from .recovery import channel_axis

#: To be raised whenever a checkpoint of the version before would mean something else.
VERSION = 3
#: Numbers that all tensors of a batch together may hold, and the batch sizes within which it is chosen by that.
_NUMBERS, _SMALLEST, _LARGEST = 1 << 27, 8, 64
#: How often in all the held-out inputs are scored, and after how many scores without improvement training stops.
CHECKS, PATIENCE = 20, 10
#: What is scored is an average of the parameters [SWA] in which a batch counts e times less after this share of the time.
MEMORY = 0.05
#: A score so many times as high as the best one sends training back to the best, with rates so many times lower.
WORSE, SLOWER = 1.05, 3.0
#: A score this share below the best one is better: less is rounding.
BETTER = 1e-4
#: Seconds between two checkpoints.
CHECKPOINT_SECONDS = 10.0

#: Called with (share of the time that is over in thousandths, 1000, what is happening).
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        weight_rate, small_rate: largest learning rate of weights, and of factors and biases, in the units of the Student.
        warm_up: share of the time in which the rates rise; they fall to zero along a cosine.
        temperature: of the response loss; by default that at which Plans are judged.
        features, attention: weights of the mean feature loss, and of the mean attention loss, beside the response loss.
        seed: of the order of the inputs and of their augmentation.
    """

    weight_rate: float = 3e-3
    small_rate: float = 3e-3
    warm_up: float = 0.05
    temperature: float = TEMPERATURE
    features: float = 50.0
    attention: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Lesson:
    """What is trained, towards what, on what.

    Attributes:
        teacher: the dense fp32 network.
        start: the Candidate to improve.
        rows: the teacher's output channels which the Candidate still has, for every Layer that has lost some.
        training: unlabelled inputs: a tensor, or an iterable of batches, which is begun again when it ends.
        loss: what a Candidate is judged by, on inputs that are not trained on.
    """

    teacher: Candidate
    start: Candidate
    rows: Mapping[str, Tensor]
    training: Tensor | Iterable[Tensor]
    loss: Callable[[Candidate], float]


@dataclass(frozen=True)
class Finetuned:
    """The outcome.

    Attributes:
        candidate: the best one that was seen, judged by `Lesson.loss`; the one given, if none was better.
        improved: whether it is another than the one given.
        loss_before, loss_after: of the given and of the best one.
        minutes: time spent, all runs together.
        steps: batches trained on.
    """

    candidate: Candidate
    improved: bool
    loss_before: float
    loss_after: float
    minutes: float
    steps: int


def finetune(lesson: Lesson, minutes: float, checkpoint: Path, progress: Progress, recipe: Recipe = Recipe()) -> Finetuned:
    """Train for `minutes`, those of earlier runs with the same `checkpoint` counted.

    A checkpoint is written every ten seconds and at every improvement: a run that was killed goes on from there when it is called
    again. One of another Candidate, Recipe or version is not used. It stays when training is over: the same call then returns
    at once, and a call with more minutes trains on.

    Raises:
        UserError: no time, no training inputs, or the checkpoint cannot be written.
    """
    if not (math.isfinite(minutes) and minutes > 0):
        raise UserError(f"--finetune {minutes:g} leaves no time to train: ask for more than 0 minutes.")
    run = _Run(lesson, recipe, checkpoint)
    run.train(60.0 * minutes, progress)
    return run.outcome()


class _Run:
    """Training, and all that a checkpoint holds of it."""

    def __init__(self, lesson: Lesson, recipe: Recipe, path: Path) -> None:
        self._lesson = lesson
        self._recipe = recipe
        self._path = path
        self._size = batch_size(lesson.start.network)
        self._generator = torch.Generator().manual_seed(recipe.seed)
        self._batches = batches(lesson.training, self._size, self._generator)
        self._first = next(self._batches)
        self._student = Student.of(lesson.start, self._first)
        self._features = feature_layers(lesson.start)
        weights = [value for name, value in self._student.parameters.items() if name.endswith(".weight")]
        others = [value for name, value in self._student.parameters.items() if not name.endswith(".weight")]
        groups = [{"params": weights, "peak": recipe.weight_rate}, {"params": others, "peak": recipe.small_rate}]
        self._optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
        self._key = _key(lesson.start, recipe)
        self._steps = 0
        self._seconds = 0.0
        self._before = self._lowest = math.nan
        self._idle = 0
        self._checked = 0.0
        self._rate, self._risen_from = 1.0, 0.0
        self._average = _copies(self._student.parameters)
        self._best: dict[str, Tensor] = {}
        if not self._restore():
            self._before = self._lowest = lesson.loss(lesson.start)

    def outcome(self) -> Finetuned:
        """The best so far."""
        candidate = self._lesson.start
        if self._best:
            with torch.no_grad():
                candidate = replace(self._student, parameters=self._best).candidate()
        return Finetuned(candidate, bool(self._best), self._before, self._lowest, self._seconds / 60.0, self._steps)

    def train(self, seconds: float, progress: Progress) -> None:
        """Go on until so many seconds of training are over in all, or nothing improves any more."""
        saved = time.monotonic()
        while self._seconds < seconds and not self._stuck:
            begun = time.monotonic()
            share = self._seconds / seconds
            progress(int(1000 * share), 1000, self._story)
            value = self._step(share)
            passed = time.monotonic() - begun
            self._seconds += passed
            improved = False
            if not math.isfinite(value):
                break
            self._remember(passed / seconds)
            if self._seconds >= min(self._checked + seconds / CHECKS, seconds):
                improved = self._check(self._seconds / seconds)
            if improved or time.monotonic() > saved + CHECKPOINT_SECONDS:
                self._save()
                saved = time.monotonic()
        self._save()
        progress(1000, 1000, self._story)

    @property
    def _stuck(self) -> bool:
        """Whether the last scores were all no better than the best one before them."""
        return self._idle >= PATIENCE

    @property
    def _story(self) -> str:
        return f"held-out loss {self._before:.3g} to {self._lowest:.3g}"

    def _step(self, share: float) -> float:
        """Train on one batch with the learning rates after the `share` of the time; return the loss."""
        recipe, lesson = self._recipe, self._lesson
        rate = self._rate * min((share - self._risen_from) / recipe.warm_up, 1.0) * (1.0 + math.cos(math.pi * share)) / 2.0
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        x = augment(next(self._batches), self._generator)
        x = x.contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.contiguous_format)
        wanted, found = _Inner(self._features, lesson.rows), _Inner(self._features, {})
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_bfloat16()):
            with torch.no_grad():
                wanted_answer = lesson.teacher.run(x, wanted)
            answer = self._student.candidate().run(x, found)
        loss = response_loss(wanted_answer, answer, recipe.temperature)
        if recipe.features:
            loss = loss + recipe.features * _mean(feature_loss, wanted, found)
        if recipe.attention:
            loss = loss + recipe.attention * _mean(attention_loss, wanted, found)
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        self._optimizer.step()
        self._steps += 1
        return float(loss.detach())

    def _remember(self, share: float) -> None:
        """Let the parameters after a step that took a share of the time into the average."""
        with torch.no_grad():
            for name, value in self._student.parameters.items():
                self._average[name].lerp_(value, 1.0 - math.exp(-share / MEMORY))

    def _check(self, share: float) -> bool:
        """Score what has been learned; whether it is better than all before. What is clearly worse is undone."""
        with torch.no_grad():
            loss = self._lesson.loss(replace(self._student, parameters=self._average).candidate())
        improved = loss < (1.0 - BETTER) * self._lowest
        self._idle = 0 if improved else self._idle + 1
        if improved:
            self._lowest = loss
            self._best = _copies(self._average)
        elif not loss <= WORSE * self._lowest:
            self._go_back(share)
        self._checked = self._seconds
        return improved

    def _go_back(self, share: float) -> None:
        """To the best parameters, with lower rates. Which rates a network bears is not known beforehand."""
        best = self._best or Student.of(self._lesson.start, self._first).parameters
        with torch.no_grad():
            for name, value in self._student.parameters.items():
                value.copy_(best[name])
        self._average = _copies(best)
        self._optimizer.state.clear()
        self._rate, self._risen_from = self._rate / SLOWER, share

    def _save(self) -> None:
        tensors = {f"now.{name}": value.detach() for name, value in self._student.parameters.items()}
        tensors |= {f"average.{name}": value for name, value in self._average.items()}
        tensors |= {f"best.{name}": value for name, value in self._best.items()}
        for number, state in self._optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{number}.{what}": value for what, value in state.items()}
        tensors["generator"] = self._generator.get_state()
        story = {"steps": self._steps, "seconds": self._seconds, "before": self._before, "checked": self._checked}
        story |= {"lowest": self._lowest, "idle": self._idle, "rate": self._rate, "risen_from": self._risen_from}
        with replacing(self._path) as temporary:
            save_file(tensors, temporary, {"key": self._key, "story": json.dumps(story)})

    def _restore(self) -> bool:
        """Go on from the checkpoint, if there is one of this training; a file that is something else is not used."""
        stored = _load(self._path, self._key)
        if stored is None:
            return False
        story, tensors = stored
        with torch.no_grad():
            for name, value in self._student.parameters.items():
                value.copy_(tensors[f"now.{name}"])
        self._average = {name: tensors[f"average.{name}"] for name in self._student.parameters}
        self._best = {name.removeprefix("best."): value for name, value in tensors.items() if name.startswith("best.")}
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("adam."):
                _, number, what = name.split(".")
                state.setdefault(int(number), {})[what] = value
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": state})
        self._generator.set_state(tensors["generator"])
        self._steps, self._seconds = story["steps"], story["seconds"]
        self._before, self._checked = story["before"], story["checked"]
        self._lowest, self._idle = story["lowest"], story["idle"]
        self._rate, self._risen_from = story["rate"], story["risen_from"]
        return True


@dataclass(frozen=True)
class Student:
    """What is trained of a Candidate.

    Attributes:
        start: the Candidate when training begins.
        masks: by Layer, bool, True where a weight is stored: only there may it differ from zero.
        weight_units, bias_units: by Layer and output channel, what its latent weights and its bias are counted in.
        parameters: `<layer>.weight` (latent weights), `<layer>.gain` (logarithm of each output channel's factor), `<layer>.bias`
            (difference to the start); they want gradients.
    """

    start: Candidate
    masks: Mapping[str, Tensor]
    weight_units: Mapping[str, Tensor]
    bias_units: Mapping[str, Tensor]
    parameters: Mapping[str, Tensor]

    @staticmethod
    def of(candidate: Candidate, inputs: Tensor) -> Student:
        """The Student that begins as `candidate`; `inputs`, shape (batch, ...), tell how far its channels spread."""
        # What was made in inference mode cannot take part in training.
        tensors = {name: tensor.clone() for name, tensor in candidate.network.tensors.items()}
        scales = {name: scale.clone() for name, scale in candidate.scales.items()}
        candidate = replace(candidate, network=replace(candidate.network, tensors=tensors), scales=scales)
        spreads = output_spreads(candidate, inputs)
        masks, weight_units, bias_units, parameters = {}, {}, {}, {}
        for layer in candidate.plan:
            weight = candidate.network.tensors[f"{layer}.weight"]
            mask = stored_mask(candidate, layer)
            rows = weight.square().flatten(1).sum(1) / mask.flatten(1).sum(1).clamp_min(1)
            unit = _per_row(_positive(rows.sqrt()), weight)
            masks[layer], weight_units[layer], bias_units[layer] = mask, unit, spreads[layer]
            parameters[f"{layer}.weight"] = (weight / unit).requires_grad_()
            parameters[f"{layer}.gain"] = torch.zeros(len(weight)).requires_grad_()
            parameters[f"{layer}.bias"] = torch.zeros(len(weight)).requires_grad_()
        return Student(candidate, masks, weight_units, bias_units, parameters)

    def candidate(self) -> Candidate:
        """The Candidate that the parameters mean; differentiable unless gradients are switched off."""
        tensors, scales = dict(self.start.network.tensors), dict(self.start.scales)
        for layer, option in self.start.plan.items():
            gain = self.parameters[f"{layer}.gain"].exp()
            latent = self.parameters[f"{layer}.weight"] * self.weight_units[layer] * self.masks[layer]
            if option.bits <= 8:
                scales[layer] = self.start.scales[layer] * gain
                integers = codes(latent, _per_row(self.start.scales[layer], latent), option.bits)
                weight = integers * _per_row(scales[layer], latent)
            else:
                weight = latent * _per_row(gain, latent)
                weight = to_half(weight) if option.bits == 16 else weight
            tensors[f"{layer}.weight"] = weight
            moved = self.parameters[f"{layer}.bias"] * self.bias_units[layer]
            tensors[f"{layer}.bias"] = self.start.network.tensors[f"{layer}.bias"] + moved
        return replace(self.start, network=replace(self.start.network, tensors=tensors), scales=scales)


def _copies(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in parameters.items()}


class _Inner:
    """A `Correct` function that changes nothing and keeps the outputs of some Layers, in real numbers.

    Args:
        layers: whose outputs are kept.
        rows: the channels that are kept of those which have too many.
    """

    def __init__(self, layers: frozenset[str], rows: Mapping[str, Tensor]) -> None:
        self._layers = layers
        self._rows = rows
        self.outputs: dict[str, Tensor] = {}

    def __call__(self, op: Op, output: Tensor, scale: float) -> Tensor:
        if op.name in self._layers:
            real = output * scale  # also a copy: what goes on is changed in place
            rows = self._rows.get(op.name)
            self.outputs[op.name] = real if rows is None else real.index_select(channel_axis(op, real), rows)
        return output


def _mean(loss: Callable[[Tensor, Tensor], Tensor], wanted: _Inner, found: _Inner) -> Tensor:
    """The mean of a loss over all Layers that were kept; attention is compared where there are positions to attend to."""
    names = [name for name, value in found.outputs.items() if loss is not attention_loss or value.ndim == 4]
    values = [loss(wanted.outputs[name], found.outputs[name]) for name in names]
    return torch.stack(values).mean() if values else torch.zeros(())


def fast_bfloat16() -> bool:
    """Whether this CPU has instructions that multiply bfloat16 faster than float32, and torch uses them.

    Of x86; those of Arm are left out until somebody has timed training on them.
    """
    told: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # old releases of torch do not tell
    return any(told.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def feature_layers(candidate: Candidate) -> frozenset[str]:
    """The Layers whose outputs are compared with the dense network's: those without an activation, which end blocks and are
    narrow; all, where there are none. The network's last op is compared by its response.
    """
    inner = [layer for layer in candidate.plan if layer != candidate.network.output]
    linear = [layer for layer in inner if candidate.network.op(layer).activation.name == "none"]
    return frozenset(linear or inner)


def batch_size(network: Network) -> int:
    """Inputs in a training batch: more for small networks, whose steps are cheap."""
    each = sum(math.prod(shape) for shape in network.shapes.values())
    return min(_LARGEST, max(_SMALLEST, _NUMBERS // each))


def batches(training: Tensor | Iterable[Tensor], size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Batches of at most `size` inputs without end: of a tensor in a new random order every time, of an iterable in its own.

    Raises:
        UserError: there are no inputs.
    """
    while True:
        empty = True
        parts = (
            (training[order] for order in _orders(len(training), size, generator)) if isinstance(training, Tensor) else training
        )
        for part in parts:
            for batch in torch.split(part, size):
                if len(batch):
                    empty = False
                    yield batch
        if empty:
            raise UserError("there are no training inputs: give the task some, or some calibration inputs more.")


def _orders(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """A random order of `count` inputs in parts of `size`; what is left over is left out, unless it is all there is."""
    order = torch.randperm(count, generator=generator)
    yield from torch.split(order[: count // size * size] if count >= size else order, size)


def _key(start: Candidate, recipe: Recipe) -> str:
    """A hash of what a checkpoint belongs to: the Candidate with its weights and formats, and the Recipe."""
    formats = {name: asdict(quantizer) for name, quantizer in start.quantizers.items()}
    digest = hashlib.sha256(repr((VERSION, start.plan.key, asdict(recipe), sorted(formats.items()))).encode())
    for name, tensor in sorted(
        {**start.network.tensors, **{f"{name}.step": scale for name, scale in start.scales.items()}}.items()
    ):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _load(path: Path, key: str) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """The story and the tensors of a checkpoint; None when there is none with that key."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            if metadata.get("key") != key:
                return None
            return json.loads(metadata["story"]), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"the checkpoint {path} is damaged ({error}). Remove it: training begins anew.") from error


def stored_mask(candidate: Candidate, layer: str) -> Tensor:
    """The weights of a Layer that its kernel stores, bool, shape as the weight: every block that is not all zero, as a whole."""
    weight, structure = candidate.network.tensors[f"{layer}.weight"], candidate.plan[layer].structure
    if structure not in BLOCKS:
        return torch.ones_like(weight, dtype=torch.bool)
    op = candidate.network.op(layer)
    if op.kind == "conv2d" and op.attributes["groups"] > 1:
        # The kernels lay out groups as blocks of one matrix: which weights share a block is theirs to know.
        return weight != 0
    matrix = to_matrix(weight)
    kept = block_sums((matrix != 0).float(), structure, weight.shape[1]) > 0
    return to_weight(spread_blocks(kept, structure, matrix.shape[1], weight.shape[1]), tuple(weight.shape))


def output_spreads(candidate: Candidate, inputs: Tensor) -> dict[str, Tensor]:
    """Standard deviation of every Layer's output channels before the activation, in real numbers; shape (channels,)."""
    spreads: dict[str, Tensor] = {}

    def record(op: Op, output: Tensor, scale: float) -> Tensor:
        channels = channel_axis(op, output)
        deviation = output.std([axis for axis in range(output.ndim) if axis != channels], correction=0)
        spreads[op.name] = _positive(deviation * scale)
        return output

    with torch.no_grad():
        candidate.run(inputs, record)
    return spreads


def augment(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Other inputs like these, which both networks will see [FM]: images are mirrored, and shifted by up to a 16th of their size.

    Args:
        inputs: shape (batch, ...); of shape (batch, channels, height, width) they are images.
    """
    if inputs.ndim != 4:
        return inputs
    samples, _, height, width = inputs.shape
    most = (height // 16, width // 16)
    padded = F.pad(inputs, (most[1], most[1], most[0], most[0]), mode="replicate")
    tops = torch.randint(0, 2 * most[0] + 1, (samples,), generator=generator).tolist()
    lefts = torch.randint(0, 2 * most[1] + 1, (samples,), generator=generator).tolist()
    mirrored = (torch.rand(samples, generator=generator) < 0.5).tolist()
    parts = []
    for image, top, left, mirror in zip(padded, tops, lefts, mirrored, strict=True):
        part = image[:, top : top + height, left : left + width]
        parts.append(part.flip(2) if mirror else part)
    return torch.stack(parts)


def _per_row(values: Tensor, weight: Tensor) -> Tensor:
    return values.view(-1, *[1] * (weight.ndim - 1))


def _positive(values: Tensor) -> Tensor:
    """`values` with those near zero raised to a thousandth of their mean: units to count in."""
    return values.clamp_min(max(1e-3 * float(values.mean()), 1e-6))
