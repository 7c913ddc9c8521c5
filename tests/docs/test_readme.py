"""What holds of the README alone; test_pages.py has what holds of every page."""

import re

from semfreeze_core.export import TARGETS
from semfreeze_core.records.defaults import VARIANTS
from tests.docs.pages import README, ROOT, blocks, prose

TEXT = " ".join(prose(README).split())
VARIANT_NAMES = {
    "full": "full finetuning",
    "planned": "the planned depth",
    "half": "half",
    "lora": "LoRA",
    "planned+lora": "LoRA",
}


def test_python_block_runs_and_is_short(capsys):
    ((_, code),) = blocks(README, "python")
    assert len(code.strip().splitlines()) <= 12
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("freeze ")
    assert len(printed) == 6


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
