"""The task of a guided finetune: its two sets, the analysis of the training set, and how it is trained on."""

from dataclasses import dataclass, replace
from pathlib import Path

from semfreeze_core.cost.setup import options_applied, setup_from_options
from semfreeze_core.device import choose_device, release_unused_memory, trained_precision
from semfreeze_core.errors import DataError
from semfreeze_core.finetune.arm.settings import refuse_untrainable
from semfreeze_core.finetune.model.task_data import TaskData, read_task_data
from semfreeze_core.gains.task_checks import check_task
from semfreeze_core.guided.folder import ANALYSIS, DATA, SETTINGS, settings_text
from semfreeze_core.guided.request import GuidedRequest
from semfreeze_core.progress import Progress, ProgressEvent
from semfreeze_core.records.options import EstimateOptions
from semfreeze_core.records.run import Run
from semfreeze_core.records.task_checks import TaskChecks
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.runs.folder import MANIFEST, read_run, write_run
from semfreeze_core.sources.data.held_out import hold_out
from semfreeze_core.sources.models.loading import load_tokenizer
from semfreeze_core.storage import write_atomically
from semfreeze_core.wording.race import examples_line
from semfreeze_core.workflow.analysis import begin_analysis
from semfreeze_core.workflow.request import AnalysisRequest


@dataclass(frozen=True)
class GuidedTask:
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


def prepare_task(request: GuidedRequest, decision: Path, progress: Progress) -> GuidedTask:
    """Both sets, the analysis of the training set, and the whole finetune's setup."""
    tokenizer = load_tokenizer(request.model.open(progress))
    train, evaluation = request.data, request.evaluation
    if evaluation is None:
        split = hold_out(train, request.mapping, decision / DATA, tokenizer=tokenizer, progress=progress)
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
    write_atomically(decision / SETTINGS, settings_text(request, decision))
    progress(ProgressEvent("Finetune", message=examples_line(n, len(data.evaluation.tokenized), steps, setup)))
    return GuidedTask(run, train, evaluation, data, setup, checks)


def _analysis(request: GuidedRequest, train: str, decision: Path, progress: Progress) -> Run:
    folder = decision / ANALYSIS
    if (folder / MANIFEST).exists():
        return read_run(folder)
    analysis = begin_analysis(  # what is chosen depends on no projection and no slow score
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
    write_run(analysis.run, folder)
    release_unused_memory(choose_device(request.model.device))  # variants train in processes of their own
    return read_run(folder)


def _setup(request: GuidedRequest, run: Run) -> TrainingSetup:
    """How to train, before the examples are counted."""
    setup = setup_from_options(run.shape, run, EstimateOptions(sequence_length=run.manifest.data.max_length))
    setup = replace(setup, precision=trained_precision(setup.precision, choose_device(request.model.device)))
    return options_applied(setup, request.options)
