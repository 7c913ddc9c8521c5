"""Where a document comes from: versions, time, seed. Documents that are written down are pydantic models."""

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from math import nan
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from semfreeze_core.version import __version__


class Document(BaseModel):
    """Base of everything written to disk: unknown keys are refused, NaN becomes null."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="null")


def _nan_if_null(value: Any) -> Any:
    return nan if value is None else value


# A number that may be NaN, where the document says why: JSON has no NaN, so it is written, and read, as null.
Measured = Annotated[float, BeforeValidator(_nan_if_null)]


class Provenance(Document):
    """Versions of what computed a document, when, and with which seed."""

    semfreeze: str
    torch: str | None
    transformers: str | None
    python: str
    created: str
    seed: int


def provenance_now(seed: int) -> Provenance:
    """Provenance of something computed now; reads installed versions without importing the packages."""
    return Provenance(
        semfreeze=__version__,
        torch=_version("torch"),
        transformers=_version("transformers"),
        python=platform.python_version(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=seed,
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
