"""A guided finetune in its steps: hold out eval rows, analyze, check, race, and train what was chosen.

Everything before the training is in the folder `decision` of the result, and every part resumes by itself: a second
call with the same request does only what is missing.
"""

from pathlib import Path

from semfreeze_core.finetune.train.folder import RESULT, remove_what_only_resumes
from semfreeze_core.finetune.train.train import train_plan
from semfreeze_core.guided.decision import decide
from semfreeze_core.guided.folder import claimed
from semfreeze_core.guided.report import finetune_report
from semfreeze_core.guided.request import GuidedRequest
from semfreeze_core.guided.task import prepare_task
from semfreeze_core.guided.training import training_request
from semfreeze_core.progress import Progress, silent
from semfreeze_core.records.finetune_report import DECISION, FINETUNE_REPORT, FinetuneReport
from semfreeze_core.records.race import RACE_FOLDER
from semfreeze_core.storage import write_atomically


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
    with claimed(folder, request) as begun:
        written = folder / FINETUNE_REPORT
        if written.exists():
            report = FinetuneReport.model_validate_json(written.read_text())
            return report.model_copy(update={"folder": str(folder)})  # where it is now
        task = prepare_task(begun, folder / DECISION, progress)
        plan, raced = decide(begun, task, folder / DECISION / RACE_FOLDER, progress)
        if not (folder / RESULT).exists():
            train_plan(training_request(request, task, plan, raced, folder), folder, progress)
        remove_what_only_resumes(folder)  # of a training that was killed in doing so, and the lock it had
        (folder / ".lock").unlink(missing_ok=True)
        report = finetune_report(begun, task, plan, folder)
        write_atomically(written, report.model_dump_json(indent=1) + "\n")
        return report
