"""What holds of the README alone; test_pages.py has what holds of every page."""

import json
import re

import pytest

from semfreeze_core.export import TARGETS
from semfreeze_core.records.defaults import VARIANTS
from semfreeze_core.records.usual_depths import quarter_depth
from semfreeze_core.runs.reports import list_validations
from semfreeze_core.runs.store import example_run
from semfreeze_core.sources.data.schemas import SCHEMAS, recognized
from semfreeze_core.wording.numbers import percent
from tests.docs.pages import README, ROOT, prose

TEXT = " ".join(prose(README).split())
VARIANT_NAMES = {
    "full": "full finetuning",
    "planned": "the planned depth",
    "half": "half",
    "lora": "LoRA",
    "planned+lora": "LoRA",
}


def test_make_targets_named_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z]+)", README.read_text())) <= targets


def test_exports_name_every_target():
    listed = re.search(r"`semfreeze export` writes the plan for (.*?), and says", TEXT)[1]
    names = [name.removeprefix("transformers' ").lower().replace(" ", "-") for name in re.split(", | or ", listed)]
    assert names == [target.removeprefix("hf-") for target in TARGETS]


def test_a_validation_names_every_variant():
    listed = re.search(r"`semfreeze validate` trains (.*?) for real", TEXT)[1]
    assert set(re.split(", (?:and )?| and ", listed)) == {VARIANT_NAMES[name] for name in VARIANTS}


def rows_below(header, page=README):
    """Cells of the table that begins with a header."""
    lines = page.read_text().partition(header)[2].splitlines()[2:]
    return [line.strip("| ").split(" | ") for line in lines[: lines.index("")]]


@pytest.mark.parametrize("page", [README, ROOT / "docs" / "your-data.md"], ids=lambda page: page.stem)
def test_sample_rows_are_recognized_as_what_they_are_called(page):
    rows = rows_below("| format | one row |", page)
    assert [name for name, _ in rows] == [schema.name for schema in SCHEMAS]
    for name, row in rows:
        schema, _ = recognized(list(json.loads(row.strip("`"))))
        assert schema.name == name


def test_what_is_saved_is_what_the_bundled_validation_measured():
    (report,) = list_validations(example_run()).values()
    full = report.arms["full"]
    expected = [
        [
            percent(share)
            for share in (
                arm.relative_flop,
                arm.peak_bytes.measured / full.peak_bytes.measured,
                arm.median_step_seconds / full.median_step_seconds,
                arm.improvement_kept.estimate,
                arm.improvement_kept_compute.estimate,
            )
        ]
        for arm in report.arms.values()
    ]
    assert [row[1:] for row in rows_below("| variant | compute | peak memory |")] == expected
    assert (report.settings.setup.steps, report.settings.setup.batch_size) == (40, 4)
    rates = {name: arm.learning_rate for name, arm in report.arms.items()}
    assert rates == {"full": 1e-4, "planned": 3e-4, "half": 3e-4, "lora": 3e-3, "planned+lora": 3e-3}


def test_the_box_of_one_gpu_speaks_of_a_depth_that_no_quarter_reaches():
    box = README.read_text().partition("> **One 24 GB GPU")[2].partition("\n\n")[0].replace(">", "")
    depth, layers = map(int, re.search(r"with (\d+) of (\d+) frozen", box).groups())
    assert quarter_depth(layers) < depth
    assert "A quarter does not fit" in " ".join(box.split())


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 150
