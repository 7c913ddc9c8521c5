"""The README and docs say what is true: commands, flags, paths and links exist, output is the program's."""

import re
from dataclasses import replace

import pytest

from semfreeze_core import TrainingSetup, example_run, make_plan, read_run
from semfreeze_core.errors import PlanError
from semfreeze_core.export import TARGETS, export_plan
from semfreeze_core.records.training import LoraSetup
from semfreeze_core.sources.data.compression import COMPRESSIONS
from semfreeze_core.sources.data.formats import FORMATS
from tests.core.wording.vocabulary import retired_words
from tests.docs.pages import (
    DOCS,
    EVIDENCE,
    GENERATED,
    LINKING,
    PAGES,
    PYTHON_API,
    QUICKSTART,
    README,
    ROOT,
    blocks,
    command_lines,
    commands,
    headings,
    links,
    options,
    printed,
    prose,
)

CONSOLE = [(page, text) for page in PAGES for _, text in blocks(page, "console")]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
docs_page = pytest.mark.parametrize("page", DOCS, ids=lambda page: page.stem)


@pytest.mark.parametrize(("page", "block"), CONSOLE, ids=lambda value: getattr(value, "stem", None))
def test_console_output_is_what_the_command_prints(page, block):
    """A line of three dots stands for lines left out."""
    command, _, expected = block.partition("\n")
    assert command.startswith("$ semfreeze ")
    lines = printed(command.removeprefix("$ "))
    parts = [part.strip("\n").splitlines() for part in re.split(r"^\.\.\.$", expected, flags=re.MULTILINE)]
    if len(parts) == 1:
        assert lines == parts[0]
    at = 0
    for part in filter(None, parts):
        starts = [i for i in range(at, len(lines)) if lines[i : i + len(part)] == part]
        assert starts, f"{page.name}: not printed by {command}:\n" + "\n".join(part)
        at = starts[0] + len(part)


@every_page
def test_pages_use_the_words_of_the_field(page):
    """Not those of code, as keys and values keep theirs."""
    text = re.sub(r"`[^`]*`", "", prose(page))
    assert [f"{line}: {word}" for line in text.splitlines() for word in retired_words(line)] == []


@every_page
def test_commands_shown_take_their_flags(page):
    shown = command_lines(page)
    assert shown
    for arguments in shown:
        name = next((n for n in commands() if arguments[: len(n.split())] == n.split()), None)
        if name is None:
            assert any(known.startswith(f"{' '.join(arguments)} ") for known in commands()), (
                f"semfreeze {arguments} is no command"
            )
            continue
        unknown = {w.partition("=")[0] for w in arguments if re.match("--?[a-z]", w)} - options(name)
        assert not unknown, f"semfreeze {name} takes no {unknown}"


# Flags of torchrun, of Ray, of Slurm and of pip.
OF_OTHERS = {
    "--no-deps",
    *("--nproc-per-node", "--head", "--port", "--address", "--min-nodes", "--nodes", "--ntasks-per-node"),
    *("--gpus-per-node", "--exclusive", "--time"),
}


@every_page
def test_every_flag_named_exists(page):
    known = {flag for name in commands() for flag in options(name)} | OF_OTHERS
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text())) - known == set()


@pytest.mark.parametrize("page", LINKING, ids=lambda page: page.stem)
def test_every_link_and_picture_exists(page):
    assert [file for file, _ in links(page) if not (page.parent / file).exists()] == []


@pytest.mark.parametrize("page", LINKING, ids=lambda page: page.stem)
def test_every_heading_that_is_linked_exists(page):
    to_headings = [(page.parent / file if file else page, heading) for file, heading in links(page) if heading]
    assert [f"{file.name}#{heading}" for file, heading in to_headings if heading not in headings(file)] == []


def test_headings_are_named_as_github_does(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One command: `semfreeze finetune`\n\n## A [link](x.md)'s title\n\n```sh\n# none\n```\n")
    assert headings(page) == {"one-command-semfreeze-finetune", "a-links-title"}


def test_every_page_is_linked_from_the_readme():
    linked = {(README.parent / file).resolve() for file, _ in links(README)}
    assert [page.name for page in DOCS if page not in linked] == []


@docs_page
def test_a_page_begins_with_what_a_reader_can_do_after_it(page):
    first = page.read_text().split("\n\n")[1]
    assert first.startswith("After this page, you ") or page == EVIDENCE


@every_page
def test_every_path_named_exists(page):
    named = re.findall(r"`((?:semfreeze_core|dashboard|tests|sample_data|docs)/[\w./-]*)`", page.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


@docs_page
def test_functions_are_where_the_page_says(page):
    named = re.findall(r"`(\w+)` in\s`((?:semfreeze_core|dashboard)/[\w/]+\.py)`", page.read_text())
    assert [f"{name} in {path}" for name, path in named if not defines(path, name)] == []


def defines(path, name):
    return re.search(rf"^(?:    )?(?:def |class )?{name}\b", (ROOT / path).read_text(), flags=re.MULTILINE) is not None


@pytest.mark.parametrize("page", [page for page in DOCS if page not in GENERATED], ids=lambda page: page.stem)
def test_page_is_short_and_of_no_one_machine(page):
    lines = page.read_text().splitlines()
    assert 50 <= len(lines) <= 140
    assert [line for line in lines if len(line) > 120] == []
    assert str(ROOT) not in page.read_text()


@pytest.mark.parametrize(
    "page", [page for page in DOCS if page not in (QUICKSTART, PYTHON_API)], ids=lambda page: page.stem
)
def test_python_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for _, code in blocks(page, "python"):
        exec(compile(code, page.name, "exec"), names)


@pytest.mark.parametrize("page", [README, ROOT / "docs" / "security.md"], ids=lambda page: page.stem)
def test_formats_named_are_those_that_are_read(page):
    named, compressed = re.search(r"\*\*(?:2\. )?Data\*\* are (.*?) \((.*?)\)", " ".join(prose(page).split())).groups()
    assert re.split(", | or ", named) == [file_format.label for file_format in FORMATS]
    assert re.findall(r"`(\.\w+)`", compressed) == list(COMPRESSIONS)


def test_exporters_train_what_the_table_says():
    rows = re.findall(r"^\| `(\w[\w-]*)` \| (.*?) \|", prose(ROOT / "docs" / "exporters.md"), flags=re.MULTILINE)
    assert [name for name, _ in rows] == list(TARGETS)
    named = re.findall(r"^- \*\*([a-z, -]+)\*\* ", prose(ROOT / "docs" / "exporters.md"), flags=re.MULTILINE)
    assert {name for names in named for name in names.split(", ")} == set(TARGETS)
    run = read_run(example_run())
    plain = TrainingSetup()
    weights = make_plan(run, setup=plain)
    adapters = [
        make_plan(run, setup=replace(plain, lora=LoraSetup(8, targets))) for targets in (("all-linear",), ("q_proj",))
    ]
    for name, trains in rows:
        assert ("weights" in trains) == exports(weights, name), name
        assert ("LoRA" in trains) == any(exports(plan, name) for plan in adapters), name


def exports(plan, target):
    try:
        return bool(export_plan(plan, target, model="a-folder").text)
    except PlanError:
        return False
