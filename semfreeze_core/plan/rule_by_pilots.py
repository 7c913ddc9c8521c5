"""The depth that short real finetunes decided for."""

from semfreeze_core.plan.rules import Decision
from semfreeze_core.records.pilots import Measurement
from semfreeze_core.wording.numbers import percent, percent_as_given


def decide_by_pilots(measurement: Measurement) -> Decision:
    """The pilots' winner, or an abstention where no pilot improved for sure."""
    full, allowed = measurement.full_flop, measurement.budget_flop / measurement.full_flop
    tried = ", ".join(str(pilot.freeze_depth) for pilot in measurement.rounds[0].pilots)
    cost = (
        f"Pilots of depths {tried} took {percent(measurement.spent_flop / full, 1)} of one full finetune's compute "
        f"({measurement.steps} steps of {measurement.batch_size} examples); {percent_as_given(allowed)} was allowed."
    )
    parameters = {"aim": measurement.aim, "pilot_budget": allowed}
    if measurement.aim == "cheapest":
        parameters["margin"] = measurement.margin
    return Decision(
        "measured",
        parameters,
        measurement.candidate_depth,
        measurement.freeze_depth,
        (*measurement.reasons, cost),
    )
