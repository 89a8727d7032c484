"""What an unknown name's message suggests."""

import pytest

from shopfloor.errors import UnknownNameError

ROBOTS = ("panda", "ur5e", "Kitting")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("pandas", "panda"), ("ur5", "ur5e"), ("kiting", "Kitting"), ("PANDA", "panda")],
)
def test_a_near_name_is_suggested(name, nearest):
    assert f"Unknown robot {name!r}. Did you mean {nearest!r}? " in str(
        UnknownNameError("robot", name, ROBOTS)
    )


@pytest.mark.parametrize("name", ["xyz", "franka", "ur10", "scara", "", "kuka"])
def test_where_none_is_near_none_is_suggested(name):
    message = str(UnknownNameError("robot", name, ROBOTS, "Advice."))
    assert message == f"Unknown robot {name!r}. Known: Kitting, panda, ur5e. Advice."
