"""Task 2: short word problems with a worked answer that ends with the number."""

from __future__ import annotations

from .dice import Dice
from .quantity_structures import EVAL_ONLY, SHARED

TRAIN_ROWS = 700
EVAL_ROWS_SHARED = 225
EVAL_ROWS_NEW = 75


def build(dice: Dice, split: str, taken: set[str]) -> list[dict[str, object]]:
    """The rows of one file; `taken` holds the prompts already used and grows with the new ones."""
    if split == "train":
        plan = dice.rounds(SHARED, TRAIN_ROWS)
    else:
        plan = dice.rounds(SHARED, EVAL_ROWS_SHARED) + dice.rounds(EVAL_ONLY, EVAL_ROWS_NEW)
    rows: list[dict[str, object]] = []
    for structure in plan:
        question, steps, result = structure(dice)
        while question in taken:
            question, steps, result = structure(dice)
        taken.add(question)
        completion = f" {steps} The answer is {result}."
        rows.append({"prompt": f"Question: {question}\nAnswer:", "completion": completion})
    return dice.shuffled(rows)
