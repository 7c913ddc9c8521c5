"""What docs/evidence.md and the README say in numbers: made from the finetunes at searched rates, compared by a test.

`python -m tests.benchmarks.searched_page` writes it there, between two marks, and draws the picture beside it.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import mean, median
from textwrap import fill

import plotly.graph_objects as go

from semfreeze_core.records.defaults import LEAST_BIGRAM_COVERAGE, MARGIN, PROGRESSIVE
from semfreeze_core.storage import write_atomically
from semfreeze_core.wording.numbers import percent, percent_interval
from semfreeze_dashboard.charts.theme import FROZEN, INK, OTHERS, TRAINED
from tests.benchmarks.searched_cells import Task, read_all
from tests.benchmarks.searched_replay import (
    RUN_STEPS,
    Taken,
    always,
    bigram_coverage,
    by_check,
    half,
    quarter,
    race,
    two_thirds,
)
from tests.browser.served import chromium

ROOT = Path(__file__).parents[2]
PAGE, README = ROOT / "docs" / "evidence.md", ROOT / "README.md"
PICTURE = ROOT / ".github" / "pictures" / "evidence-rates.png"
BEGIN, END = "<!-- made by python -m tests.benchmarks.searched_page -->", "<!-- end of what is made -->"
FIRST_BEGIN = BEGIN.replace(" -->", ", in short -->")  # of the README's first screen
MISSING = "not run"
QUARTER = "a quarter frozen"
_FIXED = ("**Without a race**", "**The rule auto**")  # on the page alone


def columns(task: Task) -> dict[str, str]:
    """The variants that are compared with full finetuning: what readers call them, and their names in the cells."""
    wide_first = next((name for name in task.settings.arms if name.startswith(PROGRESSIVE)), PROGRESSIVE)
    return {
        QUARTER: quarter(task),
        "half frozen": half(task),
        "two thirds frozen": two_thirds(task),
        "LoRA": "lora",
        "a quarter, then two thirds": wide_first,
    }


def block(tasks: Sequence[Task]) -> str:
    """The page's: a row a task, then sentences."""
    return "\n".join([*table(tasks), "", *_listed(sentences(tasks), 120)])


def first_block(tasks: Sequence[Task]) -> str:
    """The README's first screen: what freezing cost and kept, and whether the race helped, in one paragraph."""
    return fill(headline(tasks), 130, break_on_hyphens=False)


def headline(tasks: Sequence[Task]) -> str:
    """What the variants of all tasks took and kept, and what the race was worth."""
    whole = [name for name in columns(tasks[0]) if len(trained(tasks, name)) == len(tasks)]
    taken = [_taken(tasks, name, first=name == whole[0]) for name in whole]
    race_text = ""
    if (worth := _race_is_better(tasks)) is not None:
        better = "better" if worth else "no better"
        race_text = f" A race of two depths chose {better} than always freezing a quarter."
    return (
        f"**Measured so far**, on {_count(len(tasks), 'task')} with one seed, at the same steps: {'; '.join(taken)}."
        f"{race_text} [All results](#does-it-work)."
    )


def _taken(tasks: Sequence[Task], name: str, *, first: bool) -> str:
    done = trained(tasks, name)
    shares = [task.kept_at_steps(variant).estimate for task, variant in done]
    cost, least, most = (percent(x) for x in (mean(_relative_flop(*one) for one in done), min(shares), max(shares)))
    if first:
        return f"{name} takes {cost} of full finetuning's compute and keeps {least} to {most} of its loss reduction"
    return f"{name} {cost} and {least} to {most}"


def _race_is_better(tasks: Sequence[Task]) -> bool | None:
    """Whether the race's choices lose less than always freezing a quarter; None where either is not known."""
    raced = [task.regret(taken.variant).estimate for task in tasks if (taken := race(task)) is not None]
    always = [task.regret(variant).estimate for task, variant in trained(tasks, QUARTER)]
    return mean(raced) < mean(always) if raced and len(always) == len(tasks) else None


def summary_block(tasks: Sequence[Task]) -> str:
    """The README's: a row a variant over all tasks, then those of few tasks, and how to choose."""
    race_lines = (line for line in choices(tasks) if not line.startswith(_FIXED))
    return "\n".join([*summary(tasks), "", *_listed(itertools.chain(on_few_tasks(tasks), race_lines), 130)])


def _listed(lines: Iterator[str], width: int) -> Iterator[str]:
    for sentence in lines:
        yield fill(f"- {sentence}", width, subsequent_indent="  ", break_on_hyphens=False)


def summary(tasks: Sequence[Task]) -> list[str]:
    """A row a variant: its compute, what it keeps over all tasks, and on how many of them it was certainly worse."""
    lines = [
        "| variant | compute | loss reduction, same steps | same compute | significantly worse than full on |",
        "|---|" + "---:|" * 4,
    ]
    for name in columns(tasks[0]):
        done = trained(tasks, name)
        if _is_on_few(done, tasks):
            continue
        cost = mean(_relative_flop(task, variant) for task, variant in done)
        steps = [task.kept_at_steps(variant).estimate for task, variant in done]
        compute = [task.kept_at_compute(variant).estimate for task, variant in done]
        lines.append(
            f"| {name} | {percent(cost)} | {_range(steps)} | {_range(compute)} | "
            f"{len(_below(done, 1))} of {_count(len(done), 'task')} |"
        )
    return lines


def on_few_tasks(tasks: Sequence[Task]) -> Iterator[str]:
    """What variants without a row keep where they were trained, with what two thirds frozen keeps there."""
    for name in columns(tasks[0]):
        done = trained(tasks, name)
        if not done or not _is_on_few(done, tasks):
            continue
        shares = [_beside_two_thirds(task, variant) for task, variant in done]
        yield (
            f"**{name[0].upper()}{name[1:]}**, tried on {_count(len(done), 'task')}, kept at the same steps "
            f"{', '.join(shares)}."
        )


def _is_on_few(done: list[tuple[Task, str]], tasks: Sequence[Task]) -> bool:
    """Whether a variant was trained on too few of the tasks to speak for all."""
    return 2 * len(done) < len(tasks)


def _beside_two_thirds(task: Task, variant: str) -> str:
    share = f"{percent(task.kept_at_steps(variant).estimate)} on {task.task}"
    deep = two_thirds(task)
    if task.cell(deep) is None or deep == variant:
        return share
    return f"{share} (two thirds frozen: {percent(task.kept_at_steps(deep).estimate)})"


def _range(shares: list[float]) -> str:
    return f"{percent(median(shares))} ({percent(min(shares))} to {percent(max(shares))})"


def trained(tasks: Sequence[Task], name: str) -> list[tuple[Task, str]]:
    """The tasks on which the variant that readers call `name` was trained, and its name there."""
    return [(task, variant) for task in tasks if task.cell(variant := columns(task)[name])]


def _below(done: list[tuple[Task, str]], least: float) -> list[str]:
    """Tasks on which the interval of what a variant keeps at the same steps lies below a share."""
    return [task.task for task, variant in done if task.kept_at_steps(variant).high < least]


def table(tasks: Sequence[Task]) -> list[str]:
    """A row a task: what each variant keeps at the same steps, with its interval, then at the same compute."""
    names = list(columns(tasks[0]))
    lines = [f"| task | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    for task in tasks:
        shown = [_both(task, variant) if task.cell(variant) else MISSING for variant in columns(task).values()]
        lines.append(f"| {task.task} | {' | '.join(shown)} |")
    return lines


def _both(task: Task, variant: str) -> str:
    return f"{percent_interval(task.kept_at_steps(variant))}; {percent(task.kept_at_compute(variant).estimate)}"


def sentences(tasks: Sequence[Task]) -> Iterator[str]:
    """What the table says over all tasks, then rates, race and regret."""
    for name in columns(tasks[0]):
        if not (done := trained(tasks, name)):
            continue
        shares = [task.kept_at_steps(variant).estimate for task, variant in done]
        cost = mean(_relative_flop(task, variant) for task, variant in done)
        range_text = percent(shares[0])
        if len(shares) > 1:
            range_text = f"{percent(min(shares))} to {percent(max(shares))} (median {percent(median(shares))})"
        yield (
            f"**{name[0].upper()}{name[1:]}** kept {range_text} of full finetuning's loss reduction at the same "
            f"steps, on {_count(len(done), 'task')}, for {percent(cost)} of its compute on average. It was "
            f"significantly worse than full finetuning on {', '.join(_below(done, 1)) or 'no task'}{_worst_case(done)}."
        )
    yield (
        "**Learning rates.** Best of those tried: "
        + "; ".join(f"{name}, {_rates(tasks, variant)}" for name, variant in _rated(tasks))
        + "."
    )
    yield from choices(tasks)


def _worst_case(done: list[tuple[Task, str]]) -> str:
    """The task on which a variant keeps least, with its interval, where that is less than the margin allows."""
    task, variant = min(done, key=lambda one: one[0].kept_at_steps(one[1]).estimate)
    share = task.kept_at_steps(variant)
    return f"; least on {task.task}, {percent_interval(share)}" if share.estimate < 1 - MARGIN else ""


def choices(tasks: Sequence[Task]) -> Iterator[str]:
    """What is lost by leaving the choice to a race, and by making it once for all tasks."""
    raced = [(task, taken) for task in tasks if (taken := race(task)) is not None]
    if raced:
        regrets = [task.regret(taken.variant).estimate for task, taken in raced]
        chosen = Counter(_called(task, taken.variant) for task, taken in raced)
        yield (
            "**The race** of `semfreeze finetune` trains half and a quarter frozen for 20 steps and keeps one. "
            f"Replayed, it keeps {_tally(chosen)}, and loses {percent(mean(regrets), 1)} of the best variant's loss "
            f"reduction on average, {percent(max(regrets), 1)} at most."
        )
    fixed = [f"{name} {_regret(tasks, name)}" for name in columns(tasks[0]) if len(trained(tasks, name)) == len(tasks)]
    auto = [
        (task, one) for task in tasks if (one := by_check(task, bigram_coverage, LEAST_BIGRAM_COVERAGE, two_thirds))
    ]
    yield (
        f"{_FIXED[1]}, which freezes two thirds where {LEAST_BIGRAM_COVERAGE:g} of the token pairs are known and a "
        f"quarter elsewhere, loses {_worst([task.regret(one.variant).estimate for task, one in auto])}, for "
        f"{percent(mean(_relative_flop(task, one.variant) for task, one in auto))} of full finetuning's compute."
    )
    fixed.append(f"full finetuning {_worst([task.regret('full').estimate for task in tasks])}")
    yield f"{_FIXED[0]}, always making the same choice loses, on average and at most: {', '.join(fixed)}."
    raced_cost = _mean_cost(tasks, race)
    quarter_cost = _mean_cost(tasks, lambda task: always(task, quarter(task)))
    full_cost = _mean_cost(tasks, lambda task: always(task, "full"))
    if raced_cost is not None and quarter_cost is not None and full_cost is not None:
        yield (
            f"**Is the race worth it?** Over {RUN_STEPS} steps, searches of rates included, a finetune with a race "
            f"takes {percent(raced_cost)} of full finetuning's compute, one that freezes a quarter "
            f"{percent(quarter_cost)}, full finetuning {percent(full_cost)}. So short finetunes have "
            "none."
        )


def _mean_cost(tasks: Sequence[Task], rule: Callable[[Task], Taken | None]) -> float | None:
    """Mean FLOPs of a rule's choices, with what finding them takes, over full finetuning's; None without some."""
    made = [(task, taken) for task in tasks if (taken := rule(task)) is not None]
    if len(made) < len(tasks):
        return None
    return mean(_relative_flop(task, taken.variant) + taken.price for task, taken in made)


def _regret(tasks: Sequence[Task], name: str) -> str:
    return _worst([task.regret(columns(task)[name]).estimate for task in tasks])


def _worst(regrets: list[float]) -> str:
    return f"{percent(mean(regrets), 1)} and {percent(max(regrets), 1)}"


def _rated(tasks: Sequence[Task]) -> Iterator[tuple[str, str]]:
    yield "full finetuning", "full"
    for name, variant in columns(tasks[0]).items():
        if trained(tasks, name):
            yield name, variant


def _rates(tasks: Sequence[Task], variant: str) -> str:
    return _tally(Counter(f"{cell.rate:g}" for task in tasks if (cell := task.cell(variant)) is not None))


def _tally(counts: Counter[str]) -> str:
    return ", ".join(f"{name} on {_count(n, 'task')}" for name, n in counts.most_common())


def _called(task: Task, variant: str) -> str:
    return next((name for name, other in columns(task).items() if other == variant), "full finetuning")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")


def _relative_flop(task: Task, variant: str) -> float:
    cell = task.cell(variant)
    assert cell is not None
    return cell.relative_flop


def draw(tasks: Sequence[Task]) -> go.Figure:
    """What each variant keeps at the same steps over its compute, a mark a task, with its interval."""
    figure = go.Figure()
    colors = dict(zip(columns(tasks[0]), (TRAINED, FROZEN, *OTHERS), strict=False))
    for name, color in colors.items():
        if not (done := trained(tasks, name)):
            continue
        shares = [task.kept_at_steps(variant) for task, variant in done]
        figure.add_scatter(
            x=[task.task for task, _ in done], y=[100 * share.estimate for share in shares], name=name, mode="markers",
            error_y={
                "array": [100 * (share.high - share.estimate) for share in shares],
                "arrayminus": [100 * (share.estimate - share.low) for share in shares],
                "thickness": 1.5,
            },
            marker={"color": color, "size": 11},
        )  # fmt: skip
    figure.add_hline(y=100, line={"color": INK, "dash": "dot", "width": 1})
    every = [task.kept_at_steps(variant) for name in columns(tasks[0]) for task, variant in trained(tasks, name)]
    low, high = min(share.low for share in every), max(share.high for share in every)
    figure.update_yaxes(title_text="% of full finetuning's loss reduction", range=[100 * low - 4, 100 * high + 4])
    figure.update_layout(
        template="plotly_white", width=1100, height=420, scattermode="group", scattergap=0.5,
        legend={"orientation": "h", "y": 1.12}, margin={"t": 40},
    )  # fmt: skip
    return figure


MADE: tuple[tuple[Path, str, Callable[[Sequence[Task]], str]], ...] = (
    (PAGE, BEGIN, block),
    (README, FIRST_BEGIN, first_block),
    (README, BEGIN, summary_block),
)


def main() -> None:
    """Write both pages and the picture."""
    tasks = read_all()
    for page, begin, make in MADE:
        text = page.read_text()
        before, rest = text.split(begin, 1)
        made = make(tasks) if begin == FIRST_BEGIN else f"\n{make(tasks)}\n"
        write_atomically(page, f"{before}{begin}\n{made}\n{rest[rest.index(END) :]}")
    html = draw(tasks).to_html(include_plotlyjs=True, config={"displayModeBar": False})
    with chromium() as browser:
        window = browser.new_page(device_scale_factor=2, viewport={"width": 1120, "height": 460})
        window.set_content(html)
        window.locator(".main-svg").first.wait_for()
        window.locator(".js-plotly-plot").screenshot(path=PICTURE)


if __name__ == "__main__":
    main()
