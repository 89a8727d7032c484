"""The one Gymnasium environment: joins a world, a robot, cameras and a task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, final

import gymnasium
import numpy as np
import numpy.typing as npt

from shopfloor.core import CONTROL_HZ, InvalidInputError, UnknownNameError, seed_stream
from shopfloor.envs import robot as panda
from shopfloor.envs.camera import LIGHT_SIZE, Camera, Image, Light
from shopfloor.envs.description import OBJECT_COLUMNS, cell_options, describe, observation_space, vocabulary
from shopfloor.envs.robot import Panda
from shopfloor.envs.task import Task, Verdict
from shopfloor.envs.variation import VARIATIONS, Displacement, draw_light, start_mid_task
from shopfloor.envs.world import SUBSTEPS, TABLE_RGB, World

Array = npt.NDArray[np.float64]

ACTION_SIZE = len(panda.ACTION_NAMES)
_RENDER_SIZE = (480, 480)
_ABSENT = (0.0,) * OBJECT_COLUMNS


@final
class WorkCell(gymnasium.Env[dict[str, npt.NDArray[Any]], npt.NDArray[np.float32]]):
    """A robot at a table with a job to do.

    `step` is `advance` (physics, reward, success) followed by `observe`. Episodes depend on the seed and the actions
    only: never on cameras, rendering, earlier episodes or other cells.

    Attributes:
        cell_id: full id, such as "shopfloor/PickToTray-v0".
        task: the job; holds the state of the episode.
        world: the simulation.
        robot: the arm.
        max_episode_steps: control steps after which an episode is truncated.
        instructions: class name of a part -> all phrasings that ask for it.
        vocabulary: class names of parts ("parts") and of goals ("goals"), and the goal of each part ("goal_of").
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": CONTROL_HZ}  # noqa: RUF012  # Gymnasium's own form

    def __init__(self, cell_id: str, task: Task, **options: Any) -> None:  # noqa: ANN401  # checked there
        """Build the cell; see `shopfloor.envs.description.CellOptions`."""
        self.cell_id = cell_id
        self.task = task
        self.options = cell_options(options)
        self.render_mode = self.options.render_mode
        self._cameras = {camera.name: camera for camera in task.cameras}
        for name in self.options.cameras:
            self._camera(name)
        self.max_episode_steps = task.max_episode_steps
        self.instructions = dict(task.instructions)
        self.vocabulary = vocabulary(task)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)
        self.observation_space = observation_space(task, self.options)
        self.world = World()
        self.robot = Panda(self.world, task.workspace, task.frozen_axes)
        task.build(self.world)
        self.world.seal()
        self._rows = [self.world.bodies.index(body) for body in task.bodies]
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
        self._ready = self._running = self._used = False

    # -- Gymnasium ---------------------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Start an episode.

        From the second time on the whole simulation is built anew (about 5 ms): a world that has been used would give
        trajectories that differ in the last digit from those of a new one.

        Args:
            seed: decides everything random in it; None draws one from the environment's own generator.
            options: {"variation": name} overrides the cell's variation for this episode.

        Returns:
            The observation and the info: instruction, object_names, success, stage, failure.
        """
        if seed is not None and seed < 0:
            raise InvalidInputError(f"Seed is {seed}; expected an integer of at least 0.")
        for name in options or {}:
            if name != "variation":
                raise UnknownNameError("reset option", str(name), ["variation"])
        variation_name = (options or {}).get("variation", self.options.variation)
        if variation_name not in VARIATIONS:
            raise UnknownNameError("variation", str(variation_name), VARIATIONS)
        super().reset(seed=seed)
        episode_seed = int(self.np_random.integers(2**31)) if seed is None else int(seed)
        variation = VARIATIONS[variation_name]
        rng = seed_stream(episode_seed, "cell")
        task, world = self.task, self.world
        if self._used:
            world.clear()
            self.robot.build()
            task.build(world)
            world.seal()
        self._used = True
        world.restore()
        start = rng.uniform(task.start_low, task.start_high)
        self.robot.reset(start, 0.0)
        task.reset(world, rng)
        world.read()
        self._order = rng.permutation(len(task.items))
        self._phrase = int(rng.integers(2**16)) % len(task.instructions[task.named])
        self._light = draw_light(variation, rng)
        nominal = np.array([item.rgb for item in task.items] + [TABLE_RGB])
        jitter = rng.uniform(-1.0, 1.0, nominal.shape) * variation.colour_jitter
        jitter[-1] = 0.3 * jitter[-1] + 0.7 * jitter[-1, 0]  # tables are grey
        self._dress(np.clip(nominal + jitter, 0.0, 1.0))
        self._displacement = Displacement(variation.displace_m, rng) if variation.displace_m else None
        if variation.mid_task:
            start_mid_task(world, self.robot, task, rng)
        self._verdict = task.judge(world, self.robot)
        self._verdict = Verdict(self._verdict.stage)
        self._steps = 0
        self._ready = self._running = True
        return self.observe(), self._info()

    def step(
        self, action: npt.NDArray[np.float32]
    ) -> tuple[dict[str, npt.NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """Run one control step (1/20 s) and observe; see `advance`."""
        reward, terminated, truncated, info = self.advance(action)
        return self.observe(), reward, terminated, truncated, info

    def advance(self, action: npt.ArrayLike) -> tuple[float, bool, bool, dict[str, Any]]:
        """Run one control step without looking.

        Args:
            action: shape (7,), in [-1, 1] (values beyond count as the limit), see `describe`. An action with NaN or
                infinity never reaches the simulator: it ends the episode with the reason "nonfinite_action".

        Returns:
            Reward (1.0 on the step where success first holds, else 0.0), terminated, truncated, info.
        """
        if not self._running:
            raise InvalidInputError(
                f"{self.cell_id}: step was called {'after the episode ended' if self._ready else 'before reset'}; "
                "call reset first."
            )
        try:
            command = np.asarray(action, dtype=np.float64)
        except (TypeError, ValueError):
            raise InvalidInputError(f"{self.cell_id}: action is {action!r}; expected {ACTION_SIZE} numbers.") from None
        if command.shape != (ACTION_SIZE,):
            raise InvalidInputError(
                f"{self.cell_id}: action has shape {command.shape}; expected ({ACTION_SIZE},): "
                f"{', '.join(panda.ACTION_NAMES)}."
            )
        self._steps += 1
        values = command.tolist()
        if not all(map(math.isfinite, values)):
            self._verdict = Verdict(self._verdict.stage, failure="nonfinite_action")
            self._running = False
            return 0.0, True, False, self._info()
        self._simulate([min(max(value, -1.0), 1.0) for value in values])
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
        return self._picture(self._camera("front"), _RENDER_SIZE)

    def close(self) -> None:
        """Close the simulation."""
        self.world.close()
        self._ready = self._running = False

    # -- Beyond Gymnasium --------------------------------------------------------------------------------------------

    @property
    def action_size(self) -> int:
        """Number of action components."""
        return ACTION_SIZE

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
            "state" (22,) float32, "objects" (N, 12) float32 if privileged, and a picture (H, W, 3) uint8 per camera.
        """
        if not self._ready:
            raise InvalidInputError(f"{self.cell_id}: observed before reset; call reset first.")
        observation: dict[str, npt.NDArray[Any]] = {"state": self.robot.state()}
        if self.options.privileged:
            observation["objects"] = self._objects()
        for name in self.options.cameras if cameras is None else cameras:
            observation[name] = self._picture(self._camera(name), self.options.image_size)
        return observation

    def sim_state(self) -> Array:
        """Return the simulator's full state, shape (D,), float64: enough to draw the same pictures later."""
        head = (self._steps, self._phrase)
        parts = (head, self._looks, self.robot.sim_state(), self.task.memory(), self.world.sim_state())
        return np.concatenate(parts, dtype=np.float64)

    def set_sim_state(self, state: npt.ArrayLike) -> None:
        """Come back to a `sim_state` of this kind of cell; the episode can be drawn, observed and continued.

        Pictures and observations are exact. What follows when it is continued is not: a state holds no contacts.
        """
        values = np.asarray(state, dtype=np.float64)
        items = len(self.task.items)
        widths = [2, items, LIGHT_SIZE, 3 * (items + 1), panda.SIM_STATE_SIZE, len(self.task.memory())]
        widths.append(13 * len(self.world.bodies))
        if values.shape != (sum(widths),) or not np.isfinite(values).all():
            raise InvalidInputError(
                f"{self.cell_id}: simulator state has shape {values.shape}; expected ({sum(widths)},) finite numbers. "
                "It was recorded by another cell or version."
            )
        head, order, light, colours, robot, memory, world = np.split(values, np.cumsum(widths)[:-1])
        self._used = True
        self.world.restore()
        self._steps, self._phrase = int(head[0]), int(head[1])
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
        camera = self._camera(name)
        return camera.render(self.world, self._extrinsics(camera), self.options.image_size, self._light)[1]

    def describe(self) -> dict[str, Any]:
        """Return plain JSON data on what the cell takes and gives; written into every dataset."""
        return describe(self.cell_id, self.task, self.options)

    # -- Inside ------------------------------------------------------------------------------------------------------

    def _camera(self, name: str) -> Camera:
        if name not in self._cameras:
            raise UnknownNameError(f"camera of {self.cell_id}", str(name), self._cameras)
        return self._cameras[name]

    def _extrinsics(self, camera: Camera) -> Array:
        return camera.extrinsics(self.robot.tool_position, self.robot.tool_rotation)

    def _picture(self, camera: Camera, size: tuple[int, int]) -> Image:
        return camera.render(self.world, self._extrinsics(camera), size, self._light)[0]

    def _dress(self, colours: Array) -> None:
        """Colour the bodies, shape (N + 1, 3), table last, and prepare what stays the same for an episode."""
        items, order = self.task.items, self._order.tolist()
        for body, rgb in zip((*self.task.bodies, self.world.table), colours.tolist(), strict=True):
            self.world.colour(body, (*rgb, 1.0))
        self._looks = np.concatenate([self._order, self._light.to_row(), colours.ravel()])
        self._instruction = self.task.instructions[self.task.named][self._phrase]
        self._names = tuple(items[index].name for index in order)
        self._slots = [
            (index, self._rows[index], (*items[index].size, 1.0, float(items[index].is_goal))) for index in order
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
