"""What fingers hold stays where it is in the hand; for cups see test_suction.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from cell_episodes import build

spec = importlib.util.spec_from_file_location(
    "benchmark_grasp", Path(__file__).parents[3] / "benchmarks" / "grasp.py"
)
grasp = importlib.util.module_from_spec(spec)
spec.loader.exec_module(grasp)


@pytest.mark.parametrize("mass_kg", grasp.MASSES_KG)
@pytest.mark.parametrize("name", ["PickToTray", "Kitting", "MachineTending", "PegInsertion"])
def test_held_parts_creep_less_than_a_millimetre_in_five_seconds(name, mass_kg):
    for seed in (610_002, 610_004, 610_008):
        cell = build(name)
        creep_mm = grasp.creep_mm(cell, seed, mass_kg)
        assert creep_mm is not None, f"{seed}: not lifted"
        assert creep_mm < 1.0, seed
        cell.close()
