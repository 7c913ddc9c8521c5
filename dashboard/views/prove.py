"""Prove: what short real finetunes have shown of this run's plan, and a new one as a background job."""

from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from semfreeze_core.records.validation import REPORT, ValidationReport
from semfreeze_core.runs.folder import PILOTS, SWEEPS, VALIDATIONS
from semfreeze_core.runs.jobs import list_jobs
from semfreeze_core.wording.numbers import CI
from semfreeze_core.wording.training import forecast_sentence
from semfreeze_core.wording.validation import finetune_conditions, live_sentence
from semfreeze_dashboard.charts import finetunes
from semfreeze_dashboard.charts.losses import Along, draw_losses, lines
from semfreeze_dashboard.data import depth_choice, estimates, finetune_results, link, news
from semfreeze_dashboard.data.run_folder import EXAMPLE, OpenRun, server_catalog
from semfreeze_dashboard.data.visitor_requests import submit
from semfreeze_dashboard.forms import finetune_form, validation_form
from semfreeze_dashboard.panels import finetune_panel, page, pilots_panel, sweep_panel
from semfreeze_dashboard.panels.variant_tables import variant_tables
from semfreeze_dashboard.server.failures import guarded
from semfreeze_dashboard.text import page_text, validation_text
from semfreeze_dashboard.text.tooltips import TOOLTIPS
from semfreeze_dashboard.text.visitor_text import command_text, error_text

PLAN = "plan.json"
FINETUNE = "finetune"
STARTS = (*validation_form.PRESETS, FINETUNE)
_FOLDERS = {"validation": VALIDATIONS, "sweep": SWEEPS, "pilots": PILOTS}


def body() -> None:
    """The verdict, the curves it rests on, predicted beside measured; then the form of a new one."""
    ctx = page.page_context(chooses_metric=False)
    reports = finetune_results.validations(ctx.opened)
    choices = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
    name = None
    if reports:
        names = list(reports)
        news.show_started("validation", names)
        name = choices.selectbox("Validation", names, len(names) - 1, width=320, **link.in_link("validation"))
    report = reports[name] if name else None
    depth = report.freeze_depth if report else depth_choice.depth_of_link(page.start_depth(ctx))
    if report is not None and report.layers is not None:
        depth = None  # no depth says which layers those are; the headline does
    page.header(ctx, depth, validation_text.validation_sentence(report), validated=False)
    results, waiting, form = page.sections(3)
    with results:
        if name and report is not None:
            validation_result(ctx, choices, name, report)
        finetune_panel.finetunes_panel(ctx)
        sweep_panel.sweep_panel(ctx)
        pilots_panel.pilots_panel(ctx)
        if reports:
            page.next_step("Use this plan", "use")
        else:
            first_step(ctx, depth or 0)
    folder = server_catalog().folder
    if folder is None:
        st.info("A demonstration trains nothing.")
        return
    with waiting:
        await_first_report(ctx, folder, set(reports))
    with form:
        new_finetune(ctx, folder)


def first_step(ctx: page.PageContext, depth: int) -> None:
    """What to do where nothing has tested the plan: the form below, opened at the depth."""
    if server_catalog().folder is not None and link.text("prove", "").lower() != "true":  # where it is not open yet
        st.markdown(page_text.PROVE_FIRST)
        query = depth_choice.finetune_form_query(depth, validation_form.start_depth(ctx.opened))
        label = f"Test freezing {depth} by a real finetune" if depth else "Choose what to test by a real finetune"
        page.next_step(label, "prove", **query)


def shows_objective() -> bool:
    """Whether the page has a choice of the objective, which the form of a finetune does, out of sight too."""
    return server_catalog().folder is not None


def link_choices(opened: OpenRun) -> None:
    """This page's widgets of the link, for pages that only keep them there."""
    link.keep_choice("start", STARTS)
    finetune_form.keep_choices()


def validation_result(ctx: page.PageContext, choices: DeltaGenerator, name: str, report: ValidationReport) -> None:
    """Curves and shares kept; numbers, and what was predicted beside what was measured, when they are opened."""
    settings = report.settings
    sets = page_text.data_name(settings.train), page_text.data_name(settings.eval)
    conditions = finetune_conditions(settings, report.baseline.n_items, *sets)
    along = choices.segmented_control(
        "Along", ("seconds", "steps"), default="seconds", required=True, help=TOOLTIPS["along"],
        **link.in_link("along"),
    )  # fmt: skip
    for warning in report.warnings:
        st.warning(error_text(warning))
    caption = f"{conditions} Means over seeds, on the first eval examples."
    loss_chart(ctx, name, "steps" if along == "steps" else "seconds", caption)
    if not report.arms:
        st.info(validation_text.NO_VARIANT_YET)
        return
    intervals = f"{conditions} Intervals: {CI}, bootstrap over examples and seeds."
    page.chart(
        "kept",
        "Share of full finetuning's loss reduction kept",
        intervals,
        finetunes.draw_reduction_shares(report),
        "kept",
    )
    title = "Quality and cost of every variant, answers before and after"
    page.details("figures", title, lambda: variant_tables(report))


def await_first_report(ctx: page.PageContext, runs: Path, known: set[str]) -> None:
    """Draw the page again once a validation that runs has told something: it is not among the known ones yet."""
    folder = (ctx.opened.folder / VALIDATIONS).absolute()
    outputs = [Path(job.spec.out) for job in list_jobs(runs) if not job.finished and job.spec.out is not None]
    awaited = [out for out in outputs if out.parent == folder and out.name not in known]
    if not awaited:
        return

    def look() -> None:
        if any((out / REPORT).exists() for out in awaited):
            st.rerun(scope="app")
        st.caption(validation_text.STARTED)

    st.fragment(guarded(look), run_every=2)()


def loss_chart(ctx: page.PageContext, name: str, along: Along, caption: str) -> None:
    """Every arm's curve; while the finetunes run, drawn again every other second."""
    out = ctx.opened.folder / VALIDATIONS / name
    runs = server_catalog().folder
    running = runs is not None and any(not j.finished and j.spec.out == str(out.absolute()) for j in list_jobs(runs))

    def draw() -> None:
        report, live = finetune_results.validations(ctx.opened)[name], finetune_results.live(ctx.opened, name)
        if lines(report, live, along):  # none while the first variant's learning rate is searched
            page.chart("losses", "Eval loss of every variant", caption, draw_losses(report, along, live), "arms")
        for arm in live:
            st.caption(live_sentence(arm))

    if running:
        st.fragment(guarded(draw), run_every=2)()
    else:
        draw()


def new_finetune(ctx: page.PageContext, runs: Path) -> None:
    """The forms of new finetunes: those that test the plan, and one that gives a model."""
    with st.expander("Finetune for real", expanded=False, on_change="rerun", **link.in_link("prove")):
        start = st.segmented_control(
            "Start", STARTS, default=STARTS[0], required=True, help=TOOLTIPS["start"], **link.in_link("start"),
        )  # fmt: skip
        finetune_panel.start_finetune(ctx, runs, shown=start == FINETUNE)
        if start != FINETUNE:
            new_validation(ctx, runs, validation_form.PRESETS[start or STARTS[0]])


def new_validation(ctx: page.PageContext, runs: Path, preset: validation_form.Preset) -> None:
    """The form of finetunes that test the plan, what they take, and the button."""
    st.caption(validation_text.INTRODUCTION)
    request = validation_form.finetune_form(ctx.opened, runs, preset)
    if request is None:
        st.info("Choose training and evaluation data.")
        return
    name = EXAMPLE if ctx.opened.name == EXAMPLE else str(ctx.opened.folder.absolute())
    out = ctx.opened.folder / _FOLDERS[request.kind] / request.folder_name
    command = request.command(name)
    if request.kind == "pilots":
        command, out = (*command, f"--pilots-in={out}"), out / PLAN
    n_runs = request.n_runs(ctx.opened)
    forecast = estimates.forecast(ctx.opened, batch_size=request.batch_size, steps=request.steps, n_runs=n_runs)
    st.markdown(forecast_sentence(forecast, estimates.finetune_rate(ctx.opened)[1], request.search_shares))
    st.caption("The same on the command line:")
    st.code(command_text((*command, f"--out={out}")), language="bash", wrap_lines=True)
    if st.button("Start", type="primary", disabled=name == EXAMPLE):
        submit(runs, command, f"{request.kind} of {ctx.opened.name}", out)  # goes on where one was interrupted
        news.await_started(out.name)
        news.announce(f"Started: {request.kind} of {ctx.opened.name}. Follow it under Jobs.")
        st.rerun(scope="app")
    if name == EXAMPLE:
        st.caption("The bundled run comes with its validation. Analyze a model to validate your own plan.")


draw = page.as_fragment(body)
