"""Every cell of ours gives the same files with 1, 2 and 8 workers."""

from __future__ import annotations

import pytest

from shopfloor.collectors.collect import collect
from shopfloor.collectors.executors import LocalExecutor, SerialExecutor
from shopfloor.envs.registry import cell_ids

pytestmark = pytest.mark.slow
CELLS = [cell_id for cell_id in cell_ids() if cell_id.startswith("shopfloor/")]


@pytest.fixture(scope="module")
def executors():
    made = (SerialExecutor(), LocalExecutor(2), LocalExecutor(8))
    yield made
    for executor in made:
        executor.close()


@pytest.mark.parametrize("cell", CELLS)
def test_the_same_bytes_for_any_number_of_workers(cell, executors, tmp_path):
    found = []
    for number, executor in enumerate(executors):
        out = tmp_path / str(number)
        result = collect(
            cell=cell,
            policy="expert",
            episodes=4,
            seed=40,
            noise=0.1,
            out=out,
            executor=executor,
        )
        assert result.exit_code == 0
        found.append({path.name: path.read_bytes() for path in (out / "episodes").iterdir()})
    assert len(found[0]) == 4
    assert found[0] == found[1] == found[2]
