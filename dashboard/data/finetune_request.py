"""What is asked of a guided finetune, as the page's form has it, as the command line takes it and as Python."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.manifest import RunManifest
from semfreeze_core.records.options import EstimateOptions, TrainingOptions
from semfreeze_core.records.race import Objective, ObjectiveKind

COMMAND = "finetune"
# What a limit counts in the form, the unit that the command has for it, and how many bytes or seconds that is.
LIMIT_UNITS: dict[ObjectiveKind, tuple[str, float]] = {"memory": ("", 2**30), "time": ("h", 3600)}
_NUMBERS = ("steps", "epochs", "max_length", "batch_size", "micro_batch_size", "depth")
_SHORT = {"evaluation": "eval", "add_eos": "eos"}
_LONG = {short: name for name, short in _SHORT.items()}


@dataclass(frozen=True)
class FinetuneForm:
    """What the form of a guided finetune holds.

    Attributes:
        model, revision: as the run was analyzed.
        data: training examples, as the command line takes them.
        evaluation: eval examples, likewise; None holds some out.
        mapping, add_eos: as the run was analyzed.
        steps: optimizer steps; None trains for `epochs`.
        epochs: passes over the training examples; None is the command's default.
        kind: of the objective.
        limit: of the objective memory in GiB, of time in hours; else None.
        options: how to train, as far as somebody says.
        max_length: longest example in tokens, or None.
        depth: freeze depth in place of the finetune's own decision, or None.
    """

    model: str
    data: str
    revision: str | None = None
    evaluation: str | None = None
    mapping: FieldMapping = field(default_factory=FieldMapping)
    add_eos: bool = True
    steps: int | None = None
    epochs: int | None = None
    kind: ObjectiveKind = "balanced"
    limit: float | None = None
    options: TrainingOptions = field(default_factory=TrainingOptions)
    max_length: int | None = None
    depth: int | None = None

    @property
    def objective(self) -> Objective:
        """What the finetune is to be good at."""
        return Objective(kind=self.kind, limit=None if self.limit is None else self.limit * LIMIT_UNITS[self.kind][1])

    def command(self) -> tuple[str, ...]:
        """The words of the semfreeze command that does it; with "=", so that no value is taken for a flag."""
        return (COMMAND, *self._arguments())

    def _arguments(self) -> Iterator[str]:
        values = asdict(replace(self, options=TrainingOptions()))
        named = ("model", "revision", "data", "evaluation", "steps", "epochs", "max_length", "depth")
        values = {name: values[name] for name in named} | asdict(self.mapping) | asdict(self.options)
        for name, value in values.items():
            flag = _SHORT.get(name, name).replace("_", "-")
            if isinstance(value, bool):
                yield f"--{'' if value else 'no-'}{flag}"
            elif value is not None:
                yield f"--{flag}={value}"
        if self.kind != "balanced":
            limit = "" if self.limit is None else f" {self.limit:g}{LIMIT_UNITS[self.kind][0]}"
            yield f"--objective={self.kind}{limit}"
        if not self.add_eos:
            yield f"--no-{_SHORT['add_eos']}"

    def python(self, out: Path) -> str:
        """Python that does it; what is left at its default goes unsaid.

        Args:
            out: folder of the model.
        """
        mapping, options = _set(self.mapping), _set(self.options)
        imports = ["from pathlib import Path", "", "from semfreeze_core.finetune.arm.job import ModelSource"]
        imports += ["from semfreeze_core.guided.finetune import finetune"]
        imports += ["from semfreeze_core.guided.request import GuidedRequest"]
        imports += ["from semfreeze_core.records.fields import FieldMapping"] if mapping else []
        imports += ["from semfreeze_core.records.options import TrainingOptions"] if options else []
        imports += ["from semfreeze_core.records.race import Objective"] if self.kind != "balanced" else []
        revision = "" if self.revision is None else f", revision={self.revision!r}"
        arguments = [f"model=ModelSource(source={self.model!r}{revision})", f"data={self.data!r}"]
        plain = ("evaluation", "steps", "epochs", "max_length", "depth")
        arguments += [f"{name}={value!r}" for name in plain if (value := getattr(self, name)) is not None]
        if not self.add_eos:
            arguments.append("add_eos=False")
        arguments += [f"mapping=FieldMapping({mapping})"] if mapping else []
        arguments += [f"options=TrainingOptions({options})"] if options else []
        if self.kind != "balanced":
            limit = "" if self.objective.limit is None else f", limit={self.objective.limit!r}"
            arguments.append(f"objective=Objective(kind={self.kind!r}{limit})")
        return "\n".join(
            [
                *imports,
                "",
                "request = GuidedRequest(",
                *(f"    {argument}," for argument in arguments),
                ")",
                f"report = finetune(request, Path({str(out)!r}))",
            ]
        )


def analyzed_form(manifest: RunManifest, data: str, evaluation: str | None, setup: EstimateOptions) -> FinetuneForm:
    """The finetune of a run's model under a training setup.

    Args:
        manifest: of the run.
        data: training examples.
        evaluation: eval examples, or None.
        setup: the training setup beside the page; adapters and what only estimates know do not count.
    """
    identity, entry = manifest.model.identity, manifest.data
    return FinetuneForm(
        model=identity.source,
        revision=identity.revision,
        data=data,
        evaluation=evaluation,
        mapping=FieldMapping(**entry.mapping),
        add_eos=manifest.settings.add_eos,
        epochs=setup.epochs,
        options=TrainingOptions(**{f.name: getattr(setup, f.name) for f in fields(TrainingOptions)}),
        max_length=setup.sequence_length,
    )


def _set(options: Any) -> str:
    """Arguments of a group of options that somebody set."""
    values = {f.name: getattr(options, f.name) for f in fields(options)}
    return ", ".join(f"{name}={value!r}" for name, value in values.items() if value is not None)


def form_of(command: Sequence[str]) -> FinetuneForm | None:
    """The form that a command came from, as `command` gives it; None for another command."""
    if tuple(command[:1]) != (COMMAND,):
        return None
    flags = dict[str, str | None]()
    for word in command[1:]:
        flag, given, value = word.removeprefix("--").partition("=")
        flags[flag.replace("-", "_")] = value if given else None
    kind, _, limit = (flags.pop("objective", None) or "balanced").partition(" ")
    mapping, options = ({f.name for f in fields(group)} for group in (FieldMapping, TrainingOptions))
    values: dict[str, Any] = {"kind": kind, "limit": float(limit.rstrip("h")) if limit else None}
    groups: dict[str, dict[str, Any]] = {"mapping": {}, "options": {}}
    for flag, text in flags.items():
        name = flag if text is not None else flag.removeprefix("no_")
        read = flag == name if text is None else int(text) if name in _NUMBERS else text
        if name in mapping or name in options:
            groups["mapping" if name in mapping else "options"][name] = read
        else:
            values[_LONG.get(name, name)] = read
    return FinetuneForm(
        **values, mapping=FieldMapping(**groups["mapping"]), options=TrainingOptions(**groups["options"])
    )
