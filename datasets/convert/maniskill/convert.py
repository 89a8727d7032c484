"""ManiSkill's trajectories, in, without ManiSkill: an .h5 file and the .json beside it.

Observations get their paths as keys (`agent/qpos` becomes `agent.qpos`), pictures the names of
their cameras (`sensor_data/base_camera/rgb` becomes `base_camera`); a single vector becomes
`state`. Simulator states are `env_states`, concatenated in order of their names. Actions of several
agents are concatenated in the same way. What the numbers are is in `dataset.json`, under
`descriptions`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from shopfloor.core import EpisodeSpec
from shopfloor.datasets.convert.hdf5.foreign_hdf5 import ForeignFile
from shopfloor.datasets.convert.hdf5.foreign_rows import feature
from shopfloor.datasets.convert.incoming import Incoming
from shopfloor.datasets.convert.maniskill.arrays import (
    REWARDS,
    STATES,
    Arrays,
    ManiSkillPlan,
    Trajectory,
    outcomes,
    plan_import,
)
from shopfloor.datasets.convert.maniskill.metadata import Recording
from shopfloor.datasets.convert.options import Imported, ImportOptions
from shopfloor.datasets.disk.staging import staged_folder
from shopfloor.datasets.format.encode import Provenance
from shopfloor.datasets.format.layout import UNSPECIFIED
from shopfloor.datasets.listing.identity import identity_json

_TRAJECTORY = re.compile(r"traj_(0|[1-9][0-9]{0,18})")


def import_(path: Path, out: Path, options: ImportOptions) -> Imported:
    """Read a recording into a new dataset; only one episode is ever in memory.

    Args:
        path: the .h5, the .json, or a folder with one pair of them.
        out: the new dataset.
        options: what the source does not record; its actions are "maniskill:<control mode>"
            unless they name another convention.

    Returns:
        What was imported, and which arrays had no place.

    Raises:
        DamagedFileError, UnsafeFileError: what is wrong with it; nothing is written then.
        InvalidInputError: it cannot be held exactly, and how to go on.
    """
    recording = Recording(path)
    with staged_folder(out) as folder, ForeignFile(recording.arrays_file) as file:
        left_out = _match(recording, file)
        first = recording.episodes[0]
        name = f"traj_{first.number}"
        arrays = file.arrays(name)
        plan = plan_import(recording.arrays_file, name, arrays)
        cell = options.cell or f"maniskill/{recording.env_id or recording.file.stem}"
        about = _describe(recording, plan, arrays, cell, options) | {
            "outcomes": outcomes(arrays, first)
        }
        incoming = Incoming(folder, identity_json(about, Provenance()), options.codec)
        stateless = 0

        for listed in recording.episodes:
            trajectory = Trajectory(plan, listed, file.arrays(f"traj_{listed.number}"))
            stateless += not trajectory.same_states
            # Several episodes may begin from one seed: the number keeps their specs apart.
            recorded = {"episode": listed.number, "reset_kwargs": dict(listed.reset_kwargs)}
            spec = EpisodeSpec(cell, listed.seed, "import:maniskill", recorded, purpose="train")
            incoming.add(trajectory.episode(spec, options.instruction or "", options.cast))

        incoming.finish()

    left_out |= plan.left_out
    if stateless:
        left_out[STATES] = f"{stateless} episodes have other bodies than the first one"
    return Imported(
        incoming.episodes, incoming.steps, tuple(f"{name}: {why}" for name, why in left_out.items())
    )


def _match(recording: Recording, file: ForeignFile) -> dict[str, str]:
    """Return what the .h5 has beside trajectories, each with the reason why it is left out.

    Raises:
        DamagedFileError: its trajectories are not those that are listed.
    """
    held = set()
    others = {}
    for name in file.children():
        if _TRAJECTORY.fullmatch(name):
            held.add(name)
        else:
            others[name] = "no trajectory"

    listed = {f"traj_{episode.number}" for episode in recording.episodes}

    if listed - held:
        raise recording.damaged(
            f"it lists {_first(listed - held)}, of which {file.path.name} has nothing"
        )
    if held - listed:
        raise recording.damaged(
            f"it does not list {_first(held - listed)}, which {file.path.name} has"
        )

    return others


def _first(names: set[str]) -> str:
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"{min(names)}{more}"


def _describe(
    recording: Recording, plan: ManiSkillPlan, arrays: Arrays, cell: str, options: ImportOptions
) -> dict[str, Any]:
    """Return the description that `dataset.json` gets."""
    mode = recording.control_mode
    features = {}
    sources = {}
    for name, key in plan.keys.items():
        features[key] = feature(*plan.rows[name])
        sources[key] = name

    return {
        "cell": cell,
        "robot": recording.robot,
        "control_hz": recording.control_hz,
        "action_convention": options.action_convention
        or (f"maniskill:{mode}" if mode else UNSPECIFIED),
        "action_names": plan.names(plan.actions),
        "features": features,
        "sim_state_names": plan.names(plan.states),
        "source": {"format": "maniskill", "features": sources, **recording.source},
        "final_observation": "recorded",
        "rewards": "recorded" if REWARDS in arrays else "not recorded: zeros",
        "reasons": "timeout stands for any failure: the source does not say why",
    }
