"""Words and number formats of the pages: every term's help, and the sentence each page opens with."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

from semfreeze_core.plan.opinions import Comparison, Opinion
from semfreeze_core.plan.slices import Slice
from semfreeze_core.plan.speed import Speed
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.records.display import DisplaySample
from semfreeze_core.records.gain import GainCurve, Interval
from semfreeze_core.records.run import Run
from semfreeze_core.records.umap_projection import UmapProjection
from semfreeze_core.records.validation import ValidationReport
from semfreeze_core.semantics.umap_projection import expected_seconds, umap_points, umap_positions
from semfreeze_core.wording.numbers import flop, interval, percent

from ..data.analysis_request import UPLOADS
from .tooltips import HELP as HELP

UNVALIDATED = "Predicted, unvalidated: no finetune of this run has measured it yet."
UMAP_IN_DEMO = (
    "This UMAP is not there, and a demonstration computes nothing. With semfreeze installed, `semfreeze "
    "umap RUN` makes one, or this page in your own dashboard."
)
LOOKING = (
    "Looking at tokenizer, config and data; the embedded model is converted first, once, which takes some 20 seconds"
)
COMPARE_WITH = (
    "Choose runs above: another model on the same data, the same model on other data, or checkpoints of one training. "
    "Depths are held against each other as shares of the layers."
)
NOTHING_TO_COMPARE = "There is no other run here yet. Analyse another model or other data on the page Start."
EMBEDDED_EXPORT = (
    "{model} stands for the embedded model, which other trainers do not know: `semfreeze export` converts it to a "
    "folder and writes that."
)
NO_FINETUNES = (
    "No finetune is kept here yet, so nothing is known of how right predictions are. The page Validate starts one."
)
NO_RUNS = "This folder has no run yet. The page Start makes one; so does `semfreeze analyze`."
PRICES_COMPARED = "FLOP and memory at the plan's depth, of full finetuning's; three epochs over each run's own data."
NO_COLUMNS = (
    "This run kept no other column of its task file: it was read before runs kept any, or the file has none that makes "
    "groups."
)


def run_words(run: Run) -> str:
    """What was read on what, in one sentence."""
    model, data = run.manifest.model.identity, run.manifest.data
    return (
        f"Read: {model.source} ({model.architecture}, {run.shape.n_layers} layers, "
        f"{run.shape.total_parameters / 1e6:,.0f} M parameters) on {data.n_examples:,} of {data.n_usable:,} examples "
        f"of {data_name(data.source)}."
    )


def data_name(source: str) -> str:
    """What to call a run's data: of an upload, which lies beside the runs, its file's name."""
    path = Path(source)
    return path.name if path.parent.name == UPLOADS else source


def validation_words(reports: Mapping[str, ValidationReport], depth: int | None) -> str:
    """What finetunes of the run have shown of a depth, or that none has."""
    done = {name: report for name, report in reports.items() if report.finished}
    here = [
        f"Validated ({name}): {report.verdict} at equal {report.settings.budget}: {report.reason}."
        for name, report in done.items()
        if report.freeze_depth == depth
    ]
    if here:
        return " ".join(here)
    if not done:
        return UNVALIDATED
    elsewhere = ", ".join(f"{report.freeze_depth} ({report.verdict})" for report in done.values())
    return f"Predicted, unvalidated at this depth; finetunes have measured depth {elsewhere}."


def layers_words(first: int, behind: int) -> str:
    """Layers first..behind-1 in words."""
    return f"layer {first}" if behind - first == 1 else f"layers {first}-{behind - 1}"


def stack_words(n_layers: int, depth: int | None) -> str:
    """The layer stack for those who do not see it."""
    if depth is None:
        return f"Layer stack: {n_layers} layers, no depth recommended."
    return f"Layer stack: {depth} of {n_layers} layers frozen, {n_layers - depth} trained."


def gains_sentence(curve: GainCurve, depth: int) -> str:
    """What the gains say at a depth."""
    L, evidence = curve.n_layers, curve.evidence
    if evidence.verdict == "no evidence":
        return f"No evidence that these layers do the task, so no depth is recommended. {' '.join(evidence.reasons)}"
    if depth == 0:
        return (
            f"Nothing is frozen: all {L} layers train. The advantage over random labels rises by "
            f"{interval(evidence.advantage)} through them."
        )
    if depth == L:
        return f"All {L} layers are frozen: no share of the gain is left to train."
    kept = curve.coverage.at(depth)
    return (
        f"{layers_words(depth, L).capitalize()}, the trained ones, hold {interval(kept, 2)} of the gain; "
        f"{layers_words(0, depth)}, the frozen ones, the rest."
    )


def traces_sentence(display: DisplaySample, curve: GainCurve, depth: int) -> str:
    """Where the positions move, in numbers."""
    L, deviation = curve.n_layers, curve.deviation
    n = len(display.right)
    return (
        f"From space {curve.start} to {L} the deviation from the ground truth goes from "
        f"{deviation.mean[curve.start]:.2f} to {deviation.mean[L]:.2f}; at freeze depth {depth} it is "
        f"{deviation.mean[depth]:.2f}. The model says {display.right.sum():,} of {n:,} shown tokens right."
    )


def plan_sentence(
    depth: int, n_layers: int, price: DepthCost, curve: GainCurve, rule: str, asked: Opinion | None
) -> str:
    """What freezing so many layers costs and is predicted to keep; first of all, that the rule asked abstains."""
    abstains = asked is not None and asked.freeze_depth is None
    first = f"No recommendation from the {rule} rule. " if abstains else ""
    memory = "" if price.relative_bytes is None else f" and {percent(price.relative_bytes)} of the memory"
    cost = f"{percent(price.relative_flop)} of the FLOP{memory} of full finetuning"
    if depth == 0:
        return f"{first}Freezing nothing trains all {n_layers} layers: {cost}."
    kept = interval(curve.coverage.at(depth), 2)
    kept = "no known share" if kept == "not measured" else kept
    return (
        f"{first}Freezing {depth} of {n_layers} layers takes {cost}; the {n_layers - depth} trained layers are "
        f"predicted to hold {kept} of the gain."
    )


def advice(comparison: Comparison, rule: str, depth: int) -> str:
    """How the current depth stands to what the rule says."""
    opinion = comparison.rules[rule]
    if opinion.freeze_depth is None:
        seen = "" if opinion.candidate_depth is None else f" Its formula alone would give {opinion.candidate_depth}."
        return f"The {rule} rule makes no recommendation. {' '.join(opinion.reasons)}{seen}"
    stand = f"The {rule} rule recommends this depth"
    if opinion.freeze_depth != depth:
        stand = f"Chosen by hand; the {rule} rule recommends {opinion.freeze_depth}"
    return f"{stand}: {' '.join(opinion.reasons)}"


def opinion_rows(opinions: Mapping[str, Opinion]) -> list[dict[str, str]]:
    """A line a rule or score, for a table."""
    return [
        {
            "says": name.replace("_", " "),
            "candidate": "none" if o.candidate_depth is None else str(o.candidate_depth),
            "recommends": "abstains" if o.freeze_depth is None else f"freeze {o.freeze_depth}",
            "R(k)": interval(o.gain_coverage, 2),
            "FLOP of full": percent(o.cost.relative_flop if o.cost else None),
            "memory of full": percent(o.cost.relative_bytes if o.cost else None),
            "why": " ".join(o.reasons),
        }
        for name, o in opinions.items()
    ]


def missing_words(unknown: str, names: Sequence[str]) -> str:
    """What to say of a link to a run that is not here."""
    return f"The link asks for the run {unknown!a}, which is not here. Shown is {names[0]}."


def start_sentence(name: str, comparison: Comparison) -> str:
    """What the open run says, in one line."""
    opinion = comparison.rules["coverage"]
    if opinion.freeze_depth is None:
        return f"Run {name}: no recommendation. {' '.join(opinion.reasons)}"
    price = opinion.cost
    cost = "" if price is None else f" at {percent(price.relative_flop)} of the FLOP of full finetuning"
    return (
        f"Run {name}: freeze {opinion.freeze_depth} of {comparison.n_layers} layers; the others are predicted to hold "
        f"{interval(opinion.gain_coverage, 2)} of the gain{cost}."
    )


def shelf_words(folder: Path | None, n: int) -> str:
    """Where the runs are, and how to make one."""
    if folder is None:
        return "A demonstration: the shipped example alone. It was read once; no model is needed to look at it."
    found = f"{n - 1} in {folder}, and the shipped example" if n > 1 else f"None in {folder} yet but the shipped one"
    return (
        f"{found}. Click one to open it. Analyse a model above, or with `semfreeze analyze --model MODEL --data FILE "
        "--out NAME` on the command line, to make another."
    )


def slices_sentence(groups: Sequence[Slice], depth: int, left_out: int) -> str:
    """Whether one depth fits all groups."""
    if not groups:
        return "No group has enough examples to be read by itself."
    small = f" {left_out} more are too small or too many to read." if left_out else ""
    against = [group.name for group in groups if group.contradicts(depth)]
    if not against:
        return f"Depth {depth} freezes no more than the coverage rule would for any of {len(groups)} groups.{small}"
    return f"Depth {depth} does not fit all: the rule would freeze less for {', '.join(against)}.{small}"


def cell_words(cell: Mapping[Hashable, object]) -> str:
    """What the head reads of one token at one space."""
    read = ", ".join(f"`{word}`" for word in str(cell["read"]).split("  "))
    found = "among them" if cell["truth among them"] else "not among them"
    return (
        f"Space {cell['space']}, token {cell['token']}: the head reads {read}; the truth `{cell['truth']}` is {found} "
        f"(deviation {cell['deviation']:.3f})."
    )


def two_digits(value: float) -> str:
    """A number with two digits, without a minus before zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def bounds(value: Interval) -> str:
    """The 95 % interval of a number."""
    return f"95 %: {two_digits(value.low)} to {two_digits(value.high)}"


def speed_words(speed: Speed) -> str:
    """At which rate a time is told, or why none is."""
    if speed.flop_per_second is None:
        return "no rate is known for this precision"
    return f"at {flop(round(speed.flop_per_second))}/s, as read"


def pca_caption(display: DisplaySample, n_drawn: int, space: int, flat: bool) -> str:
    """How many points of how many are drawn, and what can be done with them."""
    return (
        f"{n_drawn:,} of {display.n_positions_total:,} read positions, drawn with seed {display.seed}; opens at space "
        f"{space}. Stars: bases of the {len(display.basis_ids)} ground truth tokens. "
        f"{'Draw around points to select them.' if flat else 'Points are selected in 2-D.'}"
    )


def umap_caption(display: DisplaySample, projection: UmapProjection, space: int) -> str:
    """How many points of how many are drawn, how they were laid out, and what not to read into them."""
    return (
        f"{len(projection.positions):,} of {display.n_positions_total:,} read positions, spread over the "
        f"{len(display.example):,} shown; laid out with seed {projection.seed}, {projection.n_neighbors} neighbours; "
        f"opens at space {space}. Stars: bases of the {len(display.basis_ids)} ground truth tokens. Distances between "
        "far-apart groups mean little. Draw around points to select them."
    )


def umap_offer(display: DisplaySample, n_neighbors: int) -> str:
    """What a UMAP is and what it costs."""
    points = umap_points(display)
    return (
        "UMAP lays states out by who is near whom in all components, which shows groups that two components cannot. It "
        f"takes {len(umap_positions(display)):,} of the {len(display.example):,} shown positions at all "
        f"{len(display.coordinates)} spaces and {len(display.basis_ids):,} bases, {points:,} points: about "
        f"{expected_seconds(points, n_neighbors):.0f} seconds on two cores, in the background and without the model."
    )
