"""One episode: a policy acts in a cell, a teacher may label its steps or take over, everything is recorded."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shopfloor.collectors.executors import signals
from shopfloor.collectors.noise import MotionNoise
from shopfloor.core import (
    ACTOR_EXPERT,
    ACTOR_POLICY,
    CONTROL_HZ,
    FAILURE_REASONS,
    ActionChunk,
    ActionSpec,
    CameraTrack,
    Episode,
    EpisodeSpec,
    FloatArray,
    InfrastructureError,
    InvalidInputError,
    Observation,
    Policy,
    ShopfloorError,
    listed,
    seed_stream,
)

if TYPE_CHECKING:
    from shopfloor.envs.cell import WorkCell

logger = logging.getLogger(__name__)

# HG-DAgger: the teacher takes over where the running deviation (mean over the axes in use of
# |policy - teacher|, in full actions, averaged exponentially over steps) passes the threshold, for
# some of the policy's decisions.
DEVIATION_THRESHOLD = 0.5
DEVIATION_MEMORY = 0.5
TAKEOVER_DECISIONS = 6

NUMBERS = ("state", "objects")
NAMES = "object_names"


class EpisodeFaultError(InfrastructureError):
    """The cell, not the policy, failed: the episode is dropped and tried again.

    Attributes:
        reason: "env_crash" or "nonfinite_obs".
    """

    def __init__(self, reason: str, message: str) -> None:
        """Remember the reason code."""
        super().__init__(message)
        self.reason = reason


class _PolicyFailure(Exception):  # noqa: N818  # an outcome, not an error
    """The policy's fault ends the episode: a failure with a reason."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def rollout(
    cell: WorkCell,
    policy: Policy,
    spec: EpisodeSpec,
    *,
    teacher: Policy | None = None,
    record_cameras: Sequence[str] = (),
) -> Episode:
    """Run one episode of a spec and return all of it.

    The policy sees only the entries its `info.observation_keys` names; images are rendered only
    where a new chunk is asked for or a camera is recorded. A wrong or non-finite answer never
    reaches the simulator: it ends the episode as a failure of the policy.

    Args:
        cell: the cell the spec names, with the spec's options and variation; it is reset here.
        policy: acts.
        spec: what to run; its seed drives all random streams.
        teacher: labels every step, and with ``spec.intervention == "expert"`` takes over on
            deviation.
        record_cameras: cameras whose pictures are stored, one each observation.

    Returns:
        The episode, success or failure.

    Raises:
        InvalidInputError: if policy, teacher, cell and spec do not fit together.
        EpisodeFaultError: if the cell crashes or observes non-finite numbers.
        CancelledError: if a signal asked to stop.
    """
    cameras = listed(record_cameras)
    _check_fit(cell, policy, spec, teacher, cameras)
    return _Run(cell, policy, spec, teacher, cameras).finish()


@dataclass
class _Record:
    """What has happened so far: one entry an observation, one entry an action."""

    observations: dict[str, list[npt.NDArray[Any]]] = field(default_factory=dict)
    sim_states: list[FloatArray] = field(default_factory=list)
    intrinsics: dict[str, FloatArray] = field(default_factory=dict)
    extrinsics: dict[str, list[FloatArray]] = field(default_factory=dict)
    stages: list[tuple[int, str]] = field(default_factory=list)
    actions: list[FloatArray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    actor: list[int] = field(default_factory=list)
    labels: list[FloatArray | None] = field(default_factory=list)
    decisions: list[bool] = field(default_factory=list)


class _Run:
    """One running episode."""

    def __init__(
        self,
        cell: WorkCell,
        policy: Policy,
        spec: EpisodeSpec,
        teacher: Policy | None,
        cameras: tuple[str, ...],
    ) -> None:
        self.cell, self.policy, self.spec, self.teacher, self.cameras = (
            cell,
            policy,
            spec,
            teacher,
            cameras,
        )
        self.record = _Record()
        actions = ActionSpec.of(cell.describe(), cell.action_size)
        self.axes = actions.used
        self.noise = MotionNoise(seed_stream(spec.seed, "noise"), spec.action_noise, actions.moving)
        self.queue: list[FloatArray] = []
        self.takeover = 0  # steps the teacher still acts
        self.takeover_steps = TAKEOVER_DECISIONS
        self.deviation = 0.0
        self.own_labels = policy.info.expert and spec.action_noise > 0 and teacher is None

    def finish(self) -> Episode:
        """Run to the end and put the episode together."""
        with self._blame_cell("reset"):
            _, info = self.cell.reset(seed=self.spec.seed)
        self.instruction, self.object_names = str(info["instruction"]), tuple(info["object_names"])
        self._note_stage(info)
        outcome, reason, terminated = "", "", False
        try:
            self._reset_policies()
            while not outcome:
                signals.check()
                observation = self._observe()
                action, actor, label, asked = self._decide(observation)
                with self._blame_cell("step"):
                    reward, terminated, truncated, info = self.cell.advance(action)
                self._note_step(action, float(reward), actor, label, asked)
                self._note_stage(info)
                if terminated or truncated:
                    outcome, reason = self._outcome(info, bool(truncated))
            self._observe(ended=True)
        except _PolicyFailure as failure:
            logger.warning(
                "%s, seed %d, step %d: %s", self.spec.cell, self.spec.seed, self._steps, failure
            )
            outcome, reason, terminated = "failure", failure.reason, True
            if len(self.record.sim_states) == self._steps:
                self._observe(ended=True)
        return self._episode(outcome, reason, bool(terminated))

    @property
    def _steps(self) -> int:
        return len(self.record.actions)

    # -- the policies ------------------------------------------------------------------------------

    def _reset_policies(self) -> None:
        with _blame_policy():
            self.policy.reset(self.spec.seed, self.instruction)
        if self.teacher is not None and self.teacher is not self.policy:
            self.teacher.reset(self.spec.seed, self.instruction)

    def _asks_policy(self) -> bool:
        return not self.takeover and (not self.queue or self.own_labels)

    def _decide(self, observation: Observation) -> tuple[FloatArray, int, FloatArray | None, bool]:
        """Return the action to execute, who commands it, the teacher's chunk, and whether the policy was asked."""
        chunk = None
        asked = self._asks_policy()
        if asked:
            chunk = self._ask(observation)
            self.queue = list(chunk.actions[: chunk.execute])
            self.takeover_steps = TAKEOVER_DECISIONS * chunk.execute
        label = chunk.actions if chunk is not None and self.own_labels else self._label(observation)
        if label is not None and not self.takeover and self.spec.intervention == "expert":
            self._judge(self.queue[0], label[0])
        if self.takeover and label is not None:
            self.takeover -= 1
            self.queue = []
            command, actor = label[0], ACTOR_EXPERT
        else:
            command, actor = (
                self.queue.pop(0),
                ACTOR_EXPERT if self.policy.info.expert else ACTOR_POLICY,
            )
        return self.noise.perturb(command), actor, label, asked

    def _ask(self, observation: Observation) -> ActionChunk:
        with _blame_policy():
            reply = self.policy.act(_entries(observation, self.policy))
        return _checked(reply, self.cell.action_size)

    def _label(self, observation: Observation) -> FloatArray | None:
        if self.teacher is None:
            return None
        try:
            return _checked(
                self.teacher.act(_entries(observation, self.teacher)), self.cell.action_size
            ).actions
        except _PolicyFailure as failure:
            raise InfrastructureError(f"Teacher {self.teacher.info.name!r}: {failure}") from failure

    def _judge(self, action: FloatArray, label: FloatArray) -> None:
        """Let the teacher take over where the policy has strayed for too long."""
        distance = float(np.mean(np.abs(action - label)[self.axes]))
        self.deviation = DEVIATION_MEMORY * self.deviation + (1 - DEVIATION_MEMORY) * distance
        if self.deviation > DEVIATION_THRESHOLD:
            self.takeover, self.deviation = self.takeover_steps, 0.0

    # -- the cell ----------------------------------------------------------------------------------

    def _observe(self, ended: bool = False) -> Observation:
        """Observe with the pictures that are needed now, and record."""
        wanted = set(self.cameras)
        for policy, asks in ((self.policy, self._asks_policy()), (self.teacher, True)):
            if policy is not None and asks and not ended:
                wanted.update(
                    key for key in policy.info.observation_keys if key not in (*NUMBERS, NAMES)
                )
        with self._blame_cell("observe"):
            observation = dict(self.cell.observe(sorted(wanted)))
            sim_state = np.array(self.cell.sim_state(), dtype=np.float64)
            tracks = {name: self.cell.camera_track(name) for name in self.cameras}
        numbers = {
            key: np.array(observation[key], dtype=np.float32)
            for key in NUMBERS
            if key in observation
        }
        checked: dict[str, FloatArray] = {**numbers, "sim_state": sim_state}
        for key, value in checked.items():
            if not np.isfinite(value).all():
                raise EpisodeFaultError(
                    "nonfinite_obs", self._where(f"{key} has non-finite numbers")
                )
        kept: dict[str, npt.NDArray[Any]] = {**numbers}
        kept |= {name: np.array(observation[name], dtype=np.uint8) for name in self.cameras}
        for key, value in kept.items():
            self.record.observations.setdefault(key, []).append(value)
        self.record.sim_states.append(sim_state)
        for name, (intrinsics, extrinsics) in tracks.items():
            self.record.intrinsics[name] = np.array(intrinsics, dtype=np.float64)
            self.record.extrinsics.setdefault(name, []).append(
                np.array(extrinsics, dtype=np.float64)
            )
        return {**observation, NAMES: self.object_names}

    @contextlib.contextmanager
    def _blame_cell(self, doing: str) -> Iterator[None]:
        try:
            yield
        except ShopfloorError:
            raise
        except Exception as error:
            raise EpisodeFaultError(
                "env_crash", self._where(f"{doing} raised {type(error).__name__}: {error}")
            ) from error

    def _where(self, what: str) -> str:
        return f"{self.spec.cell}, seed {self.spec.seed}, step {self._steps}: {what}"

    # -- the record --------------------------------------------------------------------------------

    def _note_step(
        self, action: FloatArray, reward: float, actor: int, label: FloatArray | None, asked: bool
    ) -> None:
        self.record.actions.append(action)
        self.record.rewards.append(reward)
        self.record.actor.append(actor)
        self.record.labels.append(label)
        self.record.decisions.append(asked)

    def _note_stage(self, info: dict[str, Any]) -> None:
        stage = str(info.get("stage", ""))
        if not self.record.stages or self.record.stages[-1][1] != stage:
            self.record.stages.append((self._steps, stage))

    def _outcome(self, info: dict[str, Any], truncated: bool) -> tuple[str, str]:
        if info["success"]:
            return "success", ""
        reason = info.get("failure") or ("timeout" if truncated else "")
        if reason not in FAILURE_REASONS:
            raise EpisodeFaultError(
                "env_crash", self._where(f"the cell ended the episode with reason {reason!r}")
            )
        return "failure", str(reason)

    def _episode(self, outcome: str, reason: str, terminated: bool) -> Episode:
        record, size = self.record, self.cell.action_size
        labels = [label for label in record.labels if label is not None]
        horizon = len(labels[0]) if labels else 0
        if any(len(label) != horizon for label in labels):
            raise InfrastructureError(self._where("the teacher's chunks have different lengths"))
        chunks = np.zeros((self._steps, horizon, size), dtype=np.float32)
        for step, label in enumerate(record.labels):
            if label is not None:
                chunks[step] = label
        return Episode(
            spec=self.spec,
            instruction=self.instruction,
            observations={key: np.stack(rows) for key, rows in record.observations.items()},
            sim_states=np.stack(record.sim_states),
            actions=np.array(record.actions, dtype=np.float32).reshape(self._steps, size),
            rewards=np.array(record.rewards, dtype=np.float32),
            outcome=outcome,
            reason=reason,
            actor=np.array(record.actor, dtype=np.uint8),
            object_names=self.object_names,
            stages=tuple(record.stages),
            label_actions=chunks[:, 0]
            if labels
            else np.zeros((self._steps, size), dtype=np.float32),
            label_valid=np.array([label is not None for label in record.labels], dtype=np.bool_),
            decisions=np.array(record.decisions, dtype=np.bool_),
            terminated=terminated,
            label_chunks=chunks if labels else None,
            cameras={
                name: CameraTrack(record.intrinsics[name], np.stack(record.extrinsics[name]))
                for name in self.cameras
            },
        )


def _check_fit(
    cell: WorkCell,
    policy: Policy,
    spec: EpisodeSpec,
    teacher: Policy | None,
    record_cameras: Sequence[str],
) -> None:
    if cell.cell_id != spec.cell:
        raise InvalidInputError(f"The cell is {cell.cell_id!r} but the spec names {spec.cell!r}.")
    for role, actor, digest in (
        ("policy", policy, spec.policy_digest),
        ("teacher", teacher, spec.teacher_digest),
    ):
        if (actor.info.digest if actor is not None else "") != digest:
            raise InvalidInputError(
                f"The {role}'s digest is not the spec's {digest!r}; build the spec from its info."
            )
        if actor is not None:
            check_policy(actor, role, cell)
    if (teacher is None) != (spec.intervention == "none"):
        raise InvalidInputError(
            f"Intervention is {spec.intervention!r} {'without' if teacher is None else 'with'} a teacher; "
            "expected 'none' without one and 'expert' or 'label' with one."
        )
    if len(set(record_cameras)) != len(record_cameras):
        raise InvalidInputError(f"Cameras {list(record_cameras)} name one twice.")


def check_policy(policy: Policy, role: str, cell: WorkCell) -> None:
    """Refuse a policy made for another cell, action convention or set of observations, before anything runs."""
    info = policy.info
    if info.cells and cell.cell_id not in info.cells:
        raise InvalidInputError(
            f"The {role} {info.name!r} was made for {', '.join(info.cells)}, not {cell.cell_id}."
        )
    description = cell.describe()
    actions = ActionSpec.of(description, cell.action_size)
    if info.action_convention not in ("", actions.convention):
        raise InvalidInputError(
            f"The {role} {info.name!r} answers actions of the convention "
            f"{info.action_convention!r}; {cell.cell_id} takes {actions}. Choose a policy that was "
            "made for this cell."
        )
    known = {*description["features"], NAMES}
    missing = [key for key in info.observation_keys if key not in known]
    if missing:
        raise InvalidInputError(
            f"The {role} {info.name!r} needs {', '.join(missing)}; {cell.cell_id} has {', '.join(sorted(known))}."
        )


@contextlib.contextmanager
def _blame_policy() -> Iterator[None]:
    """Turn a policy's exception into a failure of the policy; errors with a cause of their own pass."""
    try:
        yield
    except (ShopfloorError, MemoryError):
        raise
    except TimeoutError as error:
        raise _PolicyFailure(
            "policy_timeout", f"the policy did not answer in time: {error}"
        ) from error
    except Exception as error:
        logger.debug("the policy raised", exc_info=True)
        raise _PolicyFailure(
            "policy_bad_reply", f"the policy raised {type(error).__name__}: {error}"
        ) from error


def _entries(observation: Observation, policy: Policy) -> dict[str, Any]:
    """Copy just the entries a policy asks for, so that it can neither see nor change anything else."""
    missing = [key for key in policy.info.observation_keys if key not in observation]
    if missing:
        raise InvalidInputError(
            f"Policy {policy.info.name!r} needs {', '.join(missing)}; it sees {', '.join(sorted(observation))}. "
            "Make the cell with privileged=True to see the objects."
        )
    entries = {key: observation[key] for key in policy.info.observation_keys}
    return {key: np.array(value) if key != NAMES else value for key, value in entries.items()}


def _checked(reply: Any, action_size: int) -> ActionChunk:  # noqa: ANN401  # whatever a policy answers
    """Return a policy's answer as a sound chunk: float32, clipped to [-1, 1]; anything else is the policy's failure."""
    if not isinstance(reply, ActionChunk):
        raise _PolicyFailure(
            "policy_bad_reply", f"the policy answered a {type(reply).__name__}, not an ActionChunk"
        )
    try:
        actions = np.asarray(reply.actions)
        numeric = actions.dtype.kind in "fiu"
    except Exception:  # anything can be in there
        numeric = False
    if not numeric or actions.ndim != 2 or actions.shape[0] < 1 or actions.shape[1] != action_size:
        shape = f"{actions.dtype} {actions.shape}" if numeric else "no array of numbers"
        raise _PolicyFailure(
            "policy_bad_reply", f"actions are {shape}; expected numbers (H >= 1, {action_size})"
        )
    if isinstance(reply.execute, bool) or not isinstance(reply.execute, int | np.integer):
        raise _PolicyFailure(
            "policy_bad_reply", f"execute is {reply.execute!r}; expected an integer"
        )
    if not 1 <= reply.execute <= len(actions):
        raise _PolicyFailure(
            "policy_bad_reply", f"execute is {reply.execute}; expected 1 to {len(actions)}"
        )
    if reply.control_hz != CONTROL_HZ:
        raise _PolicyFailure(
            "policy_bad_reply", f"the chunk is for {reply.control_hz} Hz; expected {CONTROL_HZ}"
        )
    with np.errstate(over="ignore"):
        actions = actions.astype(np.float32)
    if not np.isfinite(actions).all():
        raise _PolicyFailure("nonfinite_action", "the policy answered non-finite actions")
    return ActionChunk(np.clip(actions, -1.0, 1.0), int(reply.execute), CONTROL_HZ)
