"""An arm on a machine of a cluster: its job unpacked, its process followed, its result handed back."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from semfreeze_core.errors import ResourceError
from semfreeze_core.finetune.arm.cancel import Cancel, Canceled
from semfreeze_core.finetune.arm.launch import follow_arm_process
from semfreeze_core.finetune.arm.process import NO_ROOM
from semfreeze_core.finetune.runner.mailbox import CHUNK_BYTES
from semfreeze_core.finetune.runner.outbox import Call, Outbox
from semfreeze_core.finetune.runner.parcel import PackedModel, fetch, unpack_job, unpack_model
from semfreeze_core.progress import ProgressEvent
from semfreeze_core.storage import disk_errors
from semfreeze_core.temporary import remove_leftovers, scratch_parent, temporary_folder

LOST = "lost"  # in the place of an exit code: the arm was begun too often
STALE = "stale"  # likewise: another attempt has begun
UNSENT = "unsent"  # likewise: what the command needs of it could not be sent


def carry_out(arm: str, name: str, parcel: dict[str, Any], call: Call, machine: str) -> dict[str, Any]:
    """Run an arm's process here; its exit code and reason, its log's end, and its result's text.

    Args:
        arm: as the mailbox knows it.
        name: of its files.
        parcel: the job's fields, the model's files, the examples, and the process's variables.
        call: calls the mailbox.
        machine: this one's name, for messages.
    """
    attempt = call("begin", arm)
    if attempt > parcel["attempts"]:
        return {"code": LOST, "reason": ""}
    with ExitStack() as stack:
        try:
            remove_leftovers(scratch_parent())
            folder = stack.enter_context(temporary_folder(scratch_parent()))
            with disk_errors(folder, advice=f"Free some space on {machine}."):
                path, result, resumed = _unpack(folder, arm, name, parcel, call)
        except ResourceError as error:
            return {"code": NO_ROOM, "reason": f"{machine}: {error}"}
        cancel = Cancel()
        outbox = Outbox(arm, attempt, result, call, cancel)
        if attempt > 1:
            outbox(ProgressEvent(name, message=_again(name, machine, resumed)))
        log = folder / "arm.log"
        try:
            with outbox.sending():
                ended = follow_arm_process(path, log, outbox, environment=parcel["environment"], cancel=cancel)
        except Canceled:
            if outbox.failure:
                return {"code": UNSENT, "reason": f"{machine} could not send its progress and files: {outbox.failure}"}
            return {"code": STALE, "reason": ""}
        text = result.read_text() if ended.code == 0 else None
        return {"code": ended.code, "reason": ended.reason, "log": _end(log), "result": text}


def _unpack(folder: Path, arm: str, name: str, parcel: dict[str, Any], call: Call) -> tuple[Path, Path, bool]:
    """The job's file, its result's, and whether there is something to go on from."""
    source = parcel["job"]["model"]["source"]
    if parcel["model"] is not None:
        source = unpack_model(PackedModel(**parcel["model"]), lambda file, at: call("read_source", file, at))
    path, result = unpack_job(folder, name, parcel["job"], source, parcel["examples"])
    manifest = call("manifest", arm)
    for relative, stored_name in manifest.items():
        fetch(result.parent / relative, lambda at, stored_name=stored_name: call("read", arm, stored_name, at))  # type: ignore[misc]
    return path, result, bool(manifest)


def _again(name: str, machine: str, resumed: bool) -> str:
    where = "from its last checkpoint" if resumed else "from the start"
    return f"{name}: its machine was lost. It resumes on {machine}, {where}."


def _end(log: Path) -> bytes:
    """The end of the process's other output."""
    with log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - CHUNK_BYTES))
        return file.read()
