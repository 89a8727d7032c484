"""`shopfloor data replay`: executes recorded actions again and compares the states."""

from __future__ import annotations

from dataclasses import dataclass

from shopfloor.flags import Maybe, Overlays
from shopfloor.launch.console import make_progress
from shopfloor.launch.later import Later
from shopfloor.launch.verbs.data.telling import episodes, into, print_document, share
from shopfloor.launch.verbs.flags import HERE, EngineFlags, Ids, Source, Where

library = Later("shopfloor.collectors.recorded.replay")


@dataclass(frozen=True)
class Replay:
    """Execute recorded actions again: same states, bit for bit? Success again? Exit 1 where states differ.

    Attributes:
        dataset: dataset folder.
        where: which episodes, such as "cell == 'shopfloor/Kitting-v0'" (default: all).
        ids: episode ids, or beginnings of at least 8 characters.
        sample: only so many of them, drawn at random (default: all).
        seed: of that draw.
        overlays: overlay files (views) that hold, too.
        engine: where the episodes run.
        json: print one JSON document on standard output.
        quiet: no progress.
    """

    dataset: Source
    where: Where = None
    ids: Ids = ()
    sample: Maybe[int] = None
    seed: int = 0
    overlays: Overlays = ()
    engine: EngineFlags = HERE
    json: bool = False
    quiet: bool = False


def run(arguments: Replay) -> int:
    """Execute recorded actions again."""
    with make_progress(arguments.quiet or arguments.json).phase("replay", 1) as phase:
        done = library.replay_dataset(
            arguments.dataset,
            where=arguments.where,
            ids=arguments.ids,
            sample=arguments.sample,
            seed=arguments.seed,
            overlays=arguments.overlays,
            workers=arguments.engine.or_serial,
            progress=into(phase),
        )

    count = len(done.episodes)
    code = 0 if done.states_equal == count else 1

    if arguments.json:
        print_document(done.to_json())
        return code

    for one in done.episodes:
        if not one.states_equal:
            print(
                f"differs: {one.episode_id} ({one.cell}, seed {one.seed}) from state "
                f"{one.first_difference} on"
            )

    chosen = f", drawn from {done.chosen_from}" if done.chosen_from > count else ""
    print(
        f"{episodes(count)} replayed{chosen}: {share(done.states_equal, count)} with the same "
        f"states bit for bit, {share(done.outcomes_equal, count)} ended as recorded, "
        f"{share(done.successes_again, done.successes)} successes succeeded again"
    )

    return code
