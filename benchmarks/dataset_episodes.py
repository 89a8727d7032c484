"""Episodes of plausible data for the benchmark of the store, the same for every format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from shopfloor.core import Episode, EpisodeSpec

CELL = "shopfloor/PickToTray-v0"
STEPS, SIZE, ACTIONS, STATE, SIM_STATE = 200, 128, 7, 22, 80
CAMERAS = ("front", "wrist")
Pictures = npt.NDArray[np.uint8]


def pictures(generator: np.random.Generator) -> Pictures:
    """Draw T+1 flat-shaded pictures, shape (T+1, SIZE, SIZE, 3): table, tray, parts and an arm that moves."""
    parts = generator.uniform(16, SIZE - 40, (6, 2))
    colours = generator.integers(30, 230, (6, 3))
    joints = np.cumsum(generator.normal(0, 0.03, (STEPS + 1, 4)), axis=0) + generator.uniform(
        -1, 1, 4
    )
    frames = np.empty((STEPS + 1, SIZE, SIZE, 3), np.uint8)
    for step in range(STEPS + 1):
        image = Image.new("RGB", (SIZE, SIZE), (164, 162, 176))
        draw = ImageDraw.Draw(image)
        draw.polygon(
            [(8, 100), (60, 90), (72, 120), (16, 126)], fill=(250, 226, 130), outline=(170, 150, 80)
        )
        for (x, y), colour in zip(parts, colours, strict=True):
            top, side = (
                tuple(int(value) for value in colour),
                tuple(int(value * 0.7) for value in colour),
            )
            draw.polygon([(x, y), (x + 14, y + 3), (x + 16, y + 15), (x + 2, y + 13)], fill=top)
            draw.polygon(
                [(x + 2, y + 13), (x + 16, y + 15), (x + 15, y + 21), (x + 2, y + 19)], fill=side
            )
        _arm(draw, joints[step])
        frames[step] = np.asarray(image)
    return frames


def _arm(draw: ImageDraw.ImageDraw, joints: npt.NDArray[np.float64]) -> None:
    point, angle = np.array([SIZE * 0.4, 0.0]), np.pi / 2
    for link, joint in enumerate(joints):
        angle += joint * 0.6
        end = point + (34 - 4 * link) * np.array([np.cos(angle), np.sin(angle)])
        for facet in range(8):  # a few shades along each link, as on a lit, faceted cylinder
            shift, shade = facet - 4, 236 - 9 * facet - 8 * link
            draw.line(
                [(point[0] + shift, point[1]), (end[0] + shift, end[1])],
                fill=(shade, shade, min(shade + 4, 255)),
                width=3,
            )
        point = end


def make_episode(seed: int, cameras: tuple[str, ...] = CAMERAS) -> Episode:
    """Make an episode of 200 steps; its pictures are flat-shaded like our renderer's."""
    generator = np.random.default_rng(seed)
    T = STEPS
    walk = np.cumsum(generator.normal(0, 0.01, (T + 1, STATE + SIM_STATE)), axis=0)
    actions = np.clip(np.diff(walk[:, :ACTIONS], axis=0) * 20, -1, 1).astype(np.float32)
    spec = EpisodeSpec(
        CELL,
        seed,
        "benchmark",
        {"cameras": list(cameras), "image_size": [SIZE, SIZE]},
        purpose="train",
    )
    return Episode(
        spec=spec,
        instruction="Put the red cube into the tray.",
        observations={
            "state": walk[:, :STATE].astype(np.float32),
            **{name: pictures(generator) for name in cameras},
        },
        sim_states=walk[:, STATE:],
        actions=actions,
        rewards=np.eye(1, T, T - 1, dtype=np.float32)[0],
        outcome="success",
        reason="",
        actor=np.zeros(T, np.uint8),
        object_names=("red cube", "blue bar", "tray"),
        stages=((0, "reach"), (120, "place")),
        label_actions=actions,
        label_valid=np.ones(T, np.bool_),
        decisions=np.arange(T) % 4 == 0,
        terminated=True,
    )


def arrays(episode: Episode) -> dict[str, npt.NDArray[np.generic]]:
    """Return what every format has to hold of an episode."""
    return {
        "sim_states": episode.sim_states,
        "actions": episode.actions,
        "rewards": episode.rewards,
        **episode.observations,
    }


def save(episodes: list[Episode], folder: Path) -> None:
    """Write one `.npy` file an array, shape (episodes, rows, ...): what the other formats are made from."""
    folder.mkdir()
    for key, first in arrays(episodes[0]).items():
        out = np.lib.format.open_memmap(
            folder / f"{key}.npy", "w+", first.dtype, (len(episodes), *first.shape)
        )
        for index, episode in enumerate(episodes):
            out[index] = arrays(episode)[key]
        out.flush()
