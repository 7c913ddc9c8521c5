"""The depth that short real finetunes decided for."""

from semfreeze_core.plan.rules import Decision
from semfreeze_core.records.pilots import Measurement


def decide_by_pilots(measurement: Measurement) -> Decision:
    """The pilots' winner, or an abstention where no pilot improved for sure."""
    full, allowed = measurement.full_flop, measurement.budget_flop / measurement.full_flop
    tried = ", ".join(str(pilot.freeze_depth) for pilot in measurement.rounds[0].pilots)
    price = (
        f"Pilots of {tried} took {100 * measurement.spent_flop / full:.1f} % of one full finetune of "
        f"{measurement.steps} steps of {measurement.batch_size}; {100 * allowed:.3g} % was allowed."
    )
    parameters = {"aim": measurement.aim, "pilot_budget": allowed}
    if measurement.aim == "cheapest":
        parameters["margin"] = measurement.margin
    return Decision(
        "measured",
        parameters,
        measurement.candidate_depth,
        measurement.freeze_depth,
        (*measurement.reasons, price),
    )
