"""The one Gymnasium environment: joins a world, a robot, cameras and a task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, final

import gymnasium
import numpy as np
import numpy.typing as npt

from shopfloor.core import CONTROL_HZ, InvalidInputError, UnknownNameError, seed_stream
from shopfloor.envs.conditions import (
    Conditions,
    Draw,
    apply_physics,
    build_clutter,
    draw_light,
    moved,
    row_size,
)
from shopfloor.envs.description import (
    OBJECT_COLUMNS,
    cell_options,
    check_robot,
    check_variation,
    describe,
    observation_space,
    vocabulary,
)
from shopfloor.envs.looks.camera import LIGHT_SIZE, Camera, Image, Light, View, check_size
from shopfloor.envs.looks.drawing import Drawing
from shopfloor.envs.mid_task import Displacement, start_mid_task
from shopfloor.envs.physics.textures import TEXTURES
from shopfloor.envs.physics.world import BODY_STATE, SUBSTEPS, World
from shopfloor.envs.task import Task, Verdict
from shopfloor.envs.variation import Variation

Array = npt.NDArray[np.float64]

_RENDER_SIZE = (480, 480)
_ABSENT = (0.0,) * OBJECT_COLUMNS


@final
class WorkCell(gymnasium.Env[dict[str, npt.NDArray[Any]], npt.NDArray[np.float32]]):
    """A robot with a job to do.

    `step` is `advance` (physics, reward, success) followed by `observe`. Episodes depend on the
    seed and the actions only: never on cameras, rendering, earlier episodes or other cells.

    Attributes:
        cell_id: full id, such as "shopfloor/PickToTray-v0".
        task: the job; holds the state of the episode.
        world: the simulation.
        robot: what the actions drive; a task says what it makes.
        max_episode_steps: control steps after which an episode is truncated.
        instructions: class name of a part -> all phrasings that ask for it.
        vocabulary: class names of parts ("parts") and of goals ("goals"), and the goal of each part
            ("goal_of").
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": CONTROL_HZ}  # noqa: RUF012  # Gymnasium's own form

    def __init__(self, cell_id: str, task: Task, **options: Any) -> None:  # noqa: ANN401  # checked there
        """Build the cell; see `shopfloor.envs.description.CellOptions`."""
        self.cell_id = cell_id
        self.task = task
        given = cell_options(options)
        robot = check_robot(cell_id, task, given.robot)
        self.options = replace(given, robot=robot)
        self._usual = self._variation = check_variation(cell_id, task, self.options.variation)
        task.set_level(self._variation.level)
        self.render_mode = self.options.render_mode
        self._conditions = Conditions()
        self._cameras = moved(task.cameras, self._conditions)
        for name in self.options.cameras:
            self._camera(name)

        self._drawing = Drawing(self.options.renderer, shadows=self.options.shadows)
        self.world = World(task.ground)
        self.robot = task.make_robot(self.world, robot)

        # How many robots there are may decide these.
        self.max_episode_steps, self.instructions = task.max_episode_steps, dict(task.instructions)
        self.vocabulary = vocabulary(task)
        self._names_of_action = self.robot.action_names
        size = len(self._names_of_action)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (size,), np.float32)
        self.observation_space = observation_space(task, self.robot, self.options)
        self._clutter: list[int] = []
        self._rows: list[int] = []

        self._build(self._conditions)
        self._order = np.arange(len(task.items))
        self._phrase = 0
        self._light = Light()
        self._looks: Array = np.zeros(0)
        self._slots: list[tuple[int, int, tuple[float, ...]]] = []
        self._instruction = ""
        self._names: tuple[str, ...] = ()
        self._displacement: Displacement | None = None

        self._verdict = Verdict("")
        self._steps = 0
        self._ready = self._running = self._stale = False

    # -- Gymnasium ---------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Start an episode.

        Args:
            seed: decides everything random in it; None draws one from the environment's own
                generator.
            options: {"variation": ...} overrides the cell's variation for this episode; it must
                leave the observations' shapes as they are.

        Returns:
            The observation and the info: instruction, object_names, success, stage, failure.
        """
        if seed is not None and seed < 0:
            raise InvalidInputError(f"Seed is {seed}; expected an integer of at least 0.")

        for name in options or {}:
            if name not in ("variation", "minari_autoseed"):  # Minari hands its own option on
                raise UnknownNameError("reset option", str(name), ["variation"])

        given = (options or {}).get("variation")
        self._vary(
            self._usual if given is None else check_variation(self.cell_id, self.task, given)
        )
        super().reset(seed=seed)
        episode_seed = int(self.np_random.integers(2**31)) if seed is None else int(seed)
        variation, task, world = self._variation, self.task, self.world
        rng = seed_stream(episode_seed, "cell")
        shift = Draw(episode_seed) if variation.shifts else None
        conditions = shift.conditions(variation, task) if shift else Conditions()
        self._bring(conditions)
        task.start(self.robot, rng)
        task.reset(world, rng)
        world.read()

        self._order = rng.permutation(len(task.items))
        self._phrase = int(rng.integers(2**16)) % len(self._phrases())
        self._light = draw_light(variation, rng, shift.rng if shift else None)
        nominal = np.array([item.rgb for item in task.items] + [task.ground.rgb])
        jitter = rng.uniform(-1.0, 1.0, nominal.shape) * variation.colour_jitter
        jitter[-1] = 0.3 * jitter[-1] + 0.7 * jitter[-1, 0]  # tables are grey
        self._dress(np.clip(nominal + jitter, 0.0, 1.0))

        if shift and self._clutter:
            shift.clutter_poses(world, task, self._clutter)
            world.read()

        self._displacement = (
            Displacement(variation.displace_m, rng) if variation.displace_m else None
        )
        if variation.mid_task:
            start_mid_task(world, self.robot, task, rng)
        self._verdict = task.judge(world, self.robot)
        self._verdict = Verdict(self._verdict.stage)
        self._steps = 0
        self._ready = self._running = True

        return self.observe(), self._info()

    def _vary(self, variation: Variation) -> None:
        """Change to another variation, where it leaves the observations' shapes as they are."""
        if variation == self._variation:
            return

        task, slots, level = self.task, len(self.task.items), self._variation.level
        task.set_level(variation.level)
        if len(task.items) != slots:
            count = len(task.items)
            task.set_level(level)
            raise InvalidInputError(
                f"{self.cell_id}: at level {variation.level!r} observations have {count} object "
                f"rows, and this cell was made with {slots}; make it with "
                f"variation={variation.level!r}."
            )

        self._stale = self._stale or variation.level != level
        self._variation = variation
        self.max_episode_steps, self.instructions = task.max_episode_steps, dict(task.instructions)

    def _bring(self, conditions: Conditions) -> None:
        """Make the world as new, with everything that an episode under some conditions needs."""
        if self._stale or conditions != self._conditions:
            self._build(conditions)
        else:
            self.robot.release()
            self.world.rewind()

    def _build(self, conditions: Conditions) -> None:
        """Build everything that an episode under some conditions needs, from nothing."""
        task, world = self.task, self.world
        if self._rows:  # not for the first time
            world.clear()
            self.robot.build()

        task.scale_parts(conditions.part_scale)
        task.build(world)
        self._clutter = build_clutter(world, conditions)
        apply_physics(world, conditions)
        world.seal()
        self._rows = [world.bodies.index(body) for body in task.bodies]
        self._conditions, self._stale = conditions, False
        self._cameras = moved(task.cameras, conditions)
        if conditions.texture >= 0:
            world.textures[world.ground] = TEXTURES[conditions.texture]

    def step(
        self, action: npt.NDArray[np.float32]
    ) -> tuple[dict[str, npt.NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """Run one control step (1/20 s) and observe; see `advance`."""
        reward, terminated, truncated, info = self.advance(action)
        return self.observe(), reward, terminated, truncated, info

    def advance(self, action: npt.ArrayLike) -> tuple[float, bool, bool, dict[str, Any]]:
        """Run one control step without looking.

        Args:
            action: shape (A,), in [-1, 1] (values beyond count as the limit), see `describe`. An
                action with NaN or infinity never reaches the simulator: it ends the episode with
                the reason "nonfinite_action".

        Returns:
            Reward (1.0 on the step where success first holds, else 0.0), terminated, truncated,
            info.
        """
        if not self._running:
            raise InvalidInputError(
                f"{self.cell_id}: step was called "
                f"{'after the episode ended' if self._ready else 'before reset'}; "
                "call reset first."
            )

        try:
            command = np.asarray(action, dtype=np.float64)
        except (TypeError, ValueError):
            raise InvalidInputError(
                f"{self.cell_id}: action is {action!r}; expected {self.action_size} numbers."
            ) from None

        if command.shape != (self.action_size,):
            raise InvalidInputError(
                f"{self.cell_id}: action has shape {command.shape}; expected "
                f"({self.action_size},): {', '.join(self._names_of_action)}."
            )

        self._steps += 1
        values = command.tolist()
        if not all(map(math.isfinite, values)):
            self._verdict = Verdict(self._verdict.stage, failure="nonfinite_action")
            self._running = False
            return 0.0, True, False, self._info()

        if min(values) < -1.0 or max(values) > 1.0:
            values = [min(max(value, -1.0), 1.0) for value in values]
        self._simulate(values)
        verdict = self._verdict = self.task.judge(self.world, self.robot)
        terminated = verdict.success or bool(verdict.failure)
        truncated = not terminated and self._steps >= self.max_episode_steps
        if truncated:
            self._verdict = Verdict(verdict.stage, failure="timeout")
        self._running = not (terminated or truncated)

        return float(verdict.success), terminated, truncated, self._info()

    def _simulate(self, command: list[float]) -> None:
        world, task = self.world, self.task
        self.robot.command(command)
        if task.moves:
            for _ in range(SUBSTEPS):
                task.before_substep(world)
                world.substep()
        else:
            world.control_step()

        world.read()
        self.robot.read()
        if self._displacement is not None:
            self._displacement.update(world, self.robot, task)

    def render(self) -> Image | None:
        """Return the front view, shape (480, 480, 3), uint8, or None without a render mode."""
        if self.render_mode is None:
            return None
        return self._view(self._camera("front"), _RENDER_SIZE).rgb

    def close(self) -> None:
        """Close the simulation."""
        self.world.close()
        self._drawing.close()
        self._ready = self._running = False

    # -- Beyond Gymnasium --------------------------------------------------------------------------

    @property
    def action_size(self) -> int:
        """Number of action components."""
        return len(self._names_of_action)

    @property
    def instruction(self) -> str:
        """The text that says what to do in this episode."""
        return self._instruction

    @property
    def object_names(self) -> tuple[str, ...]:
        """Class name per row of `objects` in this episode."""
        return self._names

    def observe(self, cameras: Sequence[str] | None = None) -> dict[str, npt.NDArray[Any]]:
        """Look at the current state.

        Args:
            cameras: views to draw, any of the cell's; None draws those of the option `cameras`.

        Returns:
            "state" float32, "objects" (N, 12) float32 if privileged, and per camera what the option
            `modalities` asks for; by default a picture (H, W, 3), uint8.
        """
        if not self._ready:
            raise InvalidInputError(f"{self.cell_id}: observed before reset; call reset first.")

        observation: dict[str, npt.NDArray[Any]] = {"state": self.robot.state()}
        if self.options.privileged:
            observation["objects"] = self._objects()

        for name in self.options.cameras if cameras is None else cameras:
            view = self._view(self._camera(name), self.options.image_size)
            if "rgb" in self.options.modalities:
                observation[name] = view.rgb
            if "depth" in self.options.modalities:
                observation[f"{name}_depth"] = view.depth
            if "segmentation" in self.options.modalities:
                observation[f"{name}_segmentation"] = view.ids

        return observation

    def look(self, name: str, size: tuple[int, int] | None = None) -> View:
        """Look through a camera.

        Args:
            name: of any of the cell's cameras.
            size: height and width, pixels; None for the option `image_size`.

        Returns:
            Colours, depth and segmentation.
        """
        if not self._ready:
            raise InvalidInputError(f"{self.cell_id}: observed before reset; call reset first.")

        return self._view(
            self._camera(name), self.options.image_size if size is None else check_size(size)
        )

    def sim_state(self) -> Array:
        """Return the simulator's full state, shape (D,), float64: enough to draw the same pictures later."""
        head = (self._steps, self._phrase)
        shift = self._conditions.to_row() if self._variation.shifts else []
        parts = (
            head,
            self._looks,
            shift,
            self.robot.sim_state(),
            self.task.memory(),
            self.world.sim_state(),
        )

        return np.concatenate(parts, dtype=np.float64)

    def set_sim_state(self, state: npt.ArrayLike) -> None:
        """Come back to a `sim_state` of this kind of cell; the episode can be drawn, observed and continued.

        Pictures and observations are exact. What follows when it is continued is not: a state holds
        no contacts.
        """
        values = np.asarray(state, dtype=np.float64)
        items = len(self.task.items)
        head = 2 + items + LIGHT_SIZE + 3 * (items + 1)
        shift = row_size(self.task) if self._variation.shifts else 0
        rest = len(self.robot.sim_state()) + len(self.task.memory())
        sound = values.ndim == 1 and len(values) > head + shift + rest and np.isfinite(values).all()

        conditions = (
            Conditions.from_row(values[head : head + shift].tolist())
            if sound and shift
            else Conditions()
        )

        bodies = len(self.world.bodies) - len(self._clutter) + len(conditions.clutter)
        if not sound or len(values) != head + shift + rest + BODY_STATE * bodies:
            raise InvalidInputError(
                f"{self.cell_id}: simulator state has shape {values.shape}; expected "
                f"({head + shift + rest + BODY_STATE * bodies},) finite numbers. It was recorded "
                "by another cell, variation or version."
            )

        self._bring(conditions)
        widths = [
            2,
            items,
            LIGHT_SIZE,
            3 * (items + 1),
            shift,
            len(self.robot.sim_state()),
            len(self.task.memory()),
        ]

        first, order, light, colours, _, robot, memory, world = np.split(values, np.cumsum(widths))
        self._steps, self._phrase = int(first[0]), int(first[1])
        self._order = order.astype(np.int64)
        self._light = Light.from_row(light.tolist())
        self.task.recall(memory)
        self._dress(colours.reshape(-1, 3))
        self.world.set_sim_state(world)
        self.world.read()
        self.robot.set_sim_state(robot)
        self._displacement = None
        self._ready = self._running = True

    def camera_track(self, name: str) -> tuple[Array, Array]:
        """Return a camera's intrinsics (3, 3), pixels, and pose (4, 4), camera to world, OpenCV axes, m."""
        camera = self._camera(name)
        return camera.intrinsics(self.options.image_size), self._extrinsics(camera)

    def segment(self, name: str) -> npt.NDArray[np.int32]:
        """Return per pixel body id + (link index + 1) * 2**24, -1 where nothing is, shape (H, W), int32."""
        return self.look(name).ids

    def describe(self) -> dict[str, Any]:
        """Return plain JSON data on what the cell takes and gives; written into every dataset."""
        return describe(self.cell_id, self.task, self.robot, self.options)

    # -- Inside ------------------------------------------------------------------------------------

    def _camera(self, name: str) -> Camera:
        if name not in self._cameras:
            raise UnknownNameError(f"camera of {self.cell_id}", str(name), self._cameras)
        return self._cameras[name]

    def _extrinsics(self, camera: Camera) -> Array:
        return camera.extrinsics(*self.robot.frame(camera.member))

    def _view(self, camera: Camera, size: tuple[int, int]) -> View:
        return self._drawing.look(self.world, camera, self._extrinsics(camera), size, self._light)

    def _dress(self, colours: Array) -> None:
        """Colour the bodies, shape (N + 1, 3), ground last, and prepare what stays the same for an episode."""
        task, order = self.task, self._order.tolist()
        for body, rgb in zip((*task.bodies, self.world.ground), colours.tolist(), strict=True):
            self.world.colour(body, (*rgb, 1.0))
        self._looks = np.concatenate([self._order, self._light.to_row(), colours.ravel()])
        self._instruction = self._phrases()[self._phrase]
        self._names = tuple(task.items[index].name for index in order)

        self._slots = [
            (
                index,
                self._rows[index],
                (*task.items[index].size, 1.0, float(task.items[index].is_goal)),
            )
            for index in order
        ]

    def _phrases(self) -> tuple[str, ...]:
        task = self.task
        return (task.unseen_instructions if self._variation.unseen_words else task.instructions)[
            task.named
        ]

    def _objects(self) -> npt.NDArray[np.float32]:
        rows, present = self.world.rows, self.task.present
        table = []
        for item, row, fixed in self._slots:
            if present[item]:
                pose = rows[row]
                if pose[6] < 0.0:
                    pose = (*pose[:3], -pose[3], -pose[4], -pose[5], -pose[6])
                table.append((*pose[:7], *fixed))
            else:
                table.append(_ABSENT)

        return np.array(table, dtype=np.float32)

    def _info(self) -> dict[str, Any]:
        return {
            "instruction": self._instruction,
            "object_names": self._names,
            "success": self._verdict.success,
            "stage": self._verdict.stage,
            "failure": self._verdict.failure,
        }
