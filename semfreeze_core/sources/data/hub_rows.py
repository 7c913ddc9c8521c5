"""Rows of a hub dataset, or of a local folder of the datasets library: whole, or the first few as a stream."""

from collections.abc import Callable, Iterator
from typing import Any

from semfreeze_core.errors import DataError
from semfreeze_core.storage import user_path


def hub_reader(source: str, split: str | None) -> Callable[[], Iterator[tuple[None, Any]]]:
    """A reader over one split.

    Whole, the library keeps it in memory-mapped files: a second pass downloads nothing. Streamed rows stay in memory.

    Args:
        source: as in `open_rows`.
        split: said beside it.

    Raises:
        DataError: the library is missing, the dataset cannot be opened or names files that are not the hub's, or the
            split is missing, said twice or unknown.
    """
    try:
        import datasets
    except ImportError:
        raise DataError(f"{source} needs the package datasets: pip install 'semfreeze[hub]'") from None
    datasets.disable_progress_bars()  # whoever shows progress is not the core
    name, _, named_split = source.removeprefix("hf:").partition("#")
    named_split, _, first = named_split.partition(":")
    if first and (not first.isdecimal() or int(first) < 1):
        raise DataError(f"{source}: expected #SPLIT:N with a whole number N of rows to stream, found {first!r}.")
    if named_split and split is not None and named_split != split:
        raise DataError(f"{source} and --split {split} name two splits: leave one out.")
    split = named_split or split
    folder = user_path(name)
    saved = (folder / "dataset_dict.json").exists() or (folder / "state.json").exists()
    repository, _, configuration = (str(folder), "", "") if folder.is_dir() else name.partition(":")
    try:
        if saved:
            dataset = datasets.load_from_disk(str(folder))
        else:
            builder = datasets.load_dataset_builder(repository, configuration or None)
            if not folder.is_dir():
                _require_hub_files(source, builder.config.data_files)
            if first:
                dataset = builder.as_streaming_dataset()
            else:
                builder.download_and_prepare()
                dataset = builder.as_dataset()
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"{source} cannot be opened ({error}). Expected hf:owner/name, hf:owner/name:configuration or hf: with a "
            "local dataset folder; a hub dataset needs a connection the first time."
        ) from error
    single = isinstance(dataset, (datasets.Dataset, datasets.IterableDataset))
    splits = {str(dataset.split or "train"): dataset} if single else dict(dataset)
    if split is None and len(splits) == 1:
        split = next(iter(splits))
    if split not in splits:
        problem = "--split is missing" if split is None else f"there is no split {split!r}"
        raise DataError(
            f"{source}: {problem}. Choose one with --split, or as {source.partition('#')[0]}#SPLIT: "
            + ", ".join(splits)
        )
    try:
        rows = list(splits[split].take(int(first))) if first else splits[split]
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"{source}: the stream of rows broke off ({error}). Try again, or without :{first}.") from error
    return lambda: ((None, row) for row in rows)


def _require_hub_files(source: str, files: dict[str, list[str]] | None) -> None:
    """Refuse a dataset of the hub whose own configuration reads files of this machine or addresses of its network.

    Args:
        source: said in the message.
        files: by split, as the library resolved them: hf://datasets/..., or what a configuration names in its place.

    Raises:
        DataError: one of them lies elsewhere.
    """
    for split, names in (files or {}).items():
        for name in map(str, names):
            if not name.split("::")[-1].startswith("hf://"):  # a file in an archive is written file::archive
                raise DataError(
                    f"{source}: its split {split!a} names a file outside the hub ({name[:80]!a}), which is not opened. "
                    "Download the files that you trust and give them by their path."
                )
