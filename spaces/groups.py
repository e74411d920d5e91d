"""Groups: Layers whose channels can only be removed together."""

from __future__ import annotations

from dataclasses import dataclass

from .network import Network


@dataclass(frozen=True)
class Span:
    """Where a Group's channels lie in one op: channel c is `offset + c * repeat` up to `+ repeat` of its channels.

    `repeat` is above 1 behind a flatten, where one channel becomes height * width features.
    """

    op: str
    offset: int = 0
    repeat: int = 1


@dataclass(frozen=True)
class Group:
    """Channels that are removed together.

    Attributes:
        name: the first producer's.
        channels: how many there are.
        producers: Layers (depthwise ones included) whose output channels these are, with where they lie in the output.
        consumers: Layers that read them as input channels, with where they lie in the input. Depthwise Layers of the
            chain are producers only.
        members: other ops with one parameter per channel (affine), with where the channels lie.
        frozen: why the channels cannot be removed (they are the network's output, or a reshape mixes them), else "".
    """

    name: str
    channels: int
    producers: tuple[Span, ...]
    consumers: tuple[Span, ...]
    members: tuple[Span, ...] = ()
    frozen: str = ""


def find_groups(network: Network) -> tuple[Group, ...]:
    """All Groups of `network`: every Layer is a producer in at least one."""
    raise NotImplementedError
