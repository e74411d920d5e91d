"""Plan: one Option for every Layer, as immutable, versioned JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import write_json
from .option import Option

SCHEMA = 1


@dataclass(frozen=True)
class Plan(Mapping[str, Option]):
    """One Option for every Layer of a Network, in the Network's order."""

    options: tuple[tuple[str, Option], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_layer", dict(self.options))

    def __hash__(self) -> int:
        value: int | None = self.__dict__.get("_hash")
        if value is None:
            value = hash(self.options)
            object.__setattr__(self, "_hash", value)
        return value

    @staticmethod
    def of(options: Mapping[str, Option]) -> Plan:
        return Plan(tuple(options.items()))

    def __getitem__(self, layer: str) -> Option:
        by_layer: dict[str, Option] = self.__dict__["_by_layer"]
        return by_layer[layer]

    def __contains__(self, layer: object) -> bool:
        return layer in self.__dict__["_by_layer"]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.options)

    def __len__(self) -> int:
        return len(self.options)

    def replace(self, changes: Mapping[str, Option]) -> Plan:
        """This Plan with the Options of some Layers changed."""
        return Plan(tuple([(name, changes.get(name, option)) for name, option in self.options]))

    @property
    def key(self) -> str:
        """A short content hash: equal Plans have equal keys, on every machine."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "layers": {name: option.to_json() for name, option in self.options}}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Plan:
        """Read what `to_json` wrote.

        Raises:
            UserError: another schema version, or not a plan at all.
        """
        if not isinstance(value, dict) or value.get("schema") != SCHEMA:
            raise UserError(f"not a plan of schema {SCHEMA}: write it again with this version of autocompress")
        try:
            return Plan(tuple((name, Option.from_json(option)) for name, option in value["layers"].items()))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UserError(f"damaged plan ({error}): write it again from its study") from error

    def save(self, path: Path) -> None:
        write_json(path, self.to_json())
