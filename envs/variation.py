"""How episodes depart from the nominal one: a serialisable point on stated axes.

A level (`easy`, `nominal`, `hard`) changes the job itself, as each cell says. A shift suite
(`light`, `camera`, `texture`, `clutter`, `objects`, `physics`, `instruction`) changes one thing
that training never changes, or draws it from beyond the range that training draws from. What a
suite draws comes from a random stream of its own: the episode of an equal seed without the suite is
the same in everything else. That is the matched control, and a drop in success between the two can
be attributed to the one thing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from shopfloor.core import InvalidInputError, UnknownNameError, canonical_json

Range = tuple[float, float]

LEVELS = ("easy", "nominal", "hard")
SUITES = ("light", "camera", "texture", "clutter", "objects", "physics", "instruction")


_RANGES = {
    "displace_m": 0.2,
    "light": 4.0,
    "camera_m": 0.3,
    "clutter": 8,
    "mass": 10.0,
    "friction": 10.0,
}


def _checked_range(name: str, value: Any, most: float) -> tuple[Any, Any] | None:  # noqa: ANN401  # that is the point
    if value is None:
        return None

    sound = (
        isinstance(value, (tuple, list))
        and len(value) == 2
        and all(_is_number(edge) for edge in value)
    )

    if (
        not sound
        or not 0 <= value[0] <= value[1] <= most
        or (name == "clutter" and any(edge % 1 for edge in value))
    ):
        raise InvalidInputError(
            f"Variation: {name} is {value!r}; expected two numbers, the lower one first, from 0 to "
            f"{most:g}."
        )

    return (value[0], value[1])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _plain(value: Any) -> Any:  # noqa: ANN401  # a field's value
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Variation:
    """A point on the axes along which episodes differ. Ranges are (low, high); None leaves an axis alone.

    Attributes:
        level: "easy", "nominal" or "hard"; each cell says what these mean.
        colour_jitter: largest change of each colour channel of parts, goals and ground.
        light_jitter: strength of the changes of the lamp's direction, brightness and tint, 0 none,
            1 as trained with.
        displace_m: shortest and longest way, m, by which the named part is moved once during the
            approach.
        mid_task: start from states anywhere in the task.
        light: strength of the same changes of the lamp, each of them at least the lower one, with
            either sign; training stays within `light_jitter`.
        camera_m: how far each fixed camera is moved, m, looking where it looked (one on a robot a
            quarter of it).
        texture: the ground has one of the textures, of which training sees none.
        clutter: fewest and most foreign objects that lie about.
        objects: the parts have another size, within the cell's `part_scales`.
        mass: factor on the mass of everything that can be moved; training has 1.
        friction: factor on its friction; training has 1.
        unseen_words: the instruction is phrased as it never is in training.
    """

    level: str = "nominal"
    colour_jitter: float = 0.06
    light_jitter: float = 1.0
    displace_m: Range | None = None
    mid_task: bool = False
    light: Range | None = None
    camera_m: Range | None = None
    texture: bool = False
    clutter: tuple[int, int] | None = None
    objects: bool = False
    mass: Range | None = None
    friction: Range | None = None
    unseen_words: bool = False

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if self.level not in LEVELS:
            raise UnknownNameError("level", str(self.level), LEVELS)

        for name in ("colour_jitter", "light_jitter"):
            if not _is_number(getattr(self, name)) or not 0.0 <= getattr(self, name) <= 3.0:
                raise InvalidInputError(
                    f"Variation: {name} is {getattr(self, name)!r}; expected a number from 0 to 3."
                )

        for name, most in _RANGES.items():
            object.__setattr__(self, name, _checked_range(name, getattr(self, name), most))
        for name in ("mid_task", "texture", "objects", "unseen_words"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidInputError(
                    f"Variation: {name} is {getattr(self, name)!r}; expected true or false."
                )

    @property
    def shifts(self) -> bool:
        """Whether anything is drawn that training never draws."""
        return bool(self.suites)

    @property
    def suites(self) -> tuple[str, ...]:
        """Names of the suites that it belongs to."""
        on = {
            "light": self.light,
            "camera": self.camera_m,
            "texture": self.texture,
            "clutter": self.clutter,
            "objects": self.objects,
            "physics": self.mass or self.friction,
            "instruction": self.unseen_words,
        }

        return tuple(name for name in SUITES if on[name])

    def to_json(self) -> dict[str, Any]:
        """Return the axes that differ from the nominal variation, as plain JSON data."""
        nominal = Variation()
        return {
            name: _plain(value)
            for name, value in asdict(self).items()
            if value != getattr(nominal, name)
        }


VARIATIONS: dict[str, Variation] = {
    "nominal": Variation(),
    "easy": Variation(level="easy"),
    "hard": Variation(level="hard"),
    "displaced": Variation(displace_m=(0.03, 0.05)),
    "mid_task": Variation(mid_task=True),
    "light": Variation(light=(1.6, 2.4)),
    "camera": Variation(camera_m=(0.03, 0.06)),
    "texture": Variation(texture=True),
    "clutter": Variation(clutter=(3, 5)),
    "objects": Variation(objects=True),
    "physics": Variation(mass=(1.5, 2.5), friction=(0.6, 0.8)),
    "instruction": Variation(unseen_words=True),
}


def parse_variation(value: str | Mapping[str, Any] | Variation) -> Variation:
    """Return the variation that a name, JSON text or mapping of axes stands for.

    Raises:
        UnknownNameError: no such name or axis.
        InvalidInputError: a value that means nothing.
    """
    if isinstance(value, Variation):
        return value

    if isinstance(value, str):
        if value in VARIATIONS:
            return VARIATIONS[value]
        if not value.lstrip().startswith("{"):
            raise UnknownNameError("variation", value, VARIATIONS)

        try:
            value = json.loads(value)
        except ValueError as error:
            raise InvalidInputError(
                f'Variation {value!r} is not JSON ({error}); expected a name or text such as {{"level": "hard"}}.'
            ) from None

    if not isinstance(value, Mapping):
        raise InvalidInputError(
            f"Variation is {value!r}; expected a name, or axes such as {{'level': 'hard'}}."
        )

    known = [field.name for field in fields(Variation)]
    for name in value:
        if name not in known:
            raise UnknownNameError("axis of variation", str(name), known)
    return Variation(**value)


def variation_name(value: str | Mapping[str, Any] | Variation) -> str:
    """Return the one text for a variation: its name, or else the canonical JSON of what differs from nominal."""
    if isinstance(value, str) and value in VARIATIONS:
        return value
    variation = parse_variation(value)
    for name, named in VARIATIONS.items():
        if named == variation:
            return name
    return canonical_json(variation.to_json())
