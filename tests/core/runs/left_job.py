"""Folders of jobs as processes leave them, without any process."""

from semfreeze_core.records.job import JobEnd, JobProcess, JobSpec
from semfreeze_core.runs.job_folder import CANCEL, END, LOG, PROCESS, SPEC, this_process
from semfreeze_core.runs.jobs import JOBS
from semfreeze_core.storage import write_atomically

GONE = JobProcess(pid=2**22, born=1.0, host=this_process().host)  # a number that Linux never gives
DEAD = GONE.model_copy(update={"turn": 2.0})


def put(runs, name, /, process=None, end=None, *, log="", cancelled=False, **spec):
    """A job's folder as a process would have left it."""
    folder = runs / JOBS / name
    document = JobSpec(**{"command": ("show", name), "title": name, "created": 1.0, **spec})
    write_atomically(folder / SPEC, document.model_dump_json())
    write_atomically(folder / LOG, log)
    if process is not None:
        write_atomically(folder / PROCESS, process.model_dump_json())
    if end is not None:
        write_atomically(folder / END, JobEnd(state=end, ended=3.0).model_dump_json())
    if cancelled:
        write_atomically(folder / CANCEL, "")
    return folder
