"""Every page as a person meets it: on the shipped run, on a doubtful one, and on what goes wrong."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from semfreeze_core.cost import compare_costs, cost_table, progressive_cost
from semfreeze_core.cost.setup import stock_trainer
from semfreeze_core.plan import curve_of, make_plan
from semfreeze_core.plan.make import default_setup
from semfreeze_core.plan.rules_by_cost import Budget
from semfreeze_core.records.training import DepthSwitch
from semfreeze_core.runs.folder import write_run
from semfreeze_dashboard.data.run_folder import DEMO_VARIABLE
from semfreeze_dashboard.text.page_text import SCRIPT_DIFF, alternative_line
from semfreeze_dashboard.text.tooltips import TOOLTIPS
from semfreeze_dashboard.views import PAGES as LISTED
from semfreeze_dashboard.views.decide import RULES

APP = Path(__file__).parents[2] / "dashboard" / "app.py"
PAGES = ("analyze", "decide", "use")


def opened(page=None, **query):
    """The dashboard on a page, the first one unless told otherwise, as a link with this query opens it."""
    app = AppTest.from_file(str(APP), default_timeout=60)
    if page is not None:
        app.switch_page(f"views/{page}.py")
    for name, value in query.items():
        app.query_params[name] = value
    return app.run()


@pytest.fixture
def few(example, runs):
    """A run named `few`, of a few examples."""
    read = example.run.manifest.data.model_copy(update={"n_usable": 60, "n_rows": 60})
    manifest = example.run.manifest.model_copy(update={"data": read})
    write_run(replace(example.run, manifest=manifest), runs / "few")


OPENED = {"decide": {"rules": "true", "frontier": "true"}, "prove": {"prove": "true"}, "analyze": {"controls": "true"}}


@pytest.mark.parametrize("page", ["home", "data", "analyze", "decide", "prove", "use"])
def test_a_page_names_its_own_controls_and_no_flags(page, few, doubtful, example):
    for run in ("few", "doubtful"):
        app = opened(page, run=run, **OPENED.get(page, {}))
        elements = (*app.warning, *app.info, *app.markdown, *app.caption, *app.error, *app.success)
        sentences = [re.sub(r"`semfreeze [^`]*`", "", element.value.replace("\\", "")) for element in elements]
        assert not [sentence for sentence in sentences if re.search(r"(?<!\w)--[a-z]", sentence)]
    warnings = [warning.value for warning in opened("decide", run="few").warning]
    assert any("Start a sweep on the page Prove first" in warning for warning in warnings)


def plan_command(app):
    """The command that makes the plan which the page Decide shows, as the page Use has it."""
    (command,) = [c.value for c in app.switch_page("views/use.py").run().code if c.value.startswith("semfreeze plan")]
    app.switch_page("views/decide.py").run()
    return command


def sentence(app):
    """The conclusion the page opens with, after checking that nothing failed."""
    assert not app.exception
    assert not app.error, [error.value for error in app.error]
    (heading,) = [m.value for m in app.markdown if m.value.startswith("## ")]
    return heading.removeprefix("## ")


def html_of(app):
    """All HTML of the page."""
    return "\n".join(element.proto.body for element in app.get("html"))


def test_every_page_is_listed_and_has_a_section_in_the_tour():
    listed = list(LISTED)
    files = {path.stem for path in (APP.parent / "views").glob("*.py")} - {"__init__"}
    assert files == {title.lower() for title in listed}
    sections = re.findall("^## (.*)$", (APP.parents[1] / "docs" / "dashboard.md").read_text(), flags=re.MULTILINE)
    assert sections[: len(listed)] == listed


def test_start_opens_with_the_plan_of_the_shipped_run(example):
    heading = sentence(opened())
    plan = make_plan(example.run)
    assert heading.startswith(f"Run example: Freeze the first {plan.freeze_depth} of 30 layers and train the last ")


def test_start_moves_the_stack_to_the_plan_and_says_what_that_saves(example):
    app = opened()
    (html,) = [element.proto.body for element in app.get("html") if "sf-moving" in element.proto.body]
    depth = make_plan(example.run).freeze_depth
    assert f"Layer stack: {depth} of 30 layers frozen" in html
    assert html.count("sf-layer sf-frozen") == depth
    assert [link.proto.label for link in app.get("page_link")] == [
        "Present",
        "See why, layer by layer",
        "Choose how deep, on my GPU",
        "Analyze my model and data",
        "Just estimate a model",
    ]


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_at_the_recommended_depth(page, example):
    app = opened(page)
    assert sentence(app)
    assert app.slider(key="depth").value == make_plan(example.run).freeze_depth
    assert ">measured</span>" in html_of(app)
    assert re.search(r"Same steps: \d+% \[\d+, \d+\] of full finetuning&#x27;s loss reduction, pass\.", html_of(app))
    app.slider(key="depth").set_value(3).run()
    assert ">estimated</span>" in html_of(app)
    assert "No finetune has confirmed it. Validated depths: 19." in html_of(app)


def test_every_page_has_its_question_as_its_first_heading():
    for title, question in LISTED.items():
        (heading,) = re.findall("<h1[^>]*>(.*?)</h1>", html_of(opened(title.lower())))
        assert heading.casefold() == question.casefold()


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("depth", [0, 30])
def test_every_page_stands_the_ends_of_the_depth(page, depth):
    app = opened(page)
    assert sentence(app.slider(key="depth").set_value(depth).run())


def test_gains_sentence_is_the_curves_own_number(example):
    app = opened("analyze").slider(key="depth").set_value(22).run()
    coverage = curve_of(example.run, "semantic").coverage.mean[22]
    assert f"{100 * coverage:.0f}% of the measured layer contributions" in sentence(app)


def test_plan_explains_every_rule_that_it_offers():
    assert [rule for rule in RULES if f"{rule}: " not in TOOLTIPS["rule"]] == []


def test_plan_shows_the_price_the_core_computes(example):
    app = opened("decide").slider(key="depth").set_value(12).run()
    price = cost_table(example.run.shape, default_setup(example.run))[12]
    shown = {metric.label: metric.delta for metric in app.metric}
    assert shown["Memory vs. full"] == f"{price.bytes.total / 2**30:.1f} GiB"
    assert shown["Compute vs. full"] == f"{price.flop / 1e12:.0f} TFLOPs"


def test_plan_prices_the_setup_beside_it(example):
    app = opened("decide")
    app.number_input(key="batch").set_value(2)
    app.selectbox(key="precision").select("bf16")
    app.toggle(key="cache").set_value(False)
    app.run()
    assert sentence(app)
    command = plan_command(app)
    assert "--batch-size 2" in command
    assert "--precision bf16" in command
    assert "--no-prefix-cache" in command


def test_plan_shows_the_phases_of_a_finetune_that_freezes_deeper_later(example):
    app = opened("decide", depth="19", wide="20", gpus="true")
    shape, setup = example.run.shape, default_setup(example.run)
    cost = progressive_cost(shape, setup, DepthSwitch(7, 19, 20))
    (rows,) = [frame.value for frame in app.dataframe if "first step" in frame.value.columns]
    assert list(rows["frozen layers"]) == ["19", "7, then 19", "first 20 steps", f"other {setup.steps - 20} steps"]
    assert list(rows["compute"])[1] == f"{100 * cost.whole.relative_flop:.0f}%"
    assert list(rows.columns)[-2:] == ["memory", "memory, share"], "the charts have its parts"
    (gpus,) = [frame.value for frame in app.dataframe if "fits from depth" in frame.value.columns]
    assert "freeze 7, then 19" in gpus.columns
    assert sentence(app).startswith("Freeze the first 7 of 30 layers for 20 steps, then the first 19.")
    assert {metric.label: metric.value for metric in app.metric}["Compute vs. full"] == list(rows["compute"])[1]
    assert "--progressive @20" in plan_command(app)
    assert sentence(opened("use", depth="19", wide="20")).startswith("Freeze the first 7 of 30 layers for 20 steps,")
    app.slider(key="depth").set_value(7).run()
    assert [info.value for info in app.info if "Freezing deeper after 20 steps is not possible here" in info.value]
    assert "--progressive" not in plan_command(app)
    assert not [frame for frame in opened("decide", depth="19").dataframe if "first step" in frame.value.columns]


def test_a_schedule_is_chosen_with_one_press_and_given_up_with_another():
    app = opened("decide")
    fixed = {metric.label: metric.value for metric in app.metric}
    app.button_group(key="schedule").set_value("wide first, then deep").run()
    assert sentence(app).startswith("Freeze the first 7 of 30 layers for 20 steps, then the first 19.")
    assert app.number_input(key="wide").value == 20
    assert {metric.label: metric.value for metric in app.metric}["Memory vs. full"] > fixed["Memory vs. full"]
    app.button_group(key="schedule").set_value("fixed").run()
    assert {metric.label: metric.value for metric in app.metric} == fixed
    assert app.session_state["wide"] == 0


def test_the_depth_follows_the_objective(example):
    app = opened("decide").button_group(key="objective").set_value("quality").run()
    assert app.slider(key="depth").value == make_plan(example.run, rule="auto").freeze_depth
    app.button_group(key="objective").set_value("memory").run()
    assert any("Set a limit: memory, or a GPU." in info.value for info in app.info)
    app.number_input(key="memory").set_value(6.0).run()
    plan = make_plan(example.run, rule="budget", budget=Budget(max_memory_gib=6.0))
    assert app.slider(key="depth").value == plan.freeze_depth
    app.button_group(key="schedule").set_value("wide first, then deep").run()
    assert any("needs 7.2 GiB" in w.value and "limit of 6.0 GiB" in w.value for w in app.warning)
    app.button_group(key="schedule").set_value("fixed").run()
    assert not app.warning
    app.button_group(key="objective").set_value("time").run()
    app.number_input(key="within").set_value(2.5).run()
    hours = {metric.label: metric.value for metric in app.metric}["Time of the run"]
    assert float(hours.removesuffix(" h")) <= 2.5
    app.button_group(key="objective").set_value("balanced").run()
    assert sentence(app)
    assert app.slider(key="depth").value == make_plan(example.run).freeze_depth


@pytest.mark.parametrize(
    ("query", "option", "limit"),
    [
        ({"objective": "quality"}, "semfreeze plan example --out", ""),
        ({"objective": "memory", "memory": "6"}, "--max-memory-gib 6.0", "gib=6"),
        ({"objective": "time", "within": "2.5"}, "--max-cost-fraction 0.", "hours=2.5"),
    ],
)
def test_the_objective_goes_into_the_plan_and_into_the_form_of_a_finetune(query, option, limit):
    app = opened("decide", **query)
    asked = {link.proto.label: link.proto.query_string for link in app.get("page_link")}
    assert limit in asked["Test this depth by a real finetune"]
    assert option in plan_command(app)


def test_a_time_limit_without_a_rate_says_what_it_needs(doubtful):
    app = opened("decide", run="doubtful", objective="time", within="2")
    assert any("A time limit needs a rate." in info.value for info in app.info)


def test_plan_with_adapters_has_no_depth_at_which_nothing_is_trained():
    app = opened("decide").slider(key="depth").set_value(30).run()
    app.toggle(key="adapters").set_value(True).run()
    assert sentence(app)
    assert app.slider(key="depth").max == 29


def test_plan_follows_the_rule_that_is_asked(example):
    app = opened("decide", rule="paper")
    assert app.slider(key="depth").value == make_plan(example.run, rule="paper").freeze_depth
    app.button_group(key="rule").set_value("auto").run()
    plan = make_plan(example.run, rule="auto")
    assert app.slider(key="depth").value == plan.freeze_depth
    assert f"The auto rule recommends this depth: {plan.reasons[0]}" in "\n".join(text.value for text in app.markdown)
    assert plan.reasons[0].startswith("Unprobed: no race of finetunes was made.")
    app.button_group(key="rule").set_value("compute").run()
    depth = make_plan(example.run, rule="compute").freeze_depth
    assert app.slider(key="depth").value == depth


@pytest.mark.quick_cases(1)
@pytest.mark.parametrize("rule", ["paper", "coverage", "compute"])
def test_use_gives_the_plan_of_the_rule_in_the_link(example, rule):
    app = opened("use", rule=rule)
    depth = make_plan(example.run, rule=rule).freeze_depth
    assert app.slider(key="depth").value == depth
    assert sentence(app).startswith(f"Freeze the first {depth} of 30 layers")
    assert f"--rule {rule}" in next(code.value for code in app.code if code.value.startswith("semfreeze plan"))
    assert app.code[0].value == "semfreeze train plan.json --data sample:sentence_to_json_train --out my-model"


def test_the_script_that_use_proposes_names_what_the_package_has():
    lines = [line[1:] for line in SCRIPT_DIFF.splitlines() if line.startswith("+from")]
    names = {}
    exec("\n".join(lines), names)
    assert "read_plan" in names
    assert f"{names['FreezePlanCallback'].__name__}(read_plan(" in SCRIPT_DIFF


def test_plan_asks_for_a_budget_and_says_when_none_fits(example):
    app = opened("decide").button_group(key="rule").set_value("budget").run()
    assert any("Set a limit" in info.value for info in app.info)
    app.number_input(key="compute").set_value(70).run()
    plan = make_plan(example.run, rule="budget", budget=Budget(max_cost_fraction=0.7))
    assert app.slider(key="depth").value == plan.freeze_depth
    app.number_input(key="memory").set_value(0.5).run()
    assert any("No freeze depth" in warning.value for warning in app.warning)


def test_plan_warns_of_what_the_reading_and_few_examples_mean(example, runs):
    run = example.run
    data = run.manifest.data.model_copy(update={"n_usable": 80})
    manifest = run.manifest.model_copy(update={"data": data, "warnings": ["New languages enter here."]})
    write_run(replace(run, manifest=manifest), runs / "few")
    app = opened("decide", run="few")
    assert sentence(app)
    first, second = app.warning
    assert "New languages enter here" in first.value
    assert second.value.startswith("Only 80 examples")
    assert not opened("decide").warning


def test_plan_page_shows_the_depth_in_a_stock_trainer_and_leads_with_it_when_asked(example):
    depth = make_plan(example.run).freeze_depth
    here = compare_costs(example.run.shape, default_setup(example.run))
    there = compare_costs(example.run.shape, stock_trainer(default_setup(example.run)))
    app = opened("decide")
    assert f"{100 * here.depths[depth].relative_flop:.0f}%" in sentence(app)
    assert alternative_line(here, depth) in [caption.value for caption in app.caption]
    app.toggle(key="stock").set_value(True).run()
    assert f"{100 * there.depths[depth].relative_flop:.0f}%" in sentence(app)
    assert alternative_line(there, depth) in [caption.value for caption in app.caption]
    assert "--stock" in plan_command(app)
    app.slider(key="depth").set_value(0).run()
    assert not any("stock trainer" in caption.value for caption in app.caption)


def test_plan_page_offers_no_loss_and_no_cache_where_the_setup_settles_them():
    app = opened("decide", stock="true", cache="false", loss="fused")
    assert sentence(app)
    assert app.selectbox(key="loss").disabled
    assert app.toggle(key="cache").disabled
    assert "--loss" not in plan_command(app)
    assert "prefix-cache" not in plan_command(app)
    app.toggle(key="stock").set_value(False).run()
    app.selectbox(key="checkpointing").select("transformers-5").run()
    assert sentence(app)
    assert app.toggle(key="cache").disabled
    assert "prefix-cache" not in plan_command(app)


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize("page", [None, *PAGES])
def test_abstention_is_as_plain_as_a_recommendation(page, doubtful):
    app = opened(page, run="doubtful")
    heading = sentence(app)
    assert app.selectbox(key="run").value == "doubtful"
    assert "No depth is recommended" in heading or "do not show how deep to freeze" in heading
    assert "No finetune has confirmed it" not in html_of(app), "there is no plan that a finetune could confirm"
    if page == "decide":
        assert "No recommendation from the" in app.warning[0].value
        assert app.slider(key="depth").value == 0


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize("page", [None, *PAGES])
def test_nonsense_in_the_query_shows_the_example_and_says_so(page):
    nonsense = {"run": "../../etc", "depth": "-7", "metric": "x", "rule": "guess", "batch": "many", "space": "9-D"}
    app = opened(page, **nonsense)
    assert sentence(app)
    assert "is not here" in app.warning[0].value
    assert app.selectbox(key="run").value == "example"


def test_plan_without_any_layer_contribution_says_what_is_not_known(example, runs):
    run = example.run
    traces = {
        metric: replace(trace, deviation=trace.null, first_deviation=trace.first_null, later_deviation=trace.later_null)
        for metric, trace in run.traces.items()
    }
    write_run(replace(run, traces=traces), runs / "flat")
    app = opened("decide", run="flat", frontier="true")
    shown = {metric.label: (metric.value, metric.delta) for metric in app.metric}
    assert shown["Coverage"] == ("not measured", "")
    assert "The gain coverage is not known for this run, so savings against coverage cannot be drawn." in [
        info.value for info in app.info
    ]


@pytest.mark.parametrize("page", PAGES)
def test_a_damaged_run_is_refused_in_a_sentence(page, doubtful):
    (doubtful / "arrays.safetensors").write_bytes(b"damage")
    app = opened(page, run="doubtful")
    assert not app.exception
    assert "Choose another run" in app.error[0].value


def test_a_run_deleted_while_open_leaves_the_example(doubtful):
    app = opened("analyze", run="doubtful")
    shutil.rmtree(doubtful)
    app.run()
    assert sentence(app)
    assert app.selectbox(key="run").value == "example"


def test_start_lists_what_cannot_be_read_with_its_reason(runs):
    (runs / "broken").mkdir()
    (runs / "broken" / "manifest.json").write_text("not a manifest")
    app = opened()
    assert sentence(app)
    table = app.dataframe[0].value
    assert list(table["run"]) == ["broken"]
    assert "broken" in table.set_index("run")["problem"]["broken"]


def test_start_says_how_to_make_a_run_where_there_is_none():
    assert any("semfreeze analyze" in caption.value for caption in opened().caption)


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("page", [None, *map(str.lower, LISTED)])
def test_names_from_data_and_models_do_nothing_on_any_page(page, example, runs):
    hostile = "[x](javascript:a) `c` $m$ :red[z] <b>\x1b[2J\u202e"
    manifest = example.run.manifest
    identity = replace(manifest.model.identity, source=hostile)
    changed = {
        "model": manifest.model.model_copy(update={"identity": identity}),
        "data": manifest.data.model_copy(update={"source": f"{hostile}.jsonl"}),
        "warnings": [hostile],
    }
    name = "a [b](c) $d$ :red[e]"
    write_run(replace(example.run, manifest=manifest.model_copy(update=changed)), runs / name)
    app = opened(page, run=name, **{"with": "example"})
    assert not app.exception
    texts = [element.value for element in (*app.markdown, *app.caption, *app.warning, *app.info, *app.error)]
    assert len(texts) > 2
    for text in [text for text in texts if not text.startswith("``")]:  # which is code, whatever it has inside
        assert "](" not in text.replace(r"\](", "")
        assert ":red[" not in text.replace(r"\:red\[", "")
        assert not {"\x1b", "\u202e"} & set(text)


def test_demo_shows_the_example_alone(monkeypatch, doubtful):
    monkeypatch.setenv(DEMO_VARIABLE, "1")
    assert opened().selectbox(key="run").options == ["example"]


def test_traces_show_an_examples_tokens():
    app = opened("analyze")
    assert sentence(app)
    texts = [code.value for code in app.code]
    assert any("Sentence:" in text for text in texts)


@pytest.mark.quick_cases(0)
def test_no_page_imports_torch():
    script = (
        "import sys\n"
        "from streamlit.testing.v1 import AppTest\n"
        f"app = AppTest.from_file({str(APP)!r}, default_timeout=60).run()\n"
        f"for page in {PAGES!r}:\n"
        "    app.switch_page(f'views/{page}.py').run()\n"
        "assert not app.exception and not app.error\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_plan_names_the_largest_saving_and_sets_it():
    app = opened("decide")
    memory = set()
    for change, key, value in (
        ("target-token logits in chunks saves ", "loss", "chunked"),
        ("non-reentrant checkpointing saves ", "checkpointing", "non-reentrant"),
    ):
        (line_text,) = [line.value for line in app.markdown if "Largest saving left" in line.value]
        assert line_text.startswith(f"Largest saving left: {change}")
        memory.add(next(metric for metric in app.metric if metric.label == "Memory vs. full").delta)
        next(button for button in app.button if button.label == "Apply").click().run()
        assert sentence(app)
        assert app.selectbox(key=key).value == value
    memory.add(next(metric for metric in app.metric if metric.label == "Memory vs. full").delta)
    assert len(memory) == 3
    assert not [line.value for line in app.markdown if "Largest saving left" in line.value]


def test_plan_without_a_recommendation_offers_what_to_do(doubtful):
    app = opened("decide", run="doubtful")
    labels = [button.label for button in app.button]
    assert {"Freeze a quarter, 7", "Train every layer"} <= set(labels)
    asked = {link.proto.label: link.proto.query_string for link in app.get("page_link")}
    assert "tested=20" in asked["Test freezing two thirds, 20, by a real finetune"]
    assert asked["Analyze more examples"] == "do=New+analysis"
    app.button[labels.index("Freeze a quarter, 7")].click().run()
    assert sentence(app)
    assert app.slider(key="depth").value == 7
    assert not any("Freeze a quarter" in button.label for button in opened("decide").button)
