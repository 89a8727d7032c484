"""Who acts at a step of an episode, and whose label is kept: by name."""

from shopfloor.collectors.interventions.command import Command, Intervention
from shopfloor.collectors.interventions.table import intervention_names, make_intervention

__all__ = ["Command", "Intervention", "intervention_names", "make_intervention"]
