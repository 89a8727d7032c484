"""Does a cell or a policy of one's own keep the contract? Checks that say what does not, and what to do."""

from shopfloor.collectors.conformity.cells import check_cell
from shopfloor.collectors.conformity.contract import ConformityError
from shopfloor.collectors.conformity.policies import check_policy

__all__ = ["ConformityError", "check_cell", "check_policy"]
