"""One episode: a policy acts in a cell, a teacher may label its steps or take over, everything is recorded."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.collectors.chunks import ChunkQueue, PolicyFailure, checked_chunk
from shopfloor.collectors.executors import signals
from shopfloor.collectors.interventions import Command, Intervention, make_intervention
from shopfloor.collectors.noise import MotionNoise
from shopfloor.core import (
    ACTORS,
    FAILURE_REASONS,
    ActionChunk,
    ActionSpec,
    CameraTrack,
    Cell,
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
from shopfloor.datasets.format import kinds

logger = logging.getLogger(__name__)

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


def rollout(
    cell: Cell,
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
        teacher: answers every observation; the spec's intervention says whether it labels or
            takes over.
        record_cameras: cameras whose pictures are stored, one each observation.

    Returns:
        The episode, success or failure.

    Raises:
        InvalidInputError: if policy, teacher, cell and spec do not fit together.
        EpisodeFaultError: if the cell crashes or observes non-finite numbers.
        CancelledError: if a signal asked to stop.
    """
    cameras = listed(record_cameras)
    intervention = make_intervention(_who_acts(policy, spec))
    _check_fit(cell, policy, spec, teacher, intervention, cameras)
    return _Run(cell, policy, spec, teacher, intervention, cameras).finish()


def _who_acts(policy: Policy, spec: EpisodeSpec) -> str:
    """Return the name of the intervention: where none is wished for, an expert under noise labels itself."""
    noisy_expert = policy.info.expert and spec.action_noise > 0
    return "own" if spec.intervention == "none" and noisy_expert else spec.intervention


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
        cell: Cell,
        policy: Policy,
        spec: EpisodeSpec,
        teacher: Policy | None,
        intervention: Intervention,
        cameras: tuple[str, ...],
    ) -> None:
        self.cell = cell
        self.policy = policy
        self.spec = spec
        self.teacher = teacher
        self.intervention = intervention
        self.cameras = cameras

        self.record = _Record()
        description = cell.describe()
        self.features = description["features"]
        self.kept = kinds.recorded_keys(self.features, cameras)
        self.queue = ChunkQueue()
        self.actions = ActionSpec.of(description, cell.action_size)
        self.noise = MotionNoise(
            seed_stream(spec.seed, "noise"), spec.action_noise, self.actions.moving
        )

    def finish(self) -> Episode:
        """Run to the end and put the episode together."""
        with self._blame_cell("reset"):
            _, info = self.cell.reset(seed=self.spec.seed)
        self.instruction, self.object_names = str(info["instruction"]), tuple(info["object_names"])
        self._note_stage(info)

        outcome, reason, terminated = "", "", False
        try:
            self._reset_actors()
            while not outcome:
                outcome, reason, terminated = self._step()
            self._observe(ended=True)
        except PolicyFailure as failure:
            logger.warning(
                "%s, seed %d, step %d: %s", self.spec.cell, self.spec.seed, self._steps, failure
            )
            outcome, reason, terminated = "failure", failure.reason, True
            if len(self.record.sim_states) == self._steps:
                self._observe(ended=True)

        return self._episode(outcome, reason, terminated)

    def _step(self) -> tuple[str, str, bool]:
        """Run one step; returns outcome and reason, "" while the episode goes on, and whether the cell ended it."""
        signals.check()
        asked = self._asks_policy()
        observation = self._observe(asked)

        if asked:
            self.queue.put(self._ask(observation))
        command = self._choose(observation, self._label(observation))
        self.queue.advance()

        action = self.noise.perturb(command.action)
        with self._blame_cell("step"):
            reward, terminated, truncated, info = self.cell.advance(action)

        self._note_step(action, float(reward), command, asked)
        self._note_stage(info)
        if not (terminated or truncated):
            return "", "", False
        return (*self._outcome(info, bool(truncated)), bool(terminated))

    @property
    def _steps(self) -> int:
        return len(self.record.actions)

    # -- who acts ----------------------------------------------------------------------------------

    def _reset_actors(self) -> None:
        with _blame_policy():
            self.policy.reset(self.spec.seed, self.instruction)
        if self.teacher is not None and self.teacher is not self.policy:
            self.teacher.reset(self.spec.seed, self.instruction)
        with self._blame_intervention():
            self.intervention.reset(self.spec.seed, self.policy.info, self.actions)

    def _asks_policy(self) -> bool:
        with self._blame_intervention():
            return self.intervention.asks_policy(self.queue.left)

    def _ask(self, observation: Observation) -> ActionChunk:
        with _blame_policy():
            reply = self.policy.act(entries_of(observation, self.policy))
        return checked_chunk(reply, self.cell.action_size)

    def _label(self, observation: Observation) -> FloatArray | None:
        if self.teacher is None:
            return None
        try:
            reply = self.teacher.act(entries_of(observation, self.teacher))
            return checked_chunk(reply, self.cell.action_size).actions
        except PolicyFailure as failure:
            raise InfrastructureError(f"Teacher {self.teacher.info.name!r}: {failure}") from failure

    def _choose(self, observation: Observation, label: FloatArray | None) -> Command:
        """Return what the intervention chooses, checked as a policy's answer is."""
        size = self.cell.action_size
        with self._blame_intervention():
            command = self.intervention.choose(observation, self.queue.chunk, label)
            if not isinstance(command, Command) or command.actor not in ACTORS:
                raise TypeError(f"{command!r} is no Command with an actor of {ACTORS}")

            action = checked_chunk(ActionChunk(np.asarray(command.action)[None]), size).actions[0]
            if command.label is None:
                return Command(action, command.actor)

            kept = checked_chunk(ActionChunk(command.label), size).actions
            return Command(action, command.actor, kept)

    @contextlib.contextmanager
    def _blame_intervention(self) -> Iterator[None]:
        name = f"intervention {self.spec.intervention!r}"
        try:
            yield
        except ShopfloorError:
            raise
        except PolicyFailure as failure:
            raise InfrastructureError(self._where(f"{name}: {failure}")) from failure
        except Exception as error:
            raise InfrastructureError(
                self._where(f"{name} raised {type(error).__name__}: {error}")
            ) from error

    # -- the cell ----------------------------------------------------------------------------------

    def _observe(self, asked: bool = False, ended: bool = False) -> Observation:
        """Observe with the pictures that are needed now, and record."""
        wanted = set(self.cameras)
        for policy, looks in ((self.policy, asked), (self.teacher, not ended)):
            if policy is not None and looks:
                needed = (
                    kinds.camera_of(key, self.features) for key in policy.info.observation_keys
                )
                wanted.update(name for name in needed if name is not None)

        with self._blame_cell("observe"):
            observation = dict(self.cell.observe(sorted(wanted)))
            sim_state = np.array(self.cell.sim_state(), dtype=np.float64)
            tracks = {name: self.cell.camera_track(name) for name in self.cameras}

            kept = {
                key: np.array(observation[key], dtype=self.features[key]["dtype"])
                for key in self.kept
                if key in observation or key in self.cameras
            }

        for key, value in {**kept, "sim_state": sim_state}.items():
            self._check_numbers(key, value)

        for key, value in kept.items():
            self.record.observations.setdefault(key, []).append(value)

        self.record.sim_states.append(sim_state)
        for name, (intrinsics, extrinsics) in tracks.items():
            self.record.intrinsics[name] = np.array(intrinsics, dtype=np.float64)
            self.record.extrinsics.setdefault(name, []).append(
                np.array(extrinsics, dtype=np.float64)
            )

        return {**observation, NAMES: self.object_names}

    def _check_numbers(self, key: str, value: npt.NDArray[Any]) -> None:
        """Refuse what is no number, and infinity but in a depth map, where it says that nothing is there."""
        if value.dtype.kind != "f":
            return

        depth = kinds.kind_of(self.features.get(key, {})) == kinds.DEPTH
        sound = ~np.isnan(value) if depth else np.isfinite(value)
        if not sound.all():
            raise EpisodeFaultError("nonfinite_obs", self._where(f"{key} has non-finite numbers"))

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

    def _note_step(self, action: FloatArray, reward: float, command: Command, asked: bool) -> None:
        self.record.actions.append(action)
        self.record.rewards.append(reward)
        self.record.actor.append(command.actor)
        self.record.labels.append(command.label)
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
        for key, rows in record.observations.items():
            if len(rows) != len(record.sim_states):
                raise InfrastructureError(
                    self._where(
                        f"{key} was observed {len(rows)} times in {len(record.sim_states)}; "
                        "expected always or never"
                    )
                )

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
    cell: Cell,
    policy: Policy,
    spec: EpisodeSpec,
    teacher: Policy | None,
    intervention: Intervention,
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
            require_fit(actor, role, cell)

    if (teacher is not None) != intervention.needs_teacher:
        raise InvalidInputError(
            f"Intervention is {spec.intervention!r} {'without' if teacher is None else 'with'} a "
            "teacher; expected 'none' without one and 'expert' or 'label' with one."
        )
    if len(set(record_cameras)) != len(record_cameras):
        raise InvalidInputError(f"Cameras {list(record_cameras)} name one twice.")

    features = cell.describe()["features"]
    kinds.check_cameras(features, record_cameras, f"camera of {cell.cell_id}")


def require_fit(policy: Policy, role: str, cell: Cell) -> None:
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
            f"The {role} {info.name!r} needs {', '.join(missing)}; {cell.cell_id} has "
            f"{', '.join(sorted(known))}."
        )


@contextlib.contextmanager
def _blame_policy() -> Iterator[None]:
    """Turn a policy's exception into a failure of the policy; errors with a cause of their own pass."""
    try:
        yield
    except (ShopfloorError, MemoryError):
        raise
    except TimeoutError as error:
        raise PolicyFailure(
            "policy_timeout", f"the policy did not answer in time: {error}"
        ) from error
    except Exception as error:
        logger.debug("the policy raised", exc_info=True)
        raise PolicyFailure(
            "policy_bad_reply", f"the policy raised {type(error).__name__}: {error}"
        ) from error


def entries_of(observation: Observation, policy: Policy) -> dict[str, Any]:
    """Copy just the entries a policy asks for, so that it can neither see nor change anything else."""
    missing = [key for key in policy.info.observation_keys if key not in observation]
    if missing:
        raise InvalidInputError(
            f"Policy {policy.info.name!r} needs {', '.join(missing)}; it sees "
            f"{', '.join(sorted(observation))}. Make the cell with privileged=True to see the "
            "objects."
        )
    entries = {key: observation[key] for key in policy.info.observation_keys}
    return {key: np.array(value) if key != NAMES else value for key, value in entries.items()}
