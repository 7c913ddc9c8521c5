import json

import pandas as pd
import pytest
import torch

from tests.core.tiny_models import build_tiny


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny models are slower on several threads, and the suite runs in several processes."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny():
    return build_tiny("llama")


@pytest.fixture
def rows_in(tmp_path, monkeypatch):
    """Write rows as a file in a folder one is in, and return its name."""
    monkeypatch.chdir(tmp_path)

    def write(name, rows):
        frame = pd.DataFrame(rows)
        match name.rpartition(".")[2]:
            case "jsonl":
                (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
            case "json":
                (tmp_path / name).write_text(json.dumps(rows))
            case "csv":
                frame.to_csv(name, index=False)
            case "tsv":
                frame.to_csv(name, index=False, sep="\t")
            case "parquet":
                frame.to_parquet(name)
        return name

    return write
