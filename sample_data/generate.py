"""Writes the six sample files next to this script, bit for bit the same every time.

Run `python sample_data/generate.py` to write them, `python sample_data/generate.py --check` to compare what the
script makes with the files on disk (exit status 1 when they differ).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # lets a plain `python generate.py` find the package

from sample_data import make_intents, make_quantities, make_records
from sample_data.dice import Dice

SEED = 20240
HERE = Path(__file__).resolve().parent


def all_rows() -> dict[str, list[dict[str, object]]]:
    """The rows of every file, by file name. Each file has its own dice, so that none disturbs another."""
    questions: set[str] = set()
    sentences: set[str] = set()
    return {
        "support_intents_train.jsonl": make_intents.build(Dice(SEED + 1), "train"),
        "support_intents_eval.jsonl": make_intents.build(Dice(SEED + 2), "eval"),
        "quantity_problems_train.jsonl": make_quantities.build(Dice(SEED + 3), "train", questions),
        "quantity_problems_eval.jsonl": make_quantities.build(Dice(SEED + 4), "eval", questions),
        "sentence_to_json_train.jsonl": make_records.build(Dice(SEED + 5), "train", sentences),
        "sentence_to_json_eval.jsonl": make_records.build(Dice(SEED + 6), "eval", sentences),
    }


def to_bytes(rows: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write the sample data, or check it.")
    parser.add_argument("--check", action="store_true", help="compare with the files on disk, write nothing")
    options = parser.parse_args(arguments)
    different = 0
    for name, rows in all_rows().items():
        data, path = to_bytes(rows), HERE / name
        if options.check:
            same = path.is_file() and path.read_bytes() == data
            different += not same
            print(f"{'same' if same else 'DIFFERENT'}  {name}")
        else:
            path.write_bytes(data)
            print(f"{hashlib.sha256(data).hexdigest()}  {len(rows):4d} rows  {name}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
