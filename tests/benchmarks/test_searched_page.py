"""The numbers of docs/evidence.md: right on made-up finetunes, and those of the finetunes that were made."""

import pytest

from tests.benchmarks.made_up_tasks import BEFORE, cell, task
from tests.benchmarks.searched_cells import read_all
from tests.benchmarks.searched_evidence import join
from tests.benchmarks.searched_page import (
    END,
    MADE,
    headline,
    on_few_tasks,
    sentences,
    summary,
    table,
)


def test_a_row_holds_each_variant_at_the_same_steps_and_compute():
    assert (
        table([task(depth_8=0.25)])[2]
        == "| made-up | 100% [100, 100]; 125% | not run | 50% [50, 50]; 125% | not run | not run |"
    )


def test_sentences_name_the_range_and_where_a_variant_loses():
    lost, alike = task("lost", depth_8=0.25, depth_6=0.3), task("alike", depth_6=0.5)
    text = "\n".join(sentences([lost, alike]))
    assert "**Two thirds frozen** kept 50% to 100% (median 75%) of full finetuning's loss reduction at the same" in text
    assert (
        "steps, on 2 tasks, for 40% of its compute on average. It was significantly worse than full finetuning on "
        "lost; least on lost, 50% [50, 50]." in text
    )
    assert "**A quarter frozen** kept 100% to 100%" in text
    assert "worse than full finetuning on no task." in text
    assert "full finetuning, 0.0001 on 2 tasks; a quarter frozen, 0.0001 on 2 tasks" in text
    assert "keeps a quarter frozen on 1 task, half frozen on 1 task, and loses 0.0%" in text
    assert "of the best variant's loss reduction on average, 0.0% at most." in text
    assert "elsewhere, loses 0.0% and 0.0%, for 80% of full finetuning's compute." in text
    assert "two thirds frozen 25.0% and 50.0%, full finetuning 0.0% and 0.0%." in text
    # Over 600 steps of 125: a race of 1925 and 2025, a quarter's own search of 400, full finetuning's of 500.
    assert (
        "takes 73% of full finetuning's compute, one that freezes a quarter 81%, full finetuning 101%. So short" in text
    )


def test_a_summary_has_a_row_for_each_variant_that_was_trained():
    assert summary([task("lost", depth_8=0.25), task("alike")])[2:] == [
        "| a quarter frozen | 80% | 100% (100% to 100%) | 125% (125% to 125%) | 0 of 2 tasks |",
        "| two thirds frozen | 40% | 75% (50% to 100%) | 188% (125% to 250%) | 1 of 2 tasks |",
    ]


def test_a_variant_of_few_tasks_has_a_sentence_in_place_of_a_row():
    tasks = [task("lost", depth_8=0.25), task("alike"), task("other")]
    some = [tasks[0], *(_without(one, "depth:8") for one in tasks[1:])]
    assert not any("two thirds" in row for row in summary(some))
    assert list(on_few_tasks(some)) == ["**Two thirds frozen**, tried on 1 task, kept at the same steps 50% on lost."]
    some = [tasks[0], *(_without(one, "depth:3") for one in tasks[1:])]
    (sentence,) = on_few_tasks(some)
    assert sentence.endswith("steps 100% on lost (two thirds frozen: 50%).")


def _without(one, variant):
    return one.model_copy(update={"cells": [other for other in one.cells if other.variant != variant]})


def test_the_first_screen_says_what_every_variant_of_all_tasks_took_and_kept():
    text = headline([task("lost", depth_8=0.25, depth_6=0.3), task("alike", depth_6=0.5)])
    assert "on 2 tasks with one seed" in text
    assert "a quarter frozen takes 80% of full finetuning's compute and keeps 100% to 100% of its loss" in text
    assert "; half frozen 60% and 60% to 100%; two thirds frozen 40% and 50% to 100%. A race" in text
    assert "chose no better than always freezing a quarter." in text
    some = headline([task("lost", depth_8=0.25), task("alike")])
    assert "half" not in some, "it was not trained"
    assert "race" not in some


@pytest.mark.parametrize(("page", "begin", "make"), MADE, ids=["evidence", "README's first screen", "README"])
def test_the_page_holds_what_the_finetunes_say(page, begin, make):
    rest = page.read_text().split(begin, 1)[1]
    assert rest[: rest.index(END)].strip() == make(read_all())


def test_a_cell_that_was_trained_alone_joins_the_others_of_its_task():
    first = task()
    settings = first.settings.model_copy(update={"arms": ["depth:6"]})
    cells = [cell("depth:3", 0.4).model_copy(update={"variant": "depth:6"})]
    alone = first.model_copy(update={"settings": settings, "cells": cells})
    joined = join(first, alone)
    assert joined.variants == ["full", "depth:8", "depth:3", "depth:6"]
    assert joined.after("depth:6") == pytest.approx(alone.after("depth:6"))


def test_a_cell_that_began_from_other_losses_is_refused():
    other = task().model_copy(update={"before": [loss + 0.1 for loss in BEFORE]})
    with pytest.raises(ValueError, match="made-up: the losses before training differ"):
        join(task(), other)
