"""Compressed files, read as if they were not: the one list of endings, each with what unpacks it.

Help texts, uploads and error messages take their endings from it: a new compression is one entry here.
"""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from semfreeze_core.errors import DataError


def _gunzipped(packed: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, gzip.GzipFile(fileobj=packed))


def _unzstandard(packed: BinaryIO) -> BinaryIO:
    import pyarrow  # here, not above: half a second that other files need not pay

    return cast(BinaryIO, io.BufferedReader(pyarrow.CompressedInputStream(packed, "zstd")))


_UNPACKED: dict[str, Callable[[BinaryIO], BinaryIO]] = {".gz": _gunzipped, ".zst": _unzstandard}
COMPRESSIONS = tuple(_UNPACKED)


def compression_of(name: str) -> str | None:
    """The ending of a file's name that says how it is compressed, or None."""
    return next((suffix for suffix in COMPRESSIONS if name.lower().endswith(suffix)), None)


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """A file's bytes, unpacked where its name says that they are packed.

    Raises:
        DataError: they cannot be unpacked.
        OSError: the file cannot be read.
    """
    suffix = compression_of(path.name)
    if suffix is None:
        with path.open("rb") as file:
            yield file
        return
    with path.open("rb") as packed:
        try:
            yield _UNPACKED[suffix](packed)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"{path} cannot be unpacked ({error}). Was it written to its end, and is it what {suffix} says?"
            ) from error
