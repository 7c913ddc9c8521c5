"""The plan on the page as a document, as a command and as Python; each gives the same plan."""

import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

from semfreeze_core.errors import InputError
from semfreeze_core.plan import FreezePlan, make_plan
from semfreeze_core.plan.make import default_setup
from semfreeze_core.plan.opinions import Opinion
from semfreeze_core.plan.rules import RuleName
from semfreeze_core.plan.rules_by_cost import Budget
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.manifest import DataEntry
from semfreeze_core.records.options import EstimateOptions
from semfreeze_core.records.training import LoraSetup, TrainingSetup
from semfreeze_core.sources.data.samples import resolve_data

from ..panels.page import Reading
from .run_folder import EXAMPLE, OpenRun


@dataclass(frozen=True)
class Choice:
    """Everything a plan on the page depends on.

    Attributes:
        opened: the run.
        metric: deviation the gains come from.
        rule: whose depth it is; "manual" when it was chosen by hand.
        depth: freeze depth, of the rule manual alone.
        budget: of the rule budget alone.
        flags: the setup as flags.
        setup: the setup they mean.
    """

    opened: OpenRun
    metric: str
    rule: RuleName
    depth: int | None
    budget: Budget | None
    flags: EstimateOptions
    setup: TrainingSetup

    def plan(self) -> FreezePlan:
        """The plan itself."""
        return make_plan(
            self.opened.run,
            rule=self.rule,
            metric=self.metric,
            depth=self.depth,
            budget=self.budget,
            setup=self.setup,
            run_name=self.opened.folder.absolute().name,
        )

    def document(self) -> str:
        """The plan as `semfreeze plan --out` writes it."""
        return self.plan().model_dump_json(indent=1) + "\n"


def chosen(
    seen: Reading,
    asked: Opinion | None,
    rule: str,
    depth: int,
    budget: Budget | None,
    flags: EstimateOptions,
    setup: TrainingSetup,
) -> Choice:
    """The plan of the depth on the page: the asked rule's own where the depth is what it recommends, else by hand."""
    by_rule = asked is not None and asked.freeze_depth == depth
    return Choice(
        opened=seen.opened,
        metric=seen.metric,
        rule=cast(RuleName, rule) if by_rule else "manual",
        depth=None if by_rule else depth,
        budget=budget if by_rule else None,
        flags=flags,
        setup=setup,
    )


def as_command(choice: Choice) -> str:
    """The command that writes the same plan; what is left at its default goes unsaid."""
    run = EXAMPLE if choice.opened.name == EXAMPLE else str(choice.opened.folder)
    words = ["semfreeze", "plan", run]
    if choice.metric != "semantic":
        words += ["--metric", choice.metric]
    if choice.rule == "manual":
        words += ["--depth", str(choice.depth)]
    elif choice.rule == "budget" and choice.budget is not None:
        for field in fields(choice.budget):
            if (value := getattr(choice.budget, field.name)) is not None:
                words += [_flag(field.name), str(value)]
    elif choice.rule != "coverage":
        words += ["--rule", choice.rule]
    for name, value in _told(choice.flags).items():
        words += [_flag(name if value else f"no_{name}")] if isinstance(value, bool) else [_flag(name), str(value)]
    return shlex.join([*words, "--out", "plan.json"])


def as_python(choice: Choice) -> str:
    """Python that makes the same plan; what is left at its default goes unsaid."""
    example = choice.opened.name == EXAMPLE
    imports = ["from pathlib import Path", "", "import semfreeze_core as sf"]
    if choice.budget is not None and choice.rule == "budget":
        imports.append("from semfreeze_core.plan.rules_by_cost import Budget")
    if choice.setup.lora is not None:
        imports.append("from semfreeze_core.records.training import LoraSetup")
    place = "sf.example_run()" if example else f"Path({str(choice.opened.folder)!r})"
    wishes: dict[str, Any] = {"rule": choice.rule, "metric": choice.metric, "depth": choice.depth}
    wishes["budget"] = choice.budget if choice.rule == "budget" else None
    wishes["run_name"] = choice.opened.folder.absolute().name
    defaults = {"rule": "coverage", "metric": "semantic", "depth": None, "budget": None}
    said = [f"{name}={value!r}" for name, value in wishes.items() if name not in defaults or value != defaults[name]]
    setup = []
    if choice.setup != default_setup(choice.opened.run):
        setup.append(f"setup = sf.TrainingSetup({_arguments(choice.setup)})")
        said.append("setup=setup")
    return "\n".join(
        [
            *imports,
            "",
            f"run = sf.read_run({place})",
            *setup,
            f"plan = sf.make_plan(run, {', '.join(said)})",
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


def _told(flags: EstimateOptions) -> dict[str, Any]:
    """Flags that differ from the command's own defaults, in its order."""
    told = {f.name: getattr(flags, f.name) for f in fields(EstimateOptions) if getattr(flags, f.name) != f.default}
    if not flags.lora:  # a rank alone is a comparison, which a plan has none of
        told.pop("lora_rank", None)
    return told


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _arguments(setup: TrainingSetup) -> str:
    told = {f.name: getattr(setup, f.name) for f in fields(TrainingSetup) if getattr(setup, f.name) != f.default}
    return ", ".join(f"{name}={_literal(value)}" for name, value in told.items())


def _literal(value: Any) -> str:
    if isinstance(value, LoraSetup):
        return f"LoraSetup({value.rank}, {value.targets!r})"
    return repr(value)
