"""A table of text checks its own shape, and wording stays light to import."""

import subprocess
import sys
from pathlib import Path

import pytest

from semfreeze_core import wording
from semfreeze_core.wording.tables import Column, table

TWO = [Column("name", text=True), Column("value")]


def test_a_table_is_rows_by_title():
    made = table(TWO, [["a", "1"]])
    assert made.dicts() == [{"name": "a", "value": "1"}]
    assert made.without("name").dicts() == [{"value": "1"}]


@pytest.mark.parametrize(
    ("columns", "rows", "problem"),
    [(TWO, [["a"]], "a row has 1 cells, expected 2"), ([TWO[0], TWO[0]], [], "two columns have the same title")],
)
def test_a_table_of_another_shape_is_refused(columns, rows, problem):
    with pytest.raises(ValueError, match=problem):
        table(columns, rows)


def test_wording_loads_nothing_heavy():
    names = sorted(path.stem for path in Path(*wording.__path__).glob("[a-z]*.py"))
    assert {"numbers", "tables", "sweep"} <= set(names)
    heavy = ("torch", "numpy", "rich", "streamlit", "pandas")
    code = "import sys\n" + "".join(f"import semfreeze_core.wording.{name}\n" for name in names)
    code += f"print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
