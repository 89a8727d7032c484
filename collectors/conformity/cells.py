"""Does a cell keep the contract of `shopfloor.Cell`?"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from shopfloor.collectors.conformity.contract import demand, demand_members, no_exception
from shopfloor.collectors.conformity.descriptions import (
    STATE,
    check_identity,
    checked_description,
)
from shopfloor.collectors.conformity.moments import Moment, Player
from shopfloor.core import Cell, RewindableCell

MEMBERS = (
    *("cell_id", "action_size", "reset", "advance", "observe"),
    *("sim_state", "camera_track", "describe", "close"),
)
BEYOND = 3.0  # times the limit of an action


def check_cell(
    cell: Cell, *, seeds: tuple[int, int] = (0, 1), steps: int = 20, deterministic: bool = True
) -> None:
    """Try a cell out and refuse it where it does not keep the contract of `shopfloor.Cell`.

    The cell is reset about ten times and moved by random actions: clear the space around a real
    robot. It is not closed.

    Args:
        cell: as its `make` returned it; one made with ``privileged=True`` has its objects checked,
            too.
        seeds: two seeds to run episodes with.
        steps: length of those episodes.
        deterministic: whether equal seeds and actions must give equal episodes, as a simulator's
            do; False for a real robot.

    Raises:
        ConformityError: the first thing that does not conform.
    """
    advice = "Add them; of one of Gymnasium's wrappers, hand over env.unwrapped."
    demand_members(cell, MEMBERS, "shopfloor.Cell", advice)
    check_identity(cell)
    description = checked_description(cell)
    player = Player(cell, description["features"])

    check_repeats(player, seeds, steps, deterministic)
    check_looking(player, seeds[0], deterministic)
    check_limits(player, seeds[0], deterministic)
    check_end(player, seeds[0], deterministic)
    if "max_episode_steps" in description:
        check_time(player, seeds[0], description["max_episode_steps"])
    if isinstance(cell, RewindableCell):
        check_rewinding(player, cell, seeds)


def check_repeats(player: Player, seeds: tuple[int, int], steps: int, deterministic: bool) -> None:
    """Run episodes; equal seeds and actions must give equal ones, whatever ran in between."""
    rng = np.random.default_rng(0)
    size = player.cell.action_size
    actions = rng.uniform(-1.0, 1.0, (steps, size)).astype(np.float32)

    first = player.play(seeds[0], actions)
    player.play(seeds[1], actions)
    again = player.play(seeds[0], actions)
    if not deterministic:
        return

    for step, (one, other) in enumerate(zip(first, again, strict=False)):
        _demand_no(
            one.differences(other),
            player.at(seeds[0], step),
            "the same as in an earlier episode of this seed and these actions",
            "Draw everything random from the seed that `reset` is given, and forget earlier "
            "episodes; a real robot is checked with deterministic=False.",
        )


def check_looking(player: Player, seed: int, deterministic: bool) -> None:
    """Looking changes nothing, and what it returns belongs to the caller."""
    before = player.begin(seed)
    for value in player.cell.observe(player.cameras).values():
        if isinstance(value, np.ndarray) and value.flags.writeable:
            value[...] = 0

    after = player.look(player.at(seed, 0), player.cameras, 0.0, (False, False), before.info)
    if deterministic:
        _demand_no(
            before.differences(after),
            player.at(seed, 0),
            "the same as when it was observed before, since nothing has moved",
            "`observe` must change nothing and return new arrays.",
        )


def check_limits(player: Player, seed: int, deterministic: bool) -> None:
    """Values beyond the limits count as the limit; another shape is refused."""
    size = player.cell.action_size
    limits = []
    for value in (1.0, BEYOND):
        player.begin(seed)
        limits.append(player.step(seed, 1, np.full(size, value, np.float32)))

    if deterministic:
        _demand_no(
            limits[0].differences(limits[1]),
            player.at(seed, 1),
            f"for an action of {BEYOND} the same as for 1.0, the limit",
            "Clip actions to [-1, 1].",
        )

    player.begin(seed)
    what = f"an action of shape ({size + 1},)"
    _demand_refused(player, np.zeros(size + 1, np.float32), player.at(seed, 1), what)


def check_end(player: Player, seed: int, deterministic: bool) -> None:
    """An action with NaN moves nothing and ends the episode, after which there are no more steps."""
    size = player.cell.action_size
    action = np.zeros(size, np.float32)
    action[-1] = np.nan
    before = player.begin(seed)
    after = player.step(seed, 1, action)

    where, advice = player.at(seed, 1), "Test an action with np.isfinite before anything moves."
    failure = after.info["failure"]
    demand(
        after.ended == (True, False) and failure == "nonfinite_action",
        where,
        f"an action with NaN gave terminated, truncated {after.ended} and failure {failure!r}",
        "(True, False) and 'nonfinite_action'",
        advice,
    )

    still = np.array_equal(before.observation[STATE], after.observation[STATE])
    found = "an action with NaN changed 'state'"
    demand(still or not deterministic, where, found, "nothing to move", advice)

    what = "a step after the episode's end"
    _demand_refused(player, np.zeros(size, np.float32), player.at(seed, 2), what)


def check_time(player: Player, seed: int, limit: int) -> None:
    """An episode ends after `max_episode_steps` at the latest."""
    still = np.zeros(player.cell.action_size, np.float32)
    player.begin(seed)
    for step in range(1, limit + 1):
        if any(player.step(seed, step, still).ended):
            return

    demand(
        False,
        player.at(seed, limit),
        "the episode goes on",
        f"its end after 'max_episode_steps', {limit}",
        "Return truncated=True on that step.",
    )


def check_rewinding(player: Player, cell: RewindableCell, seeds: tuple[int, int]) -> None:
    """A cell that can come back to a state observes there, bit for bit, what it observed then."""
    still = np.zeros((5, cell.action_size), np.float32)
    then: Moment = player.play(seeds[0], still)[-1]
    player.begin(seeds[1])

    where = player.at(seeds[0], len(still))
    with no_exception(where, "set_sim_state"):
        cell.set_sim_state(then.sim_state)
    seen = player.look(
        where, list(then.observation.keys() & set(player.cameras)), 0.0, then.ended, then.info
    )

    _demand_no(
        then.seen_otherwise(seen),
        where,
        "after set_sim_state the same as when the state was taken",
        "Keep all that observations depend on in `sim_state`, or leave out set_sim_state.",
    )


def _demand_refused(player: Player, action: npt.NDArray[np.float32], where: str, what: str) -> None:
    try:
        player.cell.advance(action)
    except Exception:  # any refusal will do
        return
    demand(False, where, f"{what} was taken", "an InvalidInputError", "Refuse it in `advance`.")


def _demand_no(differences: Iterable[str], where: str, expected: str, advice: str) -> None:
    names = ", ".join(differences)
    demand(not names, where, f"there is another {names}", expected, advice)
