"""Compressed files, read as if they were not: which endings there are, and the bytes behind them."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from semfreeze_core.errors import DataError

COMPRESSIONS = (".gz", ".zst")


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
            if suffix == ".gz":
                yield cast(BinaryIO, gzip.GzipFile(fileobj=packed))
            else:
                import pyarrow  # here, not above: half a second that other files need not pay

                yield cast(BinaryIO, io.BufferedReader(pyarrow.CompressedInputStream(packed, "zstd")))
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"{path} cannot be unpacked ({error}). Was it written to its end, and is it what {suffix} says?"
            ) from error
