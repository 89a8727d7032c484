"""The types every layer shares: episodes, policies, cells, and all of `errors` and `specs`.

Nothing here touches a simulator, a file or a neural network, so each layer can be read and tested
on its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from shopfloor.errors import CancelledError as CancelledError
from shopfloor.errors import DiskError as DiskError
from shopfloor.errors import InfrastructureError as InfrastructureError
from shopfloor.errors import InvalidInputError as InvalidInputError
from shopfloor.errors import MissingDependencyError as MissingDependencyError
from shopfloor.errors import ShopfloorError as ShopfloorError
from shopfloor.errors import UnknownNameError as UnknownNameError
from shopfloor.errors import install_command as install_command
from shopfloor.specs import FAILURE_REASONS as FAILURE_REASONS
from shopfloor.specs import INFRASTRUCTURE_REASONS as INFRASTRUCTURE_REASONS
from shopfloor.specs import PURPOSES as PURPOSES
from shopfloor.specs import EpisodeSpec as EpisodeSpec
from shopfloor.specs import PolicyRef as PolicyRef
from shopfloor.specs import Receipt as Receipt
from shopfloor.specs import canonical_json as canonical_json
from shopfloor.specs import listed as listed
from shopfloor.specs import listed_paths as listed_paths
from shopfloor.specs import sha256_hex as sha256_hex

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
Observation: TypeAlias = Mapping[str, Any]

ACTION_CONVENTION = "ee_delta_base_v1"
CONTROL_HZ = 20

ACTORS = ACTOR_POLICY, ACTOR_EXPERT, ACTOR_HUMAN = 0, 1, 2
STREAMS = {"cell": 0, "policy": 1, "noise": 2, "teacher": 3}


# --------------------------------------------------------------------------------------------------
# Seeds
# --------------------------------------------------------------------------------------------------


def seed_stream(seed: int, stream: str) -> np.random.Generator:
    """Return the generator of one of an episode's independent random streams.

    Args:
        seed: the episode's seed.
        stream: "cell", "policy", "noise" or "teacher".

    Returns:
        A generator seeded with ``SeedSequence([seed, k])``, k the stream's number.
    """
    return np.random.default_rng(np.random.SeedSequence([seed, STREAMS[stream]]))


# --------------------------------------------------------------------------------------------------
# Episodes
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CameraTrack:
    """Where a camera was during an episode.

    Attributes:
        intrinsics: shape (3, 3), float64, pixels.
        extrinsics: shape (T+1, 4, 4), float64, camera to world (OpenCV axes: x right, y down, z
            forward), m.
    """

    intrinsics: FloatArray
    extrinsics: FloatArray


@dataclass(frozen=True)
class Episode:
    """One whole episode of T actions.

    Attributes:
        spec: what was run.
        instruction: the text the policy was given.
        observations: key -> array of T+1 rows ("state" float32, "objects" float32, one uint8 HWC
            image per camera).
        sim_states: shape (T+1, D), float64, the simulator's full state.
        actions: shape (T, A), float32, what was executed, in [-1, 1].
        rewards: shape (T,), float32.
        outcome: "success" or "failure" (infrastructure failures give no episode).
        reason: "" for success, else one of FAILURE_REASONS.
        actor: shape (T,), uint8, 0 policy, 1 expert, 2 human.
        object_names: class name per row of "objects".
        stages: (step, stage) pairs, a pair each time the stage changed.
        label_actions: shape (T, A), float32, the teacher's command (zeros where `label_valid` is
            False).
        label_valid: shape (T,), bool.
        label_chunks: shape (T, H, A), float32, the teacher's planned chunk at each step, or None.
        decisions: shape (T,), bool, True at steps where the policy was asked for a new chunk.
        terminated: True if success or an unrecoverable failure ended the episode, False if time
            did.
        cameras: name -> where the recorded cameras were.
    """

    spec: EpisodeSpec
    instruction: str
    observations: Mapping[str, npt.NDArray[Any]]
    sim_states: FloatArray
    actions: FloatArray
    rewards: FloatArray
    outcome: str
    reason: str
    actor: npt.NDArray[np.uint8]
    object_names: tuple[str, ...]
    stages: tuple[tuple[int, str], ...]
    label_actions: FloatArray
    label_valid: npt.NDArray[np.bool_]
    decisions: npt.NDArray[np.bool_]
    terminated: bool
    label_chunks: FloatArray | None = None
    cameras: Mapping[str, CameraTrack] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Number of executed actions T."""
        return len(self.actions)

    @property
    def success(self) -> bool:
        """Whether the task was done."""
        return self.outcome == "success"


# --------------------------------------------------------------------------------------------------
# Actions
# --------------------------------------------------------------------------------------------------

# Physical units of the components of our own conventions, at full scale.
_ACTION_UNITS = {
    **dict.fromkeys(("dx", "dy", "dz"), "m"),
    **dict.fromkeys(("rx", "ry", "rz"), "rad"),
    "v": "m/s",
    "omega": "rad/s",
}


@dataclass(frozen=True)
class ActionSpec:
    """What the A components of an action mean. It belongs to the cell: see `of`.

    Attributes:
        convention: id of the meaning, such as "ee_delta_base_v1".
        names: one per component.
        units: of each component's full scale; "1" for a gripper and for what is not known.
        low: least value of each component.
        high: greatest value of each component.
        grippers: positions of the components that open and close a gripper.
        frozen: positions of the components that the cell ignores.
    """

    convention: str
    names: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    grippers: tuple[int, ...] = ()
    frozen: tuple[int, ...] = ()

    @classmethod
    def of(cls, description: Mapping[str, Any], size: int) -> ActionSpec:
        """Read the specification off what a cell's `describe` returns.

        Args:
            description: a cell's; what it lacks is derived: the convention is `ee_delta_base_v1`,
                components are named by their number, and none is frozen.
            size: number of components A.
        """
        convention = str(description.get("action_convention", ACTION_CONVENTION))
        names = tuple(
            map(str, description.get("action_names") or map("action_{}".format, range(size)))
        )
        unmoved = set(description.get("frozen_actions", ()))

        return cls(
            convention=convention,
            names=names,
            # The components of a second robot of a kind end in _2.
            units=tuple(_ACTION_UNITS.get(name.partition("_")[0], "1") for name in names),
            low=(-1.0,) * len(names),
            high=(1.0,) * len(names),
            grippers=tuple(index for index, name in enumerate(names) if "gripper" in name),
            frozen=tuple(index for index, name in enumerate(names) if name in unmoved),
        )

    @property
    def used(self) -> npt.NDArray[np.bool_]:
        """Which components the cell does not ignore, shape (A,), bool."""
        used = np.ones(len(self.names), dtype=np.bool_)
        used[list(self.frozen)] = False
        return used

    @property
    def moving(self) -> npt.NDArray[np.bool_]:
        """Which components move something: those in use that are no grippers, shape (A,), bool."""
        moving = self.used
        moving[list(self.grippers)] = False
        return moving

    def __str__(self) -> str:
        """Name the convention and the components."""
        return f"{self.convention!r} ({len(self.names)} components: {', '.join(self.names)})"


# --------------------------------------------------------------------------------------------------
# Cells
# --------------------------------------------------------------------------------------------------


@runtime_checkable
class Cell(Protocol):
    """What episodes are run in: our simulated `WorkCell`, or a real robot. `check_cell` tries one out."""

    @property
    def cell_id(self) -> str:
        """Full id with a version, such as "shopfloor/PickToTray-v0"."""

    @property
    def action_size(self) -> int:
        """Number of action components A."""

    def reset(self, *, seed: int | None = None) -> tuple[Observation, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: decides everything random in it, so that a seed names an episode; None draws one.

        Returns:
            The observation and the info: "instruction" (text for the policy), "object_names" (class
            name per row of "objects", in this episode's order), "success" (bool), "stage" (text, ""
            where there is none) and "failure" ("").
        """

    def advance(self, action: FloatArray) -> tuple[float, bool, bool, dict[str, Any]]:
        """Run one control step, 1/20 s, without looking.

        Args:
            action: shape (A,), float32, in [-1, 1], by the convention that `describe` names. Values
                beyond count as the limit. NaN or infinity must move nothing: it ends the episode
                with the failure "nonfinite_action".

        Returns:
            Reward (1.0 on the step where success first holds, else 0.0); terminated (success or an
            unrecoverable failure); truncated (time is up); the info as of `reset`, its "failure"
            one of FAILURE_REASONS where the episode ended without success.

        Raises:
            InvalidInputError: the action has another shape, or the episode has ended.
        """

    def observe(self, cameras: Sequence[str] | None = None) -> Observation:
        """Look at the current state, which changes nothing.

        Args:
            cameras: names of the pictures wanted, of those in `describe`; None for the cell's usual
                ones. No others are rendered or taken.

        Returns:
            "state", shape (S,), float32, proprioception; "objects", shape (N, 12), float32, where
            the cell knows poses: position (m), quaternion (xyzw), size (m), present, is_goal; each
            picture, shape (height, width, 3), uint8, RGB. New arrays every time.
        """

    def sim_state(self) -> FloatArray:
        """Return all that a simulator knows, shape (D,), float64; D is 0 for a real robot."""

    def camera_track(self, name: str) -> tuple[FloatArray, FloatArray]:
        """Return where a camera is now.

        Returns:
            Intrinsics, shape (3, 3), float64, pixels; pose, shape (4, 4), float64, camera to world,
            OpenCV axes (x right, y down, z forward), m.
        """

    def describe(self) -> dict[str, Any]:
        """Return plain JSON data that is written into every dataset.

        Returns:
            "cell" (the id), "robot" (name), "control_hz" (20), "features" (observation key ->
            {"shape", "dtype", "names", "units"}, cameras as of "shape" [height, width, 3]); and, as
            far as they are known, "max_episode_steps", "action_convention", "action_names",
            "frozen_actions" (see `ActionSpec.of`), "instruction_templates", "vocabulary".
        """

    def close(self) -> None:
        """Let go of the simulator or the robot."""


@runtime_checkable
class RewindableCell(Cell, Protocol):
    """A cell that can come back to an earlier state, so that recorded episodes can be rendered again."""

    def set_sim_state(self, state: FloatArray) -> None:
        """Come back to a `sim_state` of this kind of cell, shape (D,), float64.

        What is observed then is what was observed there, bit for bit.
        """


# --------------------------------------------------------------------------------------------------
# Policies
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ActionChunk:
    """A policy's answer.

    Attributes:
        actions: shape (H, A), float32, in [-1, 1], by the action convention.
        execute: how many of them to run before asking again, 1 to H.
        control_hz: rate the actions are meant for.
    """

    actions: FloatArray
    execute: int = 1
    control_hz: int = CONTROL_HZ


@dataclass(frozen=True)
class PolicyInfo:
    """What a caller must know of a policy before running it.

    Attributes:
        name: short name for people.
        digest: identifies weights and configuration; part of an episode's identity.
        cells: full ids of the cells it was made for; empty means any.
        observation_keys: the only observation entries it is handed ("state", "objects",
            "object_names", camera names).
        action_convention: id of the meaning of its actions; "" for a policy that does not say: it
            takes the cell's, as an expert does, which was written for the cell.
        image_size: (height, width) in pixels of the camera images it expects, None without cameras.
        expert: True for a demonstrator: its steps count as the expert's, its clean commands as
            labels.
    """

    name: str
    digest: str
    cells: tuple[str, ...] = ()
    observation_keys: tuple[str, ...] = ("state",)
    action_convention: str = ""
    image_size: tuple[int, int] | None = None
    expert: bool = False


@runtime_checkable
class Policy(Protocol):
    """Anything that acts: an expert, a trained network, a remote server."""

    @property
    def info(self) -> PolicyInfo:
        """Name, digest and what the policy needs."""

    def reset(self, seed: int, instruction: str) -> None:
        """Start an episode. All randomness must come from `seed`."""

    def act(self, observation: Observation) -> ActionChunk:
        """Answer an observation holding exactly the entries of `info.observation_keys`."""
