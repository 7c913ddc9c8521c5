"""What is asked of a new analysis, as the page's form has it and as the command line takes it."""

import hashlib
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from semfreeze_core.errors import DataError
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.runs.store import free_name, require_name
from semfreeze_core.sources.data import formats
from semfreeze_core.storage import write_atomically

EMBEDDED, BUNDLED_MODEL = "embedded", "bundled model"  # as it is asked for, and as people call it
UPLOADS = ".uploads"  # hidden, so that no listing of runs takes it for one
UPLOAD_DIGEST = r"-[0-9a-f]{12}(?=\.)"  # what `keep_upload` puts into a name


@dataclass(frozen=True)
class AnalysisForm:
    """What the form of a new analysis holds.

    Attributes:
        model: "embedded", a folder, a hub id or a GGUF file.
        data: a file, "sample:NAME" or "hf:owner/name".
        split: of a hub dataset.
        fields: which columns hold what.
        examples: how many to draw; 0 reads all.
        device: auto, cpu, cuda or mps.
        dtype: auto, float32 or bfloat16.
        data_name: what people call the data; an upload's own name.
    """

    model: str
    data: str
    split: str | None = None
    fields: FieldMapping = field(default_factory=FieldMapping)
    examples: int = 256
    device: str = "auto"
    dtype: str = "auto"
    data_name: str = field(default="", compare=False)

    def command(self) -> tuple[str, ...]:
        """The words of the semfreeze command that does it; with "=", so that no value is taken for a flag."""
        options = {"model": self.model, "data": self.data, "split": self.split, **asdict(self.fields)}
        defaults = AnalysisForm(self.model, self.data)
        options |= {n: v for n in ("examples", "device", "dtype") if (v := getattr(self, n)) != getattr(defaults, n)}
        arguments = (f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value is not None)
        return ("analyze", *arguments)

    def title(self) -> str:
        """The analysis in words."""
        model = _last_part(self.model) if self.model != EMBEDDED else BUNDLED_MODEL
        return f"{model} on {_last_part(self.data_name or self.data)}"


def upload_types() -> list[str]:
    """The endings of files that may be uploaded, without their dots."""
    return [suffix.removeprefix(".") for suffix in formats.all_suffixes()]


def run_path(runs: Path, name: str) -> Path:
    """The folder of a run of this name.

    Raises:
        RunError: it cannot name a run.
    """
    require_name(name)
    return runs / name


def proposed_name(runs: Path, form: AnalysisForm) -> str:
    """A name for the run that nothing has yet."""
    return free_name(f"{_stem(form.model)}-{_stem(form.data_name or form.data)}", runs)


def keep_upload(runs: Path, name: str, content: bytes) -> Path:
    """Write an upload beside the runs; returns where.

    The place follows from its bytes and what it was first called: the same bytes again are the same place, so that two
    people's equal analyses are one.

    Raises:
        DataError: its type is none that can be read.
        RunError: the folder cannot be written.
    """
    suffix = formats.suffix_of(name)
    if suffix is None:
        raise DataError(f"{name!a} is of a type that cannot be read: expected {', '.join(upload_types())}.")
    ending = f"-{hashlib.sha256(content).hexdigest()[:12]}{suffix}"
    uploaded = sorted((runs / UPLOADS).glob(f"*{ending}"))
    if uploaded:
        return uploaded[0]
    stem = re.sub(r"[^\w-]", "_", formats.stem_of(name))[:40]
    path = runs / UPLOADS / f"{stem}{ending}"
    write_atomically(path, content)
    return path


def upload_name(file_name: str) -> str:
    """What an upload was called, by the name of the file that `keep_upload` made of it; any other name as it is."""
    return re.sub(UPLOAD_DIGEST, "", file_name, count=1)


def _last_part(source: str) -> str:
    return source.rstrip("/").rsplit("/", 1)[-1]


def _stem(source: str) -> str:
    return Path(_last_part(source).removeprefix("sample:").removeprefix("hf:")).stem or source
