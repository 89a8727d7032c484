"""Episodes with a known defect, planted into real ones of the work cells.

Faults of a demonstrator are acted out in the simulator: the scripted expert works through a wrapper
that hesitates, shakes, wanders, toggles the gripper or drives at full scale, and the episode is
kept if it succeeds. Faults of a recording are edits of an episode that was recorded soundly.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.collectors.jobs import pooled_cell
from shopfloor.collectors.recorded.render import with_pictures
from shopfloor.collectors.rollout import rollout
from shopfloor.core import (
    ActionChunk,
    Episode,
    EpisodeSpec,
    Observation,
    Policy,
    PolicyInfo,
    sha256_hex,
)
from shopfloor.envs.experts.scripted import make_expert, make_random

CELLS = ("shopfloor/PickToTray-v0", "shopfloor/Kitting-v0", "shopfloor/ConveyorSort-v0")
CLOCK = "timestamp"
CAMERA = "front"
PICTURE = (48, 48)  # height, width, pixels
HZ = 20.0
NOISE = 0.2  # of the demonstrations, as `collect --noise 0.2`
GRIPPER, TOOL = 6, slice(7, 10)  # column of an action, columns of the state
MOTION = slice(0, 3)
STEP_M = 0.025  # of a full action
TRIES = 40
Array = npt.NDArray[Any]


# --------------------------------------------------------------------------------------------------
# Faults of a demonstrator
# --------------------------------------------------------------------------------------------------


class Faulty:
    """The expert of a cell through a wrapper; still a demonstrator, whose commands are the labels."""

    def __init__(self, cell: str, fault: str, generator: np.random.Generator) -> None:
        """Make one for one episode."""
        self._expert: Policy = make_expert(cell)
        self._fault, self._generator = FAULTS[fault], generator
        info = self._expert.info
        digest = sha256_hex(f"{info.digest}:{fault}:{generator.bit_generator.state}")
        self.info: PolicyInfo = dataclasses.replace(info, name=f"expert, {fault}", digest=digest)

    def reset(self, seed: int, instruction: str) -> None:
        """Start an episode."""
        self._expert.reset(seed, instruction)
        self._act = self._fault(self._generator)

    def act(self, observation: Observation) -> ActionChunk:
        """Answer one action."""
        chunk = self._expert.act(observation)
        action = np.array(chunk.actions[0], np.float64)
        action = np.clip(self._act(action, np.asarray(observation["state"], np.float64)), -1.0, 1.0)
        return ActionChunk(action[None].astype(np.float32))


Act = Callable[[Array, Array], Array]


def hesitate(generator: np.random.Generator) -> Act:
    """Do nothing for 1.5 to 2.5 s, as an operator who has not found the controls yet."""
    left = int(generator.integers(30, 51))

    def act(action: Array, state: Array) -> Array:
        nonlocal left
        left -= 1
        return np.append(np.zeros(6), -1.0) if left >= 0 else action

    return act


def shake(generator: np.random.Generator) -> Act:
    """Shake in two or three bursts of half a second: independent noise of a full action on the motion."""
    starts = generator.choice(4, int(generator.integers(2, 4)), replace=False) * 10
    step = -1

    def act(action: Array, state: Array) -> Array:
        nonlocal step
        step += 1
        if any(first <= step < first + 10 for first in starts):
            action[MOTION] += generator.normal(0.0, 1.0, 3)
        return action

    return act


def wander(generator: np.random.Generator) -> Act:
    """Visit two or three places first, on one side of the table and the other."""
    sides = np.resize([1.0, -1.0], int(generator.integers(2, 4))) * generator.choice([-1.0, 1.0])
    places = [
        np.append(generator.uniform((0.4, 0.18), (0.6, 0.28)) * (1, side), 0.2) for side in sides
    ]
    left = 60

    def act(action: Array, state: Array) -> Array:
        nonlocal left
        left -= 1
        target = state[TOOL] + state[15:18]
        while places and np.linalg.norm(places[0] - target) < 0.02:
            places.pop(0)
        if not places or left < 0:
            return action
        motion = np.clip((places[0] - target) / STEP_M, -1.0, 1.0)
        return np.concatenate([motion, np.zeros(3), [-1.0]])

    return act


def toggle(generator: np.random.Generator) -> Act:
    """Open and close the empty gripper on the way, for 0.5 to 1 s, once or twice a tenth of a second."""
    first, count = int(generator.integers(0, 3)), int(generator.integers(10, 21))
    period = int(generator.integers(1, 3))
    step = -1

    def act(action: Array, state: Array) -> Array:
        nonlocal step
        step += 1
        if first <= step < first + count:
            action[GRIPPER] = 1.0 if (step - first) // period % 2 == 0 else -1.0
        return action

    return act


def slam(generator: np.random.Generator) -> Act:
    """Drive every axis that moves at all at full scale, as with keys instead of a stick."""

    def act(action: Array, state: Array) -> Array:
        action[MOTION] = np.where(np.abs(action[MOTION]) > 0.25, np.sign(action[MOTION]), 0.0)
        return action

    return act


def fumble(generator: np.random.Generator) -> Act:
    """Move at random in three steps of five of the first two seconds, so that a state says little of what is done."""
    left = 40

    def act(action: Array, state: Array) -> Array:
        nonlocal left
        left -= 1
        if left >= 0 and generator.random() < 0.6:
            action[MOTION] = generator.uniform(-1.0, 1.0, 3)
        return action

    return act


FAULTS: Mapping[str, Callable[[np.random.Generator], Act]] = {
    "idle_start": hesitate,
    "jerky": shake,
    "detour": wander,
    "chatter": toggle,
    "saturated": slam,
    "aimless": fumble,
}


# --------------------------------------------------------------------------------------------------
# Faults of a recording
# --------------------------------------------------------------------------------------------------


def _with(episode: Episode, **observations: Array) -> Episode:
    return dataclasses.replace(episode, observations={**episode.observations, **observations})


def _rows(episode: Episode, rows: Sequence[int] | Array) -> Episode:
    """Return an episode of some of another's steps; `rows` are of observations, the last of them comes after all."""
    rows = np.asarray(rows)
    steps = rows[:-1]
    return dataclasses.replace(
        episode,
        observations={key: array[rows] for key, array in episode.observations.items()},
        sim_states=episode.sim_states[rows],
        **{
            name: getattr(episode, name)[steps]
            for name in ("actions", "rewards", "actor", "label_actions", "label_valid", "decisions")
        },
        label_chunks=None if episode.label_chunks is None else episode.label_chunks[steps],
        cameras={
            name: dataclasses.replace(track, extrinsics=track.extrinsics[rows])
            for name, track in episode.cameras.items()
        },
    )


def linger(episode: Episode, generator: np.random.Generator) -> Episode:
    """Keep recording for 2 to 3 s after the end, nothing moving."""
    T, extra = episode.steps, int(generator.integers(40, 61))
    longer = _rows(episode, [*range(T), *[T - 1] * extra, T])
    still = np.append(np.zeros(6), episode.actions[-1, GRIPPER]).astype(np.float32)
    changes: dict[str, Any] = {}
    for name in ("actions", "label_actions"):
        changes[name] = getattr(longer, name).copy()
        changes[name][T:] = still
    rewards = np.zeros_like(longer.rewards)
    rewards[-1] = episode.rewards[-1]
    state = longer.observations["state"].copy()
    state[T:-1] = state[-1]
    clock = {CLOCK: _clock(T + extra, generator)} if CLOCK in episode.observations else {}
    sim_states = longer.sim_states.copy()
    sim_states[T:-1] = sim_states[-1]
    return dataclasses.replace(
        _with(longer, state=state, **clock), rewards=rewards, sim_states=sim_states, **changes
    )


def stumble(episode: Episode, generator: np.random.Generator) -> Episode:
    """Lose the clock: a tenth to a fifth of the intervals are one to four steps longer."""
    T = episode.steps
    gaps = np.zeros(T)
    late = generator.choice(T, max(int(T * generator.uniform(0.1, 0.2)), 3), replace=False)
    gaps[late] = generator.integers(1, 5, len(late)) / HZ
    clock = episode.observations[CLOCK].copy()
    clock[1:] += np.cumsum(gaps)
    return _with(episode, **{CLOCK: clock})


def skip(episode: Episode, generator: np.random.Generator) -> Episode:
    """Lose 8 to 12 steps on the way, and the time they took: the clock counts rows."""
    place = episode.observations["state"][:, TOOL]
    count = int(generator.integers(8, 13))
    far = np.linalg.norm(place[count + 1 :] - place[: -count - 1], axis=1)
    first = int(generator.choice(np.flatnonzero(far >= np.quantile(far, 0.75)))) + 1
    shorter = _rows(episode, [*range(first), *range(first + count, episode.steps + 1)])
    return _with(shorter, **{CLOCK: _clock(shorter.steps, generator)})


def freeze(episode: Episode, generator: np.random.Generator) -> Episode:
    """Repeat one picture for 40 to 80 % of the episode."""
    pictures = episode.observations[CAMERA].copy()
    length = int(len(pictures) * generator.uniform(0.4, 0.8))
    first = int(generator.integers(1, len(pictures) - length + 1))
    pictures[first : first + length] = pictures[first - 1]
    return _with(episode, **{CAMERA: pictures})


def darken(episode: Episode, generator: np.random.Generator) -> Episode:
    """Lose the picture for 30 to 100 % of the episode: black with a little sensor noise."""
    pictures = episode.observations[CAMERA].copy()
    length = int(len(pictures) * generator.uniform(0.3, 1.0))
    first = int(generator.integers(0, len(pictures) - length + 1))
    pictures[first : first + length] = generator.integers(
        0, 3, pictures[first : first + length].shape
    )
    return _with(episode, **{CAMERA: pictures})


def copy(episode: Episode, generator: np.random.Generator) -> Episode:
    """Record the same again, a thousandth of a full action and a tenth of a millimetre off."""
    state = episode.observations["state"]
    noisy = (state + generator.normal(0.0, 1e-4, state.shape)).astype(np.float32)
    changes = {
        name: np.clip(
            getattr(episode, name) + generator.normal(0.0, 1e-3, episode.actions.shape), -1, 1
        ).astype("f4")
        for name in ("actions", "label_actions")
    }
    return dataclasses.replace(_with(episode, state=noisy), **changes)


def mislabel(episode: Episode, generator: np.random.Generator) -> Episode:
    """Say the opposite of what happened, rewards included."""
    success = not episode.success
    rewards = np.zeros_like(episode.rewards)
    rewards[-1] = success
    return dataclasses.replace(
        episode,
        outcome="success" if success else "failure",
        reason="" if success else "timeout",
        terminated=success,
        rewards=rewards,
    )


def shift(episode: Episode, generator: np.random.Generator) -> Episode:
    """Record actions 3 to 6 steps late or early, as with a queue nobody drained."""
    by = int(generator.integers(3, 7)) * (1 if generator.random() < 0.5 else -1)
    rows = np.clip(np.arange(episode.steps) - by, 0, episode.steps - 1)
    return _act_otherwise(episode, rows, episode)


def mix_up(episode: Episode, generator: np.random.Generator, other: Episode) -> Episode:
    """Store another episode's actions."""
    return _act_otherwise(episode, np.arange(episode.steps) % other.steps, other)


def _act_otherwise(episode: Episode, rows: Array, source: Episode) -> Episode:
    names = ("actions", "label_actions", "label_valid")
    chunks = None if source.label_chunks is None else source.label_chunks[rows]
    return dataclasses.replace(
        episode, label_chunks=chunks, **{name: getattr(source, name)[rows] for name in names}
    )


def spoil(episode: Episode, generator: np.random.Generator) -> Episode:
    """Put not-a-number or infinity into one to five numbers of the state or of the actions."""
    name = ("state", "actions")[int(generator.integers(2))]
    array = (episode.observations["state"] if name == "state" else episode.actions).copy()
    for _ in range(int(generator.integers(1, 6))):
        array[int(generator.integers(len(array))), int(generator.integers(array.shape[1]))] = (
            generator.choice([np.nan, np.inf, -np.inf])
        )
    return (
        _with(episode, state=array)
        if name == "state"
        else dataclasses.replace(episode, actions=array)
    )


def deaden(episode: Episode, generator: np.random.Generator) -> Episode:
    """Have one joint's or tool coordinate's sensor stick from the first fifth of the episode on, or from its start."""
    state = episode.observations["state"].copy()
    column = int(generator.choice([0, 1, 3, 5, 6, 7, 8, 9]))
    first = int(len(state) * generator.uniform(0.0, 0.2))
    state[first:, column] = state[first, column]
    return _with(episode, state=state)


Edit = Callable[[Episode, np.random.Generator], Episode]
EDITS: Mapping[str, Edit] = {
    "idle_tail": linger,
    "clock": stumble,
    "lost_steps": skip,
    "frozen_camera": freeze,
    "black_camera": darken,
    "near_duplicate": copy,
    "wrong_label": mislabel,
    "shifted_actions": shift,
    "foreign_actions": shift,  # replaced in `plant`, which has another episode at hand
    "non_finite": spoil,
    "dead_sensor": deaden,
}
KINDS = (*FAULTS, *EDITS)


# --------------------------------------------------------------------------------------------------
# Sets
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Planted:
    """One episode of a set.

    Attributes:
        episode: what a dataset gets.
        kind: of its defect; "" for a sound demonstration, "failure" for an honest failure.
    """

    episode: Episode
    kind: str

    @property
    def bad(self) -> bool:
        """Whether it has a defect."""
        return self.kind in KINDS


def plant(
    cell: str,
    kinds: Sequence[str],
    seed: int,
    *,
    clean: int,
    failures: int,
    pictures: bool = False,
    last: int | None = None,
) -> list[Planted]:
    """Return a set of one cell: sound demonstrations, honest failures, and one episode for each kind named.

    Args:
        cell: full id.
        kinds: defects, each as often as wanted.
        seed: first of the episodes' seeds; decides everything.
        clean: number of sound demonstrations.
        failures: number of episodes of the random policy.
        pictures: whether all of them have pictures; kinds of cameras need them.
        last: seed that must not be passed, None for any.
    """
    generator = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    maker = _Maker(cell, seed, generator, pictures)
    found = [Planted(maker.demonstration(), "") for _ in range(clean)]
    found += [Planted(maker.failure(), "failure") for _ in range(failures)]
    for kind in kinds:
        if kind in FAULTS:
            episode = maker.faulty(kind)
        else:
            # A copy is one of an episode that is in the set; other defects have an episode of their
            # own.
            source = (
                found[int(generator.integers(clean))].episode if kind == "near_duplicate" else None
            )
            episode = maker.edited(kind, source)
        found.append(Planted(episode, kind))
    if last is not None and maker.next > last + 1:
        raise RuntimeError(
            f"The set needs seeds up to {maker.next - 1}; expected none after {last}."
        )
    order = generator.permutation(len(found)).tolist()
    copies = [
        index for index in order if found[index].kind == "near_duplicate"
    ]  # recorded after what they copy
    return [found[index] for index in [*(index for index in order if index not in copies), *copies]]


class _Maker:
    """Makes episodes of one cell, each of its own seed."""

    def __init__(
        self, cell: str, seed: int, generator: np.random.Generator, pictures: bool
    ) -> None:
        self.cell, self.next, self.generator, self.pictures = cell, seed, generator, pictures
        self.expert: Policy = make_expert(cell)
        self.random = make_random(cell)

    def demonstration(self) -> Episode:
        return self._dressed(self._successful(lambda: self.expert))

    def failure(self) -> Episode:
        return self._dressed(self._run(self.random, 0.0))

    def faulty(self, kind: str) -> Episode:
        return self._dressed(self._successful(lambda: Faulty(self.cell, kind, self.generator)))

    def edited(self, kind: str, source: Episode | None) -> Episode:
        episode = source if source is not None else self.demonstration()
        if kind == "wrong_label" and self.generator.random() < 0.5:
            episode = self.failure()
        if kind == "foreign_actions":
            made = mix_up(episode, self.generator, self._successful(lambda: self.expert))
        else:
            made = EDITS[kind](episode, self.generator)
        # Its own id, as an episode of another recorder would have.
        spec = dataclasses.replace(
            made.spec, policy_digest=sha256_hex(f"{kind}:{self.generator.integers(1 << 62)}")
        )
        return dataclasses.replace(made, spec=spec)

    def _successful(self, make: Callable[[], Policy]) -> Episode:
        for _ in range(TRIES):
            episode = self._run(make(), NOISE)
            if episode.success:
                return episode
        raise RuntimeError(f"No success in {TRIES} episodes of {self.cell}.")

    def _run(self, policy: Policy, noise: float) -> Episode:
        cell = pooled_cell(self.cell, {"robot": "panda", "image_size": list(PICTURE)}, "nominal")
        options = {"robot": "panda", "image_size": list(PICTURE)}
        spec = EpisodeSpec(
            self.cell,
            self.next,
            policy.info.digest,
            options,
            action_noise=noise,
            purpose="other",
            variation="nominal",
        )
        self.next += 1
        return rollout(cell, policy, spec)

    def _dressed(self, episode: Episode) -> Episode:
        if self.pictures:
            episode = with_pictures(episode, (CAMERA,), PICTURE)
        return _with(episode, **{CLOCK: _clock(episode.steps, self.generator)})


def _clock(steps: int, generator: np.random.Generator) -> Array:
    """Return the clock of a good recorder, shape (steps + 1,), float64, s: each step within 2 ms of its time."""
    times: Array = np.arange(steps + 1) / HZ + generator.normal(0.0, 0.001, steps + 1).clip(
        -0.002, 0.002
    )
    return times


def description(cell: str, pictures: bool = False) -> dict[str, Any]:
    """Return what `dataset.json` says of a set."""
    about = pooled_cell(cell, {"robot": "panda", "image_size": list(PICTURE)}, "nominal").describe()
    kept = {
        key: value
        for key, value in about["features"].items()
        if key in ("state", "objects", CAMERA)
    }
    if not pictures:
        kept.pop(CAMERA, None)
    kept[CLOCK] = {"shape": [], "dtype": "float64", "names": [CLOCK], "units": ["s"]}
    return {**about, "features": kept}
