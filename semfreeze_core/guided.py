"""A guided finetune in its steps: hold out eval rows, analyze, check, race, and train what was chosen.

Everything before the training is in the folder `decision` of the result, and every part resumes by itself: a second
call with the same request does only what is missing.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from semfreeze_core.cost import depth_cost, parts_at_depth
from semfreeze_core.cost.setup import options_applied, setup_from_options
from semfreeze_core.device import choose_device, release_unused_memory, trained_precision
from semfreeze_core.errors import DataError, InputError, PlanError, RunError
from semfreeze_core.finetune.arm.job import ModelSource
from semfreeze_core.finetune.arm.settings import refuse_untrainable
from semfreeze_core.finetune.model.task_data import TaskData, read_task_data
from semfreeze_core.finetune.train.request import FirstSteps, TrainRequest
from semfreeze_core.finetune.train.train import CHECKPOINTS, DECISION, RESULT, train_plan
from semfreeze_core.finetune.validation.race import RaceRequest, estimate_race, race, winning_checkpoint
from semfreeze_core.finetune.validation.request import prepare
from semfreeze_core.gains.task_checks import check_task
from semfreeze_core.plan.auto import candidate_variants, quarter_depth, variant_name
from semfreeze_core.plan.document import FreezePlan
from semfreeze_core.plan.make import curve_of, make_plan, new_tokens_reason
from semfreeze_core.plan.rules import decide_by_coverage
from semfreeze_core.plan.rules_by_cost import UNKNOWN_MEMORY, Budget
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.defaults import (
    ACCURACY_ROWS,
    EPOCHS,
    MIN_RACED_STEPS,
    RACE_ROWS,
)
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.finetune_report import FinetuneReport
from semfreeze_core.records.options import EstimateOptions, TrainingOptions
from semfreeze_core.records.provenance import provenance_now
from semfreeze_core.records.race import Objective, Race
from semfreeze_core.records.run import Run
from semfreeze_core.records.task_checks import TaskChecks
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.runs.folder import MANIFEST, read_run, write_run
from semfreeze_core.sources.data.held_out import hold_out
from semfreeze_core.sources.data.samples import source_digest
from semfreeze_core.sources.models.loading import load_tokenizer
from semfreeze_core.storage import disk_errors, kept_source, write_atomically
from semfreeze_core.temporary import is_temporary, remove_leftovers, require_locks
from semfreeze_core.wording.race import cost_line, examples_line, race_line, run_time_line, unraced_line
from semfreeze_core.workflow import AnalysisRequest, analyze

REPORT, SETTINGS = "report.json", "settings.json"
_DATA, _ANALYSIS, _RACE = "data", "analysis", "race"


@dataclass(frozen=True)
class GuidedRequest:
    """What to finetune, and to what end.

    Attributes:
        model: where it comes from.
        data: training examples: a task file, "hf:owner/name#split", or "sample:NAME".
        evaluation: eval examples; None holds some out of `data`.
        mapping: which fields hold what.
        add_eos: end completions with the tokenizer's EOS.
        epochs: passes over the training examples, unless `steps` is given.
        steps: optimizer steps.
        objective: what the finetune is to be good at.
        depth: your own freeze depth, in place of a decision.
        options: how to train, as far as somebody says.
        max_length: longest example in tokens, or None.
        n_accuracy: eval examples answered by generation.
    """

    model: ModelSource
    data: str
    evaluation: str | None = None
    mapping: FieldMapping = field(default_factory=FieldMapping)
    add_eos: bool = True
    epochs: int = EPOCHS
    steps: int | None = None
    objective: Objective = field(default_factory=Objective)
    depth: int | None = None
    options: TrainingOptions = field(default_factory=TrainingOptions)
    max_length: int | None = None
    n_accuracy: int = ACCURACY_ROWS

    def __post_init__(self) -> None:
        least = {"epochs": 1, "steps": 1, "max_length": 1, "n_accuracy": 0, "depth": 0}
        flags = {"max_length": "--max-length", "n_accuracy": "--accuracy-examples"}
        problems = [
            f"{flags.get(name, f'--{name}')} must be at least {lowest}, found {value}"
            for name, lowest in least.items()
            if (value := getattr(self, name)) is not None and value < lowest
        ]
        if self.depth is not None and self.objective != Objective():
            problems.append(
                f"--depth {self.depth} names what to train, and --objective {self.objective.kind} would choose it: "
                "leave one of them out"
            )
        if problems:
            raise InputError("; ".join(problems) + ".")

    def settings(self) -> dict[str, Any]:
        """What must be equal for a guided finetune to resume."""
        settings = {
            "model": self.model.source,
            "revision": self.model.revision,
            "data_digest": source_digest(self.data),
            "eval_digest": None if self.evaluation is None else source_digest(self.evaluation),
            "mapping": asdict(self.mapping),
            "add_eos": self.add_eos,
            "epochs": self.epochs,
            "steps": self.steps,
            "objective": self.objective.model_dump(),
            "depth": self.depth,
            "options": {name: getattr(self.options, name) for name in TrainingOptions.__dataclass_fields__},
            "max_length": self.max_length,
        }
        return dict(json.loads(json.dumps(settings)))


@dataclass(frozen=True)
class _Task:
    """The examples of a guided finetune, and how they are trained on.

    Attributes:
        run: the analysis of the training examples.
        train, evaluation: files or sources.
        data: all of both sets, tokenized.
        setup: of the whole finetune.
        checks: the free checks of both sets.
    """

    run: Run
    train: str
    evaluation: str
    data: TaskData
    setup: TrainingSetup
    checks: TaskChecks

    @property
    def n_train(self) -> int:
        return len(self.data.train.tokenized)

    @property
    def n_eval(self) -> int:
        return len(self.data.evaluation.tokenized)


def finetune(request: GuidedRequest, folder: Path, progress: Progress = silent) -> FinetuneReport:
    """Decide which layers to train, and train them to the end.

    Args:
        request: what to finetune.
        folder: gets the model, its plan, card and report; what was decided by is below `decision`.
        progress: receives what it will do and cost before anything trains, then steps and stages.

    Returns:
        The report; of a finetune that is finished, the one that was written.

    Raises:
        InputError: the model or the data cannot be used, no variant learns, or the folder holds something else.
        ResourceError: memory or disk ran out; what is finished stays.
    """
    with _claimed(folder, request):
        written = folder / REPORT
        if written.exists():
            report = FinetuneReport.model_validate_json(written.read_text())
            return report.model_copy(update={"folder": str(folder)})  # where it is now
        task = _task(request, folder / DECISION, progress)
        plan, raced = _decide(request, task, folder / DECISION / _RACE, progress)
        if not (folder / RESULT).exists():
            train_plan(_training(request, task, plan, raced, folder), folder, progress)
        report = _report(request, task, plan, folder)
        write_atomically(written, report.model_dump_json(indent=1) + "\n")
        return report


@contextmanager
def _claimed(folder: Path, request: GuidedRequest) -> Iterator[None]:
    """Lock the folder for this request and this process.

    Raises:
        RunError: it holds something else, another finetune, or is in use.
    """
    decision = folder / DECISION
    _refuse_foreign(folder)
    with disk_errors(folder, kept=lambda: "What is finished is kept.", advice="Free some space and run it again."):
        made = not folder.exists()
        decision.mkdir(parents=True, exist_ok=True)
        require_locks(decision)
        try:
            with FileLock(decision / ".lock", timeout=0):
                remove_leftovers(decision)
                _refuse_another(folder, request)
                yield
        except Timeout as error:
            raise RunError(f"A finetune is already running in {folder}.") from error
        finally:
            if not (decision / SETTINGS).exists():  # refused before anything was decided
                shutil.rmtree(decision, ignore_errors=True)
            if made:
                with suppress(OSError):
                    folder.rmdir()  # only an empty one goes


def _refuse_foreign(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise RunError(f"{folder} is not a folder. Choose another --out.")
    names = [path.name for path in folder.iterdir() if not is_temporary(path.name)]
    if names and DECISION not in names:
        raise RunError(f"{folder} is not empty and holds no guided finetune. Choose another --out.")


def _refuse_another(folder: Path, request: GuidedRequest) -> None:
    """Refuse another request's results; what was only prepared for it is removed."""
    path = folder / DECISION / SETTINGS
    if not path.exists():
        return
    try:
        written = json.loads(path.read_text())
    except (ValueError, UnicodeDecodeError):
        written = {}
    ours = request.settings()
    known = written if isinstance(written, dict) else {}
    kept = _kept_settings(request, folder / DECISION)
    different = [n.removesuffix("_digest") for n in ours if known.get(n) not in (ours[n], kept[n])]
    if not different:
        return
    results = [*(folder / DECISION / _RACE / "runs").glob("*-seed0.json"), *(folder / CHECKPOINTS).glob("*")]
    if results or (folder / RESULT).exists():
        raise RunError(
            f"{folder} holds another finetune (other settings: {', '.join(different)}). Choose another --out, or "
            "remove it."
        )
    for part in (_DATA, _ANALYSIS, _RACE):
        shutil.rmtree(folder / DECISION / part, ignore_errors=True)
    path.unlink()


def _kept_settings(request: GuidedRequest, folder: Path) -> dict[str, Any]:
    """The settings as a document in `folder` holds them."""
    return request.settings() | {"model": kept_source(request.model.source, folder)}


def _task(request: GuidedRequest, decision: Path, progress: Progress) -> _Task:
    """Both sets, the analysis of the training set, and the whole finetune's setup."""
    tokenizer = load_tokenizer(request.model.open(progress))
    train, evaluation = request.data, request.evaluation
    if evaluation is None:
        split = hold_out(train, request.mapping, decision / _DATA, tokenizer=tokenizer, progress=progress)
        train, evaluation = str(split.train), str(split.evaluation)
        n, total = split.n_eval, split.n_train + split.n_eval
        progress(ProgressEvent("Holding out", message=f"{n:,} of {total:,} rows are held out for evaluation."))
    run = _analysis(request, train, decision, progress)
    setup = _setup(request, run)
    data = read_task_data(
        train,
        evaluation,
        tokenizer,
        mapping=request.mapping,
        n_train=None,
        n_eval=None,
        max_length=setup.sequence_length,
        add_eos=request.add_eos,
        progress=progress,
    )
    if data.overlap:
        raise DataError(
            f"{' '.join(data.overlap)} Remove them from {evaluation}, or leave --eval out: rows are then held out."
        )
    n = len(data.train.tokenized)
    steps = request.steps or request.epochs * -(-n // setup.batch_size)
    longest = max(len(e.input_ids) for part in (data.train, data.evaluation) for e in part.tokenized)
    setup = replace(setup, train_examples=n, steps=steps, sequence_length=longest)
    refuse_untrainable(setup)
    checks = check_task(data.train.tokenized, data.evaluation.tokenized)
    write_atomically(decision / SETTINGS, json.dumps(_kept_settings(request, decision), indent=1) + "\n")
    progress(ProgressEvent("Finetune", message=examples_line(n, len(data.evaluation.tokenized), steps, setup)))
    return _Task(run, train, evaluation, data, setup, checks)


def _analysis(request: GuidedRequest, train: str, decision: Path, progress: Progress) -> Run:
    folder = decision / _ANALYSIS
    if (folder / MANIFEST).exists():
        return read_run(folder)
    run = analyze(
        AnalysisRequest(
            model=request.model.source,
            data=train,
            mapping=request.mapping,
            max_length=request.max_length,
            add_eos=request.add_eos,
            allow_few=True,
            revision=request.model.revision,
            device=request.model.device,
            trust_remote_code=request.model.trust_remote_code,
            allow_pickle=request.model.allow_pickle,
        ),
        progress,
    )
    write_run(run, folder)
    release_unused_memory(choose_device(request.model.device))  # variants train in processes of their own
    return read_run(folder)


def _setup(request: GuidedRequest, run: Run) -> TrainingSetup:
    """How to train, before the examples are counted."""
    setup = setup_from_options(run.shape, run, EstimateOptions(sequence_length=request.max_length))
    setup = replace(setup, precision=trained_precision(setup.precision, choose_device(request.model.device)))
    return options_applied(setup, request.options)


def _decide(request: GuidedRequest, task: _Task, folder: Path, progress: Progress) -> tuple[FreezePlan, Race | None]:
    """The plan, by the depth that was asked for, a race, or free checks.

    Raises:
        PlanError: nothing is recommended, or nothing fits.
    """
    run, setup = task.run, task.setup
    if request.depth is not None:
        return _told(make_plan(run, rule="manual", depth=request.depth, setup=setup), progress), None
    variants = _variants(request, task)
    if not variants:  # deeper than all of them, or refused with what fits best
        return _told(_within_memory(request, task), progress), None
    why = _no_race(task, variants)
    if why is None:
        raced = _race(request, task, variants, folder, progress)
        return make_plan(run, rule="auto", race=raced, checks=task.checks, setup=setup), raced
    progress(ProgressEvent("Finetune", message=unraced_line(why)))
    if request.objective.kind == "time":
        raise InputError(f"--objective time needs a race, which measures the time of a step. {why}")
    plan = make_plan(run, rule="auto", checks=task.checks, setup=setup)
    if plan.freeze_depth is None:
        raise PlanError(
            f"The analysis makes no recommendation: {' '.join(plan.reasons)} To train every layer, add --depth 0; to "
            "freeze K layers, --depth K."
        )
    if request.objective.kind == "memory" and variant_name(plan.freeze_depth) not in variants:
        plan = _within_memory(request, task)
    return _told(plan, progress), None


def _within_memory(request: GuidedRequest, task: _Task) -> FreezePlan:
    """The plan of the smallest depth that fits into the memory limit."""
    limit = float(request.objective.limit or 0)
    return make_plan(task.run, rule="budget", budget=Budget(max_memory_gib=limit / 2**30), setup=task.setup)


def _told(plan: FreezePlan, progress: Progress) -> FreezePlan:
    """The plan, once its cost is reported."""
    planned = plan.cost.planned or plan.cost.full
    progress(ProgressEvent("Finetune", message=cost_line((planned.flop, planned.flop), planned.bytes.total)))
    return plan


def _variants(request: GuidedRequest, task: _Task) -> dict[str, int]:
    """The variants to choose from, those within a memory limit where there is one.

    Raises:
        PlanError: memory is limited and unknown.
    """
    run = task.run
    if new_tokens_reason(run) is not None:
        return {variant_name(0): 0}
    pick = decide_by_coverage(curve_of(run, "semantic")).freeze_depth
    variants = candidate_variants(run.shape.n_layers, pick)
    if request.objective.kind != "memory":
        return variants
    needed = {
        name: depth_cost(run.shape, task.setup, parts_at_depth(run.shape, depth)).bytes.total
        for name, depth in variants.items()
    }
    if None in needed.values():
        raise PlanError(UNKNOWN_MEMORY.partition(" Use ")[0])
    limit = request.objective.limit or 0
    return {name: variants[name] for name, n_bytes in needed.items() if n_bytes is not None and n_bytes <= limit}


def _no_race(task: _Task, variants: Mapping[str, int]) -> str | None:
    """Why there is no race; None where there is one."""
    if len(variants) < 2:
        return "There are fewer than two variants to compare."
    if task.setup.steps < MIN_RACED_STEPS:
        return f"The finetune has {task.setup.steps} steps; a race is made from {MIN_RACED_STEPS} steps on."
    if task.n_eval < RACE_ROWS[0]:
        return f"There are {task.n_eval} eval examples; a race is made from {RACE_ROWS[0]} on."
    return None


def _race(request: GuidedRequest, task: _Task, variants: Mapping[str, int], folder: Path, progress: Progress) -> Race:
    quarter = variant_name(quarter_depth(task.run.shape.n_layers))
    raced = RaceRequest(
        plan=make_plan(task.run, rule="manual", depth=0, setup=task.setup),
        setup=task.setup,
        train=task.train,
        evaluation=task.evaluation,
        n_train=task.run.manifest.data.n_usable if request.steps is None else request.steps * task.setup.batch_size,
        n_rows=task.n_train,
        variants=variants,
        safe=quarter if quarter in variants else next(iter(variants)),
        objective=request.objective,
        mapping=request.mapping,
        add_eos=request.add_eos,
        model=request.model,
    )
    estimate = estimate_race(raced, prepare(raced.validation(), progress))
    shares = (estimate.least_flop / estimate.full_flop, estimate.most_flop / estimate.full_flop)
    line = race_line(list(variants.values()), request.objective, estimate.n_eval, shares, task.setup.steps)
    progress(ProgressEvent("Race", message=line))
    flop = [cost.flop for cost in estimate.costs.values()]
    peak = depth_cost(task.run.shape, task.setup, parts_at_depth(task.run.shape, min(variants.values()))).bytes.total
    progress(ProgressEvent("Race", message=cost_line((min(flop), max(flop)), peak)))
    result = race(raced, folder, progress)
    winner = next(variant for variant in result.variants if variant.name == result.chosen)
    progress(ProgressEvent("Race", message=run_time_line(result.reason, winner.run_seconds)))
    return result


def _training(request: GuidedRequest, task: _Task, plan: FreezePlan, raced: Race | None, folder: Path) -> TrainRequest:
    """The whole training of what was chosen, from the race's checkpoint where there was one."""
    rate, first, steps = None, None, request.steps
    if raced is not None:
        winner = next(variant for variant in raced.variants if variant.name == raced.chosen)
        rate = winner.learning_rate
        kept = winning_checkpoint(folder / DECISION / _RACE, raced.chosen)
        first = FirstSteps(kept or folder / CHECKPOINTS / f"checkpoint-{raced.steps}", raced.steps)
        limit = request.objective.limit
        if request.objective.kind == "time" and limit is not None and (winner.run_seconds or 0.0) > limit:
            # Fewer steps draw other examples, which the race's first steps were not made on.
            steps, first = max(1, int(task.setup.steps * limit / (winner.run_seconds or limit))), None
    return TrainRequest(
        plan=plan,
        data=task.train,
        setup=plan.cost.setup,
        evaluation=task.evaluation,
        mapping=request.mapping,
        add_eos=request.add_eos,
        epochs=request.epochs,
        steps=steps,
        learning_rate=rate,
        n_accuracy=request.n_accuracy,
        model=request.model,
        keep_best=True,
        first_steps=first,
    )


def _report(request: GuidedRequest, task: _Task, plan: FreezePlan, folder: Path) -> FinetuneReport:
    training = json.loads((folder / RESULT).read_text())
    planned, full = plan.cost.planned or plan.cost.full, plan.cost.full
    raced = plan.evidence.race
    planned_flop, full_flop = planned.flop, full.flop
    if raced is not None:  # at the examples' own lengths, where a plan takes all to be the longest
        winner = next(variant for variant in raced.variants if variant.name == raced.chosen)
        planned_flop, full_flop = winner.run_flop, raced.full_flop
    return FinetuneReport(
        folder=str(folder),
        n_layers=plan.n_layers,
        freeze_depth=plan.freeze_depth or 0,
        rule=plan.rule,
        badge=plan.evidence.badge,
        reasons=plan.reasons,
        objective=request.objective,
        n_train=task.n_train,
        n_eval=task.n_eval,
        held_out=request.evaluation is None,
        steps=training["steps"],
        checks=task.checks,
        race=raced,
        planned_flop=planned_flop,
        full_flop=full_flop,
        race_flop=None if raced is None else raced.lost_flop,
        planned_bytes=planned.bytes.total,
        full_bytes=full.bytes.total,
        training=training,
        provenance=provenance_now(0),
    )
