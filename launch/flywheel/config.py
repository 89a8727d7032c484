"""A flywheel run's configuration, which is also its flags. Imports nothing heavy."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from shopfloor.collectors.choice import (
    CONDITIONS,
    CellChoice,
    RendererName,
    checked_modalities,
)
from shopfloor.errors import InvalidInputError, UnknownNameError
from shopfloor.flags import NO_HINT, Maybe, MaybeSize, NameList, Names
from shopfloor.launch.gate.decide import LOOKS, SMOKE_LOOKS, Look
from shopfloor.specs import listed

MAX_TURNS, MAX_SEED, MAX_EPISODES, MAX_SCENES = 9, 29, 1000, 10_000
CAMERAS = ("front", "wrist")
IMAGE_SIZE = (96, 96)
# While a policy collects from cameras its actions are disturbed a little: more varied pictures, the
# labels stay clean.
CAMERA_NOISE = 0.1


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
        cameras: views that are stored, and that the policy sees with --observations
            cameras (default: front and wrist there, else none).
        image_size: height and width of pictures in pixels (default: 96 96).
        renderer: who draws them: tiny, or gl (extra gl), ten times as fast.
        modalities: what is stored of each camera: rgb always, and with commas depth (m) and
            segmentation (ids).
        teacher: expert: takes over or labels while the policy collects; none: the policy learns
            from its own successes.
        seed: loop seed, 0 to 29; decides all episode seeds.
        smoke: the smallest real loop: poses, 3 demonstrations, DAgger labels, one gate look at 30
            pairs.
        demonstrations: expert episodes per cell before the first turn (smoke 3, else 5).
        episodes: episodes collected per turn and cell (poses 40, cameras 60).
        report_episodes: episodes per report, always the same seeds (poses 200, cameras 100,
            smoke 50).
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
    cells: NameList = ("PickToTray",)
    turns: int = 3
    observations: Literal["poses", "cameras"] = "poses"
    robot: Maybe[str] = None
    variation: str = "nominal"
    cameras: Annotated[NameList, NO_HINT] = ()
    image_size: MaybeSize = None
    renderer: RendererName = "tiny"
    modalities: Names = ("rgb",)
    teacher: Literal["expert", "none"] = "expert"
    seed: int = 0
    smoke: bool = False
    demonstrations: Maybe[int] = None
    episodes: Maybe[int] = None
    report_episodes: Maybe[int] = None
    steps: Maybe[int] = None
    turn_steps: Maybe[int] = None
    scenes: Maybe[int] = None
    head: Literal["regression", "flow"] = "regression"
    experts: Maybe[int] = None
    control: bool = False
    shuffle_control: bool = False
    workers: Maybe[int] = None

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        for name in ("cells", "cameras"):
            given = getattr(self, name)
            names = listed(given if isinstance(given, str) else ",".join(given))
            object.__setattr__(self, name, names)

        object.__setattr__(self, "modalities", checked_modalities(self.modalities))

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
        return CellChoice(
            cell, self.robot, self.variation, cameras, size, self.renderer, self.modalities
        )

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
