"""Which cells our policies can learn, judged by a cell's description. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shopfloor.core import ACTION_CONVENTION, ActionSpec

ACTIONS = ("dx", "dy", "dz", "rx", "ry", "rz", "gripper")  # of `ee_delta_base_v1` for one arm
WORDS = ("vocabulary", "instruction_templates")


def why_not(description: Mapping[str, Any]) -> str:
    """Return why no policy of ours can be trained on a cell yet, or "" where one can.

    Args:
        description: what the cell's `describe` returns, or what a dataset recorded of it.
    """
    actions = ActionSpec.of(description, len(ACTIONS))
    if actions.convention != ACTION_CONVENTION:
        return f"its actions mean {actions.convention!r}; policies learn {ACTION_CONVENTION!r}"
    if len(actions.names) != len(ACTIONS):
        return (
            f"its actions have {len(actions.names)} components, those of several robots; policies "
            f"learn one arm, with {len(ACTIONS)}"
        )

    if not set(WORDS) <= set(description):
        return "its description names no parts and goals (`vocabulary`, `instruction_templates`)"
    return ""
