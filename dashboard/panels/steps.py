"""Which steps of the path to a plan are done for the open run; the sidebar ticks them."""

from semfreeze_core.errors import RunError
from semfreeze_core.plan.badge import evidence_badge

from ..data import compute, depth_choice, run_choice
from ..data.run_folder import first_run, server_catalog

DONE = " ✓"  # behind a page's name; no icon, which Streamlit has browsers fetch from a server of Google's


def done_steps() -> set[str]:
    """Titles of the pages whose question is answered: before any widget is drawn.

    Data and Analyze once a run is open, Decide where it has a depth, and Prove where a validation of that depth passed.
    """
    catalog = server_catalog()
    try:
        names = catalog.names
        name = run_choice.run_of_link(names, first_run(names))
        opened = compute.read(catalog, name)
    except RunError:
        return set()
    opinion = compute.comparison(opened, next(iter(opened.run.traces)), None, None).rules["coverage"]
    depth = depth_choice.depth_of_link(opinion.freeze_depth)
    done = {"Data", "Analyze"}
    if depth is not None:
        done.add("Decide")
        if evidence_badge(compute.validations(opened), depth) == "measured":
            done.add("Prove")
    return done
