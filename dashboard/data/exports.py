"""The plan on the page as a document, as a command and as Python; each gives the same plan."""

import shlex
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

from semfreeze_core.cost.setup import default_precision
from semfreeze_core.errors import InputError
from semfreeze_core.plan import FreezePlan, make_plan
from semfreeze_core.plan.badge import with_badge
from semfreeze_core.plan.make import default_setup
from semfreeze_core.plan.opinions import Opinion
from semfreeze_core.plan.rules import RuleName
from semfreeze_core.plan.rules_by_cost import Budget
from semfreeze_core.records.defaults import RULE
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.manifest import DataEntry, RunManifest
from semfreeze_core.records.options import EstimateOptions
from semfreeze_core.records.training import DepthSwitch, LoraSetup, TrainingSetup
from semfreeze_core.runs.reports import readable_validations
from semfreeze_core.sources.data.fields import resolve_fields
from semfreeze_core.sources.data.samples import resolve_data

from ..panels.page import PageContext
from . import task_data
from .run_folder import EXAMPLE, OpenRun

MISSING_DATA = "YOUR_DATA.jsonl"


@dataclass(frozen=True)
class PlanSelection:
    """Everything a plan on the page depends on.

    Attributes:
        opened: the run.
        metric: deviation the gains come from.
        rule: whose depth it is; "manual" when it was chosen by hand.
        depth: freeze depth, of the rule manual alone.
        budget: of the rule budget alone.
        options: the setup as options.
        setup: the setup they mean.
        switch: where it freezes so deep only after some steps, or None.
    """

    opened: OpenRun
    metric: str
    rule: RuleName
    depth: int | None
    budget: Budget | None
    options: EstimateOptions
    setup: TrainingSetup
    switch: DepthSwitch | None = None

    @property
    def progressive(self) -> str | None:
        """The switch as `make_plan` takes it."""
        return None if self.switch is None else f"@{self.switch.step}"

    def plan(self) -> FreezePlan:
        """The plan itself, with what the run's validations say of it."""
        plan = make_plan(
            self.opened.run,
            rule=self.rule,
            metric=self.metric,
            depth=self.depth,
            progressive=self.progressive,
            budget=self.budget,
            setup=self.setup,
            run_name=self.opened.folder.absolute().name,
        )
        return with_badge(plan, readable_validations(self.opened.folder)[0])

    def document(self) -> str:
        """The plan as `semfreeze plan --out` writes it."""
        return self.plan().model_dump_json(indent=1) + "\n"


def plan_selection(
    ctx: PageContext,
    opinion: Opinion | None,
    rule: str,
    depth: int,
    budget: Budget | None,
    options: EstimateOptions,
    setup: TrainingSetup,
) -> PlanSelection:
    """The plan of the depth on the page: the rule's own where the depth is what it recommends, else by hand."""
    by_rule = opinion is not None and opinion.freeze_depth == depth
    card = budget.card if by_rule and budget is not None else None
    if options.precision is None and setup.precision != default_precision(ctx.opened.run, card):
        options = replace(options, precision=setup.precision)  # of a GPU that the command does not name
    return PlanSelection(
        opened=ctx.opened,
        metric=ctx.metric,
        rule=cast(RuleName, rule) if by_rule else "manual",
        depth=None if by_rule else depth,
        budget=budget if by_rule else None,
        options=options,
        setup=setup,
    )


def as_command(selection: PlanSelection) -> str:
    """The command that writes the same plan; what is left at its default goes unsaid."""
    run = EXAMPLE if selection.opened.name == EXAMPLE else str(selection.opened.folder)
    arguments = ["semfreeze", "plan", run]
    if selection.metric != "semantic":
        arguments += ["--metric", selection.metric]
    if selection.rule == "manual":
        arguments += ["--depth", str(selection.depth)]
    elif selection.rule == "budget" and selection.budget is not None:
        for field in fields(selection.budget):
            if (value := getattr(selection.budget, field.name)) is not None:
                arguments += [_flag(field.name), str(value)]
    elif selection.rule != RULE:
        arguments += ["--rule", selection.rule]
    if selection.progressive is not None:
        arguments += ["--progressive", selection.progressive]
    for name, value in _set_options(selection).items():
        arguments += [_flag(name if value else f"no_{name}")] if isinstance(value, bool) else [_flag(name), str(value)]
    return shlex.join([*arguments, "--out", "plan.json"])


def training_command(manifest: RunManifest) -> tuple[str, ...]:
    """The words of the semfreeze command that trains a plan of a run on its data, read as in the analysis.

    A file that is gone has to be named.

    Args:
        manifest: of the run.
    """
    data = manifest.data
    source, mapping = readable_data(data)[0], FieldMapping(**data.mapping)
    if source is None:
        source = hub_data(data) or MISSING_DATA
    elif _is_guessed(mapping, source):
        mapping = FieldMapping()
    named = [f"{_flag(name)}={value}" for name, value in asdict(mapping).items() if value is not None]
    return ("train", "plan.json", "--data", source, *named, "--out", "my-model")


def hub_data(data: DataEntry) -> str | None:
    """A hub dataset with its split, as the command line takes it; None for other data."""
    if not data.source.startswith("hf:"):
        return None
    return data.source if data.split is None else f"{data.source}#{data.split}"


def _is_guessed(mapping: FieldMapping, source: str) -> bool:
    """Whether a command that names no field reads a file in the same way."""
    try:
        columns = task_data.columns(source, None, task_data.stamp_of(source))
        return resolve_fields(FieldMapping(), columns)[0] == mapping
    except InputError:
        return False


def as_python(selection: PlanSelection) -> str:
    """Python that makes the same plan; what is left at its default goes unsaid."""
    example = selection.opened.name == EXAMPLE
    imports = ["from pathlib import Path", "", "import semfreeze_core as sf"]
    if selection.budget is not None and selection.rule == "budget":
        imports.append("from semfreeze_core.plan.rules_by_cost import Budget")
    if selection.setup.lora is not None:
        imports.append("from semfreeze_core.records.training import LoraSetup")
    badge = []
    folder = "sf.example_run()" if example else f"Path({str(selection.opened.folder)!r})"
    parameters: dict[str, Any] = {"rule": selection.rule, "metric": selection.metric, "depth": selection.depth}
    parameters["progressive"] = selection.progressive
    parameters["budget"] = selection.budget if selection.rule == "budget" else None
    parameters["run_name"] = selection.opened.folder.absolute().name
    defaults = {"rule": RULE, "metric": "semantic", "depth": None, "progressive": None, "budget": None}
    arguments = [
        f"{name}={value!r}" for name, value in parameters.items() if name not in defaults or value != defaults[name]
    ]
    setup = []
    if selection.setup != default_setup(selection.opened.run, budget=parameters["budget"]):
        setup.append(f"setup = sf.TrainingSetup({_arguments(selection.setup)})")
        arguments.append("setup=setup")
    if selection.plan().evidence.badge == "measured":  # by a validation beside the run
        imports += ["from semfreeze_core.plan.badge import with_badge"]
        imports += ["from semfreeze_core.runs.reports import list_validations"]
        badge = [f"plan = with_badge(plan, list_validations({folder}))"]
    return "\n".join(
        [
            *imports,
            "",
            f"run = sf.read_run({folder})",
            *setup,
            f"plan = sf.make_plan(run, {', '.join(arguments)})",
            *badge,
            'Path("plan.json").write_text(plan.model_dump_json(indent=1) + "\\n")',
        ]
    )


def readable_data(read: DataEntry) -> tuple[str | None, FieldMapping | None]:
    """The file a run read and its fields, while it is there; None for both when it is not, or none of a file."""
    try:
        known = Path(resolve_data(read.source)).is_file()
    except InputError:
        known = False
    return (read.source, FieldMapping(**read.mapping)) if known else (None, None)


def _set_options(selection: PlanSelection) -> dict[str, Any]:
    """Flags that differ from the command's own defaults, in its order."""
    options, budget = selection.options, selection.budget if selection.rule == "budget" else None
    if selection.setup.precision != default_setup(selection.opened.run, budget=budget).precision:
        options = replace(options, precision=selection.setup.precision)  # the page's GPU is not in the command
    values = {
        f.name: getattr(options, f.name) for f in fields(EstimateOptions) if getattr(options, f.name) != f.default
    }
    if not options.lora:  # a rank alone is a comparison, which a plan has none of
        values.pop("lora_rank", None)
    return values


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _arguments(setup: TrainingSetup) -> str:
    values = {f.name: getattr(setup, f.name) for f in fields(TrainingSetup) if getattr(setup, f.name) != f.default}
    return ", ".join(f"{name}={_literal(value)}" for name, value in values.items())


def _literal(value: Any) -> str:
    if isinstance(value, LoraSetup):
        return f"LoraSetup({value.rank}, {value.targets!r})"
    return repr(value)
