"""Pages that are made from the code are as it makes them now."""

import pytest

from semfreeze_core import example_run, read_run
from semfreeze_core.guided.forecast import ForecastRequest, forecast_lines
from semfreeze_core.records import defaults
from tests.docs import commands_page, configuration_page
from tests.docs.pages import README, ROOT, blocks, commands, printed, prose

FINETUNE = ROOT / "docs" / "finetune.md"


def test_commands_are_those_of_the_command_line():
    assert commands_page.PAGE.read_text() == commands_page.page()


def test_every_command_that_is_not_hidden_has_a_section():
    text = commands_page.PAGE.read_text()
    shown = {name for name, command in commands().items() if not command.hidden}
    assert len(shown) > 20
    assert [name for name in shown if f"\n## semfreeze {name}\n" not in text] == []


def test_defaults_are_those_of_the_code():
    text = configuration_page.PAGE.read_text()
    assert text == configuration_page.rendered_page(text)


def test_every_default_is_listed_once():
    names = [default.name for default in configuration_page.defaults_of()]
    assert sorted(names) == sorted(name for name in vars(defaults) if name.isupper())


def test_a_default_without_a_comment_is_refused(tmp_path):
    source = tmp_path / "defaults.py"
    source.write_text("# Training\nSTEPS = 3  # of a variant\nEPOCHS = 4\n")
    with pytest.raises(ValueError, match="EPOCHS"):
        configuration_page.defaults_of(source)
    source.write_text('"""Doc."""\n\n# Training\n# Steps of\n# a variant.\nSTEPS = 3\n')
    assert configuration_page.defaults_of(source) == [("Training", "STEPS", "3", "Steps of a variant.")]


def test_the_forecast_on_the_page_about_finetune_is_what_is_printed():
    (block,) = (text for _, text in blocks(FINETUNE, "text"))
    forecast = forecast_lines(read_run(example_run()), ForecastRequest(n_rows=2000))
    assert " ".join(block.split()) == " ".join(" ".join(forecast).split())


COST_OF_7B = next(text for _, text in blocks(FINETUNE, "sh") if "--gpu" in text).split("\nsemfreeze finetune")[0]


def costs_of_7b(options=""):
    """What the page's command prints with these options more."""
    return printed(f"{COST_OF_7B} {options}".replace("\\\n", " "))


def test_the_depth_that_fits_on_the_page_about_finetune_is_the_estimates():
    fits = next(line for line in costs_of_7b() if "fits from freeze depth" in line)
    depth = fits.split("freeze depth ")[1].split(" on")[0]
    assert f"fits from freeze depth {depth} of 28 on" in " ".join(prose(FINETUNE).split())
    box = README.read_text().partition("> **One 24 GB GPU")[2].partition("\n\n")[0]
    assert f"with {depth} of 28 frozen" in box


@pytest.mark.parametrize(
    ("what", "options", "depth"),
    [
        ("all layers", "", 0),
        ("the last 11 of 28 layers, 17 frozen", "", 17),
        ("LoRA of rank 16 on all layers", "--lora --lora-rank 16", 0),
        ("LoRA on the last 11", "--lora --lora-rank 16", 17),
        ("LoRA on all layers, on a base in 4 bits (QLoRA)", "--lora --lora-rank 16 --frozen-bits 4", 0),
    ],
)
def test_what_a_7b_model_takes_on_the_page_about_finetune_is_the_estimates(what, options, depth):
    row = next(cells for line in costs_of_7b(options) if (cells := line.split())[:1] == [str(depth)])
    compute, memory = row[5], f"{row[6]} GiB"
    assert f"| {what} | {memory} | {compute} |" in FINETUNE.read_text()
    if options in ("", "--lora --lora-rank 16") and what != "LoRA on the last 11":
        assert row[6] in README.read_text().partition("> **One 24 GB GPU")[2].partition("\n\n")[0]
