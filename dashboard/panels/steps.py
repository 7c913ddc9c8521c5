"""Which steps of the path to a plan are done for the open run; the sidebar ticks them."""

import streamlit as st

from semfreeze_core.errors import RunError
from semfreeze_core.plan.badge import evidence_badge
from semfreeze_core.records.defaults import RULE

from ..data import compute, depth_choice, finetune_results, run_choice
from ..data.run_folder import EXAMPLE, first_run, server_catalog

DONE = " ✓"  # behind a page's name; no icon, which Streamlit has browsers fetch from a server of Google's
_DECIDED = "decided runs"


def done_steps() -> set[str]:
    """Titles of the pages whose question is answered for a run of one's own: before any widget is drawn.

    Data and Analyze once a run is open, Decide once somebody has looked at its depth there, and both that and Prove
    where a validation of the depth passed. Nothing of the bundled example is ticked, which nobody here has done.
    """
    catalog = server_catalog()
    try:
        names = catalog.names
        name = run_choice.run_of_link(names, first_run(names))
        opened = compute.read(catalog, name)
    except RunError:
        return set()
    if name == EXAMPLE:
        return set()
    recommended = compute.comparison(opened, next(iter(opened.run.traces)), None, None).rules[RULE].freeze_depth
    depth = depth_choice.depth_of_link(recommended)
    done = {"Data", "Analyze"}
    if depth is not None and evidence_badge(finetune_results.validations(opened), depth) == "measured":
        return done | {"Decide", "Prove"}
    if depth is not None and name in st.session_state.get(_DECIDED, ()):
        done.add("Decide")
    return done


def note_decided(run: str) -> None:
    """Note that the open run's depth was looked at where it is decided."""
    st.session_state.setdefault(_DECIDED, set()).add(run)
