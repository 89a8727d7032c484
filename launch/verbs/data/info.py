"""`shopfloor data info`: says what a dataset holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shopfloor.launch.console import print_json
from shopfloor.launch.later import Later
from shopfloor.launch.verbs.flags import Source

reader = Later("shopfloor.datasets.reader")


@dataclass(frozen=True)
class Info:
    """Say what a dataset holds; reads no episode.

    Attributes:
        dataset: dataset folder.
        json: print one JSON document on standard output.
    """

    dataset: Source
    json: bool = False


def run(arguments: Info) -> int:
    """Print a dataset's figures."""
    found: dict[str, Any] = reader.Dataset(arguments.dataset).info()
    if arguments.json:
        print_json(found)
        return 0

    features = found.pop("features")
    for key, value in found.items():
        print(f"{key:17} {_text(value)}")
    for name, feature in features.items():
        print(f"{'feature ' + name:17} {_feature(feature)}")

    return 0


def _text(value: object) -> str:
    if isinstance(value, dict):
        value = ", ".join(f"{k} {v}" for k, v in value.items())
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return "-" if value in ("", None) else str(value)


def _feature(feature: Mapping[str, Any]) -> str:
    """Describe a feature: "float32 4 x 12: x y (m), present (1)"; equal units stand once."""
    shape = " x ".join(map(str, feature.get("shape", ())))
    names, units = feature.get("names") or [], feature.get("units") or []

    groups: list[tuple[str, list[str]]] = []
    for name, unit in zip(names, units, strict=False):
        if not groups or groups[-1][0] != unit:
            groups.append((unit, []))
        groups[-1][1].append(name)

    axes = ", ".join(" ".join(group) + (f" ({unit})" if unit else "") for unit, group in groups)
    return f"{feature.get('dtype', '?')} {shape}" + (f": {axes}" if axes else "")
