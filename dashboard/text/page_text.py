"""Words and number formats of the pages: every term's help, and the sentence each page opens with."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

from semfreeze_core.cost.hardware import Gpu
from semfreeze_core.cost.speed import Speed, utilization_range
from semfreeze_core.plan.opinions import Comparison
from semfreeze_core.records.cost import CostTable, DepthCost
from semfreeze_core.records.defaults import HELD_OUT, RULE
from semfreeze_core.records.display import DisplaySample
from semfreeze_core.records.manifest import RunManifest
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.run import Run
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.records.umap_projection import UmapProjection
from semfreeze_core.semantics.umap_projection import expected_seconds, umap_points, umap_positions
from semfreeze_core.wording.costs import alternative_sentence, setup_line
from semfreeze_core.wording.escaping import markdown_code
from semfreeze_core.wording.numbers import duration_at, flops, gib, parameter_count, percent
from semfreeze_core.wording.plan import opinion_summary, stack_sentence
from semfreeze_core.wording.runs import model_sentence

from ..charts.moving_stack import Meter
from ..data.analysis_request import BUNDLED_MODEL, EMBEDDED, UPLOADS, upload_name
from ..data.link import RefusedValue
from .visitor_text import error_text, source_name

PARTS_FOLLOW = "What else the analysis measures follows. The plan does not depend on it."
SET_LIMIT = {
    "balanced": "Set a limit: GPU, memory, or compute.",
    "memory": "Set a limit: memory, or a GPU.",
    "time": "Set a limit in hours.",
}
ALL_DONE = "All parts are done"
UMAP_IN_DEMO = (
    "This UMAP is not there, and a demonstration computes nothing. With semfreeze installed, `semfreeze "
    "umap RUN` makes one, or this page in your own dashboard."
)
CHOOSE_FIRST = "Choose a model, data, and their columns, to preview the examples as the model gets them."
LOOKING = (
    "Looking at tokenizer, config and data; the bundled model is converted first, once, which takes some 20 seconds"
)
COMPARE_WITH = (
    "Choose runs above: another model on the same data, the same model on other data, or checkpoints of one training. "
    "Depths are compared as shares of the layers."
)
NOTHING_TO_COMPARE = "There is no other run here yet. Analyze another model or other data on the page Data."
NOT_DEEPER = "Freezing deeper after {steps:,} steps is not possible here: {problem}."
WIDE_EXCEEDS = (
    "With fewer layers frozen for the first {steps:,} steps the finetune needs {needs}, more than your limit of "
    "{limit}. Choose the schedule fixed, or a higher limit."
)
EMBEDDED_EXPORT = (
    "{model} stands for the bundled model, which other trainers do not know: `semfreeze export` converts it to a "
    "folder and writes that."
)
NO_FINETUNES = (
    "You have no finished validation or sweep yet, so nothing is measured of the errors of your estimates. The page "
    "Prove starts one."
)
NO_SHARES = "No finished finetune measured a share of full finetuning's loss reduction yet, so there is no chart of it."
NO_RUNS = "This folder has no run yet. The page Data makes one; so does `semfreeze analyze`."
NO_COLUMNS = (
    "This run kept no other column of its task file: it was read before runs kept any, or the file has none that makes "
    "groups."
)


HELD_OUT_CAPTION = f"{percent(HELD_OUT)} of the rows, which are then not trained on. No prompt stands on both sides."
PCA_2D = "The ring follows one token; beside it, the model's best guess. Draw around points to select them."
SHARE_CAPTION = "This link shows the same run, depth and settings to whoever can reach this server."
USE_CONCLUSION = "Run it with semfreeze, in your own script, or in another trainer."
MANUAL_DEPTH_NOTE = "No depth is recommended; this one is your choice."
PROVE_FIRST = (
    "A short finetune next to full finetuning on the same data shows whether this depth holds. It runs in the "
    "background; come back to it here."
)
TRAIN_CAPTION = (
    "Put plan.json beside your data. One command trains in the setup that the plan was estimated for, and writes a "
    "model folder that loads anywhere. Run it again to resume."
)
SCRIPT_CAPTION = "A script that uses transformers' Trainer needs three lines more; plan.json lies beside it."
SCRIPT_DIFF = """\
+from pathlib import Path
+from semfreeze_core import FreezePlanCallback, read_plan
 ...
 trainer = Trainer(
     model=model,
     ...
+    callbacks=[FreezePlanCallback(read_plan(Path("plan.json")))],
 )
"""
CHOOSE_GPU = "Choose a GPU above for hours."
UNDECIDED = "Run {name}: these examples do not show how deep to freeze."
PLAN_FOLLOWS = "…"  # where the plan is still computed
ESTIMATE_TITLE = "What finetuning a model takes, before you have data"
ESTIMATE_NEXT = (
    "An estimate says what a depth costs, not what it keeps of full finetuning's quality. For that, analyze the model "
    "on your data: page Data, New analysis."
)


def setup_caption(setup: TrainingSetup) -> str:
    """The training setup below the bar, which counts for the estimates of all pages."""
    line = setup_line(setup)
    return f"{line[:1].upper()}{line[1:]}."


def rows_sentence(manifest: RunManifest) -> str:
    """Which model was analyzed on how many rows of which data, below the bar."""
    return f"{_model_and_rows(manifest)}."


def estimate_caption(shape: ModelShape, setup: TrainingSetup) -> str:
    """Which model and training an estimate is of."""
    size = f"{shape.n_layers} layers, {parameter_count(shape.total_parameters)}"
    return f"{size}. Estimated from sizes alone: {setup_line(setup)}."


def no_estimate_time(gpu: Gpu | None, precision: str) -> str:
    """Why there is no time, and what gives one."""
    if gpu is None:
        return f"Choose a GPU for hours, at {utilization_range()} of its peak rate, and for what fits."
    return no_rate_sentence(gpu, precision)


def run_sentence(run: Run) -> str:
    """Which model was analyzed on which data."""
    model = run.manifest.model.identity.source
    sentence = model_sentence(run.manifest, data_name(run.manifest.data.source))
    return sentence.replace(model, model_name(model), 1)


def analyzed_line(manifest: RunManifest) -> str:
    """Which model was analyzed on how many rows of which data, and when (UTC)."""
    return f"{_model_and_rows(manifest)}, {manifest.provenance.created[:16].replace('T', ' ')}"


def _model_and_rows(manifest: RunManifest) -> str:
    data = manifest.data
    rows = f"{data.n_examples:,} of {data.n_usable:,} rows of {data_name(data.source)}"
    return f"{model_name(manifest.model.identity.source)}, {rows}"


def model_name(source: str) -> str:
    """What to call a model: the bundled one is asked for by a word that says nothing on a page."""
    return BUNDLED_MODEL if source == EMBEDDED else source_name(source)


def all_runs(n: int) -> str:
    """Where the runs are that are not shown."""
    return f"All {n:,} runs, in the Library"


def data_name(source: str) -> str:
    """What to call a run's data: of an upload, which lies beside the runs, its file's name."""
    path = Path(source)
    return upload_name(path.name) if path.parent.name == UPLOADS else source_name(source)


def refused_link_message(refused: Sequence[RefusedValue]) -> str:
    """What to say of a link that asks for what is not here."""
    parts = [
        f"{value.name}={value.asked[:80]!a} ({'ignored' if value.shown is None else f'shown: {value.shown}'})"
        for value in refused
    ]
    return f"The link asks for what is not here: {', '.join(parts)}."


def start_sentence(name: str, comparison: Comparison) -> str:
    """What the open run recommends, in one line."""
    return f"Run {name}: {' '.join(opinion_summary(RULE, comparison.rules[RULE], comparison.n_layers))}"


def start_meters(costs: CostTable, depth: int, rates: Sequence[float]) -> list[Meter]:
    """Time, or compute where no rate is known, and memory: full finetuning's beside those of a freeze depth."""
    cost, full, name = costs.depths[depth], costs.full, f"Freeze {depth}"
    if rates:
        amounts = duration_at(full.flop, rates), duration_at(cost.flop, rates)
    else:
        amounts = flops(full.flop), flops(cost.flop, full.flop)
    meters = [Meter(name, *amounts, cost.relative_flop)]
    if cost.relative_bytes is not None:
        meters.append(Meter(name, gib(full.bytes.total), gib(cost.bytes.total), cost.relative_bytes))
    return meters


def meters_note(speed: Speed) -> str:
    """How the amounts beside the moving stack are known."""
    return f"Estimated for the training setup. {time_line(speed) if speed.rates else CHOOSE_GPU}"


def moving_stack_sentence(n_layers: int, depth: int, meters: Sequence[Meter]) -> str:
    """The stack and what freezing saves, for those who do not see it."""
    saved = "; ".join(f"{meter.planned} instead of {meter.full}" for meter in meters)
    return f"{stack_sentence(n_layers, depth)} Estimated: {saved}."


def alternative_line(costs: CostTable, depth: int) -> str:
    """What a freeze depth costs in the other kind of trainer; "" where nothing is frozen."""
    other = costs.alternative
    if other is None or depth == 0:
        return ""
    cost = other.depths[depth]
    return alternative_sentence(other.trainer, cost.relative_flop, cost.relative_bytes)


def depth_readout(cost: DepthCost, rates: Sequence[float], gpu: Gpu | None) -> str:
    """A freeze depth's compute, memory, time and fit as far as they are known; it has to fit beside the pointer."""
    parts, total = [f"{percent(cost.relative_flop)} compute"], cost.bytes.total
    if total is not None:
        parts.append(gib(total))
    if rates:
        parts.append(duration_at(cost.flop, rates))
    if gpu is not None and total is not None:
        parts.append("fits" if total <= gpu.memory_bytes else "does not fit")
    return ", ".join(parts)


def no_rate_sentence(gpu: Gpu | None, precision: str) -> str:
    """Why there is no time of the run, and what gives one."""
    if gpu is not None and not gpu.source:
        return f"Only this GPU's memory is known ({gpu.name}), so there is no time. Choose a GPU by its name."
    if gpu is not None:
        return f"The peak rate of {gpu.name} in {precision} is not known here, so there is no time of the run."
    return (
        f"No finetune of this run was measured in {precision}, so there is no time of the run yet. Choose a GPU above "
        f"for a range at {utilization_range()} of its peak rate, or start a finetune on the page "
        "Prove."
    )


def catalog_caption(folder: Path | None, n: int) -> str:
    """Where the runs are, and how to make one."""
    if folder is None:
        return "A demonstration with the bundled example only. It was analyzed once; you need no model to look at it."
    if n > 1:
        where = f"{n - 1} in {error_text(folder)}, and the bundled example"
    else:
        where = f"No runs in {error_text(folder)} yet, only the bundled example"
    return (
        f"{where}. Click one to open it. To make another, analyze a model on the page Data, or with `semfreeze analyze "
        "--model MODEL --data FILE --out NAME` on the command line."
    )


def cell_sentence(cell: Mapping[Hashable, object]) -> str:
    """What the output head predicts for one token at one space."""
    read = ", ".join(map(markdown_code, str(cell["read"]).split("  ")))
    rank_text = "among them" if cell["truth among them"] else "not among them"
    return (
        f"Space {cell['space']}, token {cell['token']}: the head predicts {read}; the truth "
        f"{markdown_code(str(cell['truth']))} is "
        f"{rank_text} (deviation {cell['deviation']:.3f})."
    )


def time_line(speed: Speed) -> str:
    """Where the rate comes from that a finetune's time is estimated at, or why there is none."""
    if speed.source is None:
        return "The time is unknown: this run has no timed finetune, and no GPU with a known peak rate is chosen."
    return f"The time is at the rate {speed.source}; on another or a busier device it differs."


def pca_caption(display: DisplaySample, n_drawn: int, space: int, flat: bool) -> str:
    """How many points of how many are drawn, and what can be done with them."""
    return (
        f"{n_drawn:,} of {display.n_positions_total:,} target tokens, drawn with seed {display.seed}; opens at hidden "
        f"state {space}. {'Stars' if flat else 'Open diamonds'}: directions of {len(display.basis_ids)} target tokens. "
        f"{PCA_2D if flat else 'Points are selected in 2-D, which needs no WebGL either.'}"
    )


def umap_caption(display: DisplaySample, projection: UmapProjection, space: int) -> str:
    """How many points of how many are drawn, how they were laid out, and what not to read into them."""
    return (
        f"{len(projection.positions):,} of {display.n_positions_total:,} target tokens, spread over the "
        f"{len(display.example):,} shown; laid out with seed {projection.seed}, {projection.n_neighbors} neighbors; "
        f"opens at hidden state {space}. Stars: directions of the {len(display.basis_ids)} target tokens. "
        "Distances between far-apart groups mean little. Draw around points to select them."
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
