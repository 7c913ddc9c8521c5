"""The dashboard in a real browser, on the shipped run."""

import json

import pytest

from semfreeze_core.cost import cost_table
from semfreeze_core.plan import make_plan
from semfreeze_core.plan.badge import with_badge
from semfreeze_core.plan.make import default_setup
from semfreeze_core.runs.folder import read_run
from semfreeze_core.runs.plans import read_plan
from semfreeze_core.runs.reports import list_validations
from semfreeze_core.runs.store import example_run
from tests.browser.conftest import Reader, sync_api

DARK = {"theme": "dark"}
CLOUD = "Hidden states in one projection"
COUNT_GLIDES = """() => {
    const animate = Element.prototype.animate
    window.glides = 0
    Element.prototype.animate = function (...how) {
        window.glides += Boolean(this.closest('.barlayer'))
        return animate.apply(this, how)
    }
}"""


@pytest.fixture(scope="module")
def run():
    return read_run(example_run())


def go(reader, page):
    reader.window.get_by_role("link", name=page).first.click()
    reader.window.wait_for_url(f"**/{page.lower()}**")
    reader.settle()


def open_options(reader):
    reader.window.locator("summary", has_text="Options").click()


def open_setup(reader):
    reader.window.get_by_text("Training setup", exact=True).click()
    reader.window.get_by_role("spinbutton", name="Batch").wait_for()


@pytest.mark.slow
def test_every_page_opens_without_an_error(reader):
    reader.open("")
    for name, chart in (("Analyze", CLOUD), ("Analyze", "What each layer adds"), ("Decide", "Device memory by part")):
        reader.window.get_by_role("link", name=name).first.click()
        reader.chart(chart).locator(".main-svg").first.wait_for()
        reader.settle()
        assert reader.window.locator("[data-testid=stAlert], [data-testid=stException]").count() == 0
        assert reader.complaints == []


@pytest.mark.slow
def test_a_moved_slider_shows_the_memory_the_core_computes(reader, run):
    reader.open("decide?depth=13")
    reader.settle()
    reader.window.evaluate(COUNT_GLIDES)
    reader.window.get_by_role("slider", name="Freeze depth k").press("ArrowLeft")
    reader.window.get_by_text("Freeze the first 12 of 30 layers").first.wait_for()
    reader.settle()
    total = cost_table(run.shape, default_setup(run))[12].bytes.total / 2**30
    assert f"{total:.1f} GiB" in reader.window.locator("[data-testid=stMetric]").nth(1).inner_text()
    assert f"{total:.1f} GiB" in reader.chart("Device memory by part").inner_text()
    assert "depth=12" in reader.window.url
    assert reader.window.evaluate("window.glides") > 0, "bars do not jump"


@pytest.mark.slow
def test_the_stacks_line_is_dragged_and_moved_by_keys(reader, run):
    reader.open("decide?depth=13")
    line = reader.window.get_by_role("slider", name="Frozen layers")
    box, stack = line.bounding_box(), reader.window.get_by_role("img", name="Layer stack").bounding_box()
    middle = box["y"] + box["height"] / 2
    reader.window.mouse.move(box["x"] + box["width"] / 2, middle)
    reader.window.mouse.down()
    reader.window.mouse.move(stack["x"] + stack["width"] * 6.2 / 30, middle, steps=5)
    readout = line.get_attribute("aria-valuetext")
    cost = cost_table(run.shape, default_setup(run))[6]
    assert readout.startswith(f"6: {cost.relative_flop:.0%} compute, {cost.bytes.total / 2**30:.1f} GiB")
    assert "depth=13" in reader.window.url, "nothing is asked of the server until the line is let go"
    reader.window.mouse.up()
    reader.window.get_by_text("Freeze the first 6 of 30 layers").first.wait_for()
    reader.window.wait_for_url("**depth=6*")
    for key in ("ArrowRight", "PageUp", "ArrowLeft"):
        line.press(key)
    reader.window.get_by_text("Freeze the first 11 of 30 layers").first.wait_for()
    assert reader.complaints == []


@pytest.mark.slow
def test_a_stack_that_cannot_be_dragged_says_so(reader):
    reader.window.add_init_script("delete window.PointerEvent")
    reader.open("decide?depth=13")
    reader.window.get_by_text("The line cannot be dragged in this browser.").wait_for()
    assert reader.window.get_by_title("layer 12: frozen").count() == 1
    assert reader.window.get_by_role("slider", name="Frozen layers").count() == 0


@pytest.mark.slow
def test_a_link_at_the_end_of_a_page_opens_the_next_page_at_its_top(reader):
    reader.open("analyze")
    reader.window.get_by_role("link", name="Choose how deep, on my GPU").click()
    reader.window.wait_for_url("**/decide**")
    reader.settle()
    assert reader.window.get_by_test_id("stMain").evaluate("main => main.scrollTop") == 0


@pytest.mark.slow
def test_back_goes_to_the_page_before_at_the_depth_it_had(reader):
    reader.open("decide?depth=12")
    stops = reader.window.evaluate("history.length")
    visited = [reader.sentence]
    for page in ("Use", "Analyze", "Decide"):
        go(reader, page)
        reader.window.get_by_role("slider", name="Freeze depth k").press("ArrowLeft")
        reader.window.wait_for_url(f"**/{page.lower()}?depth={12 - len(visited)}")
        reader.settle()
        visited.append(reader.sentence)
    assert reader.window.evaluate("history.length") == stops + 3
    for sentence in reversed(visited[:-1]):
        reader.window.go_back()
        reader.settle()
        assert reader.sentence == sentence
    assert reader.complaints == []


@pytest.mark.slow
def test_links_from_before_the_pages_were_renamed_show_what_they_showed(reader):
    for former, chart in (("plan", "Device memory by part"), ("traces", CLOUD), ("gains", "What each layer adds")):
        reader.open(f"{former}?depth=12")
        reader.chart(chart).locator(".main-svg").first.wait_for()
        assert reader.window.get_by_role("slider", name="Freeze depth k").input_value() == "12"
    assert reader.complaints == []


@pytest.mark.slow
def test_a_gpu_chosen_on_one_page_is_that_of_the_next_and_stays_in_the_link(reader):
    reader.open("")
    gpu = reader.window.get_by_role("combobox", name="GPU")
    gpu.fill("48GiB")
    gpu.press("Enter")
    reader.window.wait_for_url("**gpu=48GiB**")
    reader.settle()
    reader.window.get_by_role("link", name="Just estimate a model").click()
    reader.window.get_by_text("48 GiB GPU").first.wait_for()
    reader.settle()
    assert "gpu=48GiB" in reader.window.url
    reader.window.reload()
    reader.window.get_by_text("48 GiB GPU").first.wait_for()
    reader.settle()
    gpu.fill("RTX 4090")
    gpu.press("Enter")
    reader.window.wait_for_url("**gpu=RTX*4090**")
    go(reader, "Decide")
    assert "gpu=RTX" in reader.window.url
    assert gpu.input_value() == "RTX 4090"
    assert reader.complaints == []


@pytest.mark.slow
def test_from_home_to_a_plan_that_is_shared_in_three_clicks(reader):
    window = reader.window
    reader.open("?batch=4")
    window.get_by_role("link", name="Choose how deep, on my GPU").click()
    window.wait_for_url("**/decide**")
    reader.settle()
    window.get_by_role("slider", name="Freeze depth k").press("ArrowLeft")
    window.wait_for_url("**depth=18**")
    reader.settle()
    window.get_by_role("link", name="Use this plan").click()
    window.wait_for_url("**/use**")
    reader.settle()
    assert reader.sentence.startswith("Freeze the first 18 of 30 layers")
    window.get_by_role("button", name="Share").click()
    shared = window.get_by_test_id("stPopoverBody")
    sync_api.expect(shared.get_by_test_id("stCode")).to_have_text(window.url)
    with window.expect_download() as download:
        shared.get_by_role("button", name="Download a picture of the plan").click()
    assert download.value.suggested_filename == "semfreeze-example.png"
    assert {"batch=4", "depth=18"} <= set(window.url.split("?")[1].split("&"))
    assert reader.complaints == []


@pytest.mark.slow
def test_plan_has_conclusion_slider_and_memory_in_the_first_window(reader):
    reader.window.set_viewport_size({"width": 1440, "height": 900})
    reader.open("decide")
    memory = reader.chart("Device memory by part").bounding_box()
    assert reader.window.get_by_role("slider", name="Freeze depth k").bounding_box()["y"] < memory["y"]
    assert memory["y"] <= 750, "the plan's bar and full finetuning's stand in its upper half"


@pytest.mark.slow
def test_the_downloaded_plan_is_the_cores(reader, run, tmp_path):
    reader.open("use")
    with reader.window.expect_download() as download:
        reader.window.get_by_role("button", name="Download plan JSON").click()
    download.value.save_as(tmp_path / "plan.json")
    plan = read_plan(tmp_path / "plan.json")
    expected = with_badge(make_plan(run, run_name="example_run"), list_validations(example_run()))
    assert expected.evidence.badge == "measured"
    created = {"provenance": expected.provenance}
    assert plan.model_copy(update=created) == expected
    assert json.loads((tmp_path / "plan.json").read_text())["freeze_depth"] == expected.freeze_depth


@pytest.mark.slow
def test_a_pasted_link_opens_the_same_view(reader, context, address):
    reader.open("decide")
    open_options(reader)
    reader.window.get_by_text("paper", exact=True).first.click()
    reader.window.get_by_text("Freeze the first 21 of 30 layers").first.wait_for()
    open_setup(reader)
    before = reader.sentence
    reader.window.get_by_role("spinbutton", name="Batch").fill("4")
    reader.window.get_by_role("spinbutton", name="Batch").press("Enter")
    sync_api.expect(reader.window.locator("h2").first).not_to_have_text(before)  # on a busy machine it takes a while
    reader.settle()
    there, link = reader.sentence, reader.window.url.removeprefix(f"{address}/")
    assert "batch=4" in link
    colleague = Reader(context.new_page(), address)
    colleague.open(link)
    assert colleague.sentence == there
    open_setup(colleague)
    assert colleague.window.get_by_role("spinbutton", name="Batch").input_value() == "4"
    colleague.window.get_by_role("link", name="Use", exact=True).click()
    colleague.settle()
    colleague.window.get_by_text("Make plan.json on the command line").click()
    colleague.window.get_by_text("semfreeze plan example --rule paper --batch-size 4").wait_for()
    colleague.window.wait_for_url("**/use?*depth=21*")
    colleague.window.close()


@pytest.mark.slow
def test_the_trajectory_plays(reader):
    reader.open("analyze")
    cloud = reader.chart(CLOUD)
    point = cloud.locator(".scatterlayer .trace .point").first
    before = point.get_attribute("transform")
    coverage = cloud.locator(".x3y3 .scatterlayer .point")
    start = coverage.get_attribute("transform")
    cloud.locator(".updatemenu-button").first.click()
    sync_api.expect(point).not_to_have_attribute("transform", before)
    sync_api.expect(coverage).not_to_have_attribute("transform", start)
    sync_api.expect(cloud.locator(".slider-label").first).not_to_contain_text("hidden state 19")
    assert reader.complaints == []


@pytest.mark.slow
@pytest.mark.parametrize("reader", [DARK], indirect=True, ids=["dark"])
def test_the_ink_of_charts_and_stack_follows_the_theme(reader):
    reader.open("analyze?depth=1")
    frozen, trained = (
        reader.window.get_by_title(f"layer {layer}:").evaluate("e => getComputedStyle(e).backgroundColor")
        for layer in (0, 1)
    )
    assert (frozen, trained) == ("rgb(142, 196, 232)", "rgb(225, 129, 44)")
    line = reader.window.get_by_role("slider", name="Frozen layers")
    assert line.evaluate("e => getComputedStyle(e, '::after').backgroundColor") == "rgb(230, 234, 238)"
    fill = reader.window.locator(".js-plotly-plot .xtick text").first.evaluate("e => getComputedStyle(e).fill")
    assert fill == "rgb(230, 234, 238)"
    assert reader.complaints == []


@pytest.mark.slow
def test_a_lasso_shows_the_selections_curve_and_rows(reader):
    reader.open("analyze")
    cloud = reader.chart(CLOUD)
    cloud.scroll_into_view_if_needed()
    box = cloud.bounding_box()
    corners = [(0.7, 0.1), (0.95, 0.1), (0.95, 0.4), (0.7, 0.4), (0.7, 0.1)]
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    reader.window.mouse.move(*places[0])
    reader.window.mouse.down()
    for point in places[1:]:
        reader.window.mouse.move(*point, steps=5)
    reader.window.mouse.up()
    reader.window.get_by_text("Deviation of the selection").first.wait_for()
    reader.settle()
    assert reader.window.get_by_text("selected of 1,000 shown positions").count() == 1
    cloud = reader.chart(CLOUD)
    cloud.locator(".updatemenu-button").first.click()
    sync_api.expect(cloud.locator(".slider-label").first).not_to_contain_text("hidden state 19")
    assert reader.complaints == []
    reader.window.get_by_role("button", name="Clear selection").click()
    sync_api.expect(reader.window.get_by_text("Deviation of the selection")).to_have_count(0)


@pytest.mark.slow
def test_labels_stand_equally_high_above_fields_of_every_kind(reader):
    reader.open("analyze?projection=UMAP")
    open_options(reader)
    reader.window.get_by_role("spinbutton", name="Trajectories").wait_for()
    reader.settle()
    heights = (
        reader.window.locator("[data-testid=stMain]")
        .locator("[data-testid=stButtonGroup]:visible, [data-testid=stNumberInput]:visible")
        .evaluate_all(
            """fields => fields.map(field => {
            const drawn = field.querySelector("[role=radio], [data-testid=stNumberInputContainer]")
            return drawn.getBoundingClientRect().bottom - field.querySelector("label").getBoundingClientRect().top
        })"""
        )
    )
    assert len(heights) == 6
    assert max(heights) - min(heights) < 1, heights


@pytest.mark.slow
def test_a_clicked_cell_shows_what_the_head_reads(reader):
    reader.open("analyze")
    heat = reader.window.locator("[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg").first
    heat.scroll_into_view_if_needed()
    box = heat.bounding_box()
    reader.window.mouse.click(box["x"] + 0.5 * box["width"], box["y"] + 0.3 * box["height"])
    reader.window.get_by_text("the head predicts").first.wait_for()
    assert reader.complaints == []


@pytest.mark.slow
def test_a_clicked_point_of_the_frontier_moves_the_depth(reader):
    reader.open("decide?frontier=true")
    frontier = reader.chart("Savings against coverage")
    frontier.scroll_into_view_if_needed()
    frontier.locator(".scatterlayer .trace").first.locator(".point").nth(25).click(force=True)
    reader.window.get_by_text("Freeze the first 25 of 30 layers").first.wait_for()
    reader.settle()
    assert "depth=25" in reader.window.url


@pytest.mark.slow
def test_three_dimensions_play(reader):
    reader.open("analyze?space=3-D&colour=deviation")
    cloud = reader.chart(CLOUD)
    cloud.locator(".updatemenu-button").first.click()
    sync_api.expect(cloud.locator(".slider-label").first).not_to_contain_text("hidden state 19")
    assert reader.complaints == []


@pytest.mark.slow
def test_numbers_and_files_of_a_chart(reader, tmp_path):
    reader.open("analyze")
    reader.window.get_by_text("Numbers and files").first.click()
    reader.settle()
    for name, start in (("CSV", "series,"), ("HTML", "<!doctype html>")):
        with reader.window.expect_download() as download:
            reader.window.get_by_test_id("stPopoverBody").get_by_role("button", name=name, exact=True).click()
        download.value.save_as(tmp_path / name)
        assert (tmp_path / name).read_text().startswith(start)


@pytest.mark.slow
def test_the_report_is_downloaded_and_opens_by_itself(reader, context, tmp_path):
    reader.open("use?depth=12")
    with reader.window.expect_download() as download:
        reader.window.get_by_role("button", name="Report of the run").click()
    download.value.save_as(tmp_path / "report.html")
    window, complaints = context.new_page(), []
    window.on("pageerror", lambda error: complaints.append(str(error)))
    window.goto(f"file://{tmp_path / 'report.html'}")
    window.locator(".main-svg").first.wait_for()
    assert "example" in window.title()
    assert complaints == []
    window.close()
