"""A flywheel of a few seconds, as a program: `python tiny.py OUT [key=value ...]`. Real cell, training and gate."""

import json
import sys
from pathlib import Path

from shopfloor.core import ShopfloorError
from shopfloor.launch.flywheel import config
from shopfloor.launch.flywheel.loop import flywheel
from shopfloor.launch.gate.decide import Look
from shopfloor.launch.stopping import stopping_in_time

SETTINGS = {
    "smoke": True,
    "turns": 2,
    "demonstrations": 2,
    "episodes": 2,
    "report_episodes": 3,
    "steps": 60,
    "turn_steps": 40,
    "workers": 1,
}


def run(out, **settings):
    """Run it in this process, with one gate look at 3 pairs."""
    before, config.SMOKE_LOOKS = config.SMOKE_LOOKS, (Look(3, 0.6),)
    try:
        return flywheel(config.FlywheelConfig(Path(out), **{**SETTINGS, **settings}))
    finally:
        config.SMOKE_LOOKS = before


def timeless(value):
    """Drop what may differ between two runs: times."""
    if isinstance(value, dict):
        kept = {key: timeless(entry) for key, entry in value.items()}
        return {
            key: entry
            for key, entry in kept.items()
            if key != "cpu_seconds" and not key.startswith("latency")
        }
    return [timeless(entry) for entry in value] if isinstance(value, list) else value


if __name__ == "__main__":
    try:
        with stopping_in_time():
            run(
                sys.argv[1],
                **{
                    key: json.loads(value)
                    for key, value in (word.split("=") for word in sys.argv[2:])
                },
            )
    except ShopfloorError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
