"""Loss curves of a validation: means over seeds from the very start, arms in training, and the race played again."""

from math import log10

import pytest

from semfreeze_core.records.validation import LiveArm
from semfreeze_core.runs.reports import list_validations
from semfreeze_dashboard.charts.losses import Line, draw_losses, lines, until


@pytest.fixture(scope="module")
def report(example):
    return list_validations(example.folder)["sentence_to_json_train"]


def test_curves_are_means_over_seeds_from_the_loss_before(report):
    figure = draw_losses(report, "steps")
    runs = [run for run in report.runs if run.arm == "planned"]
    expected = [sum(run.points[i].curve_loss for run in runs) / len(runs) for i in range(len(runs[0].points))]
    (planned,) = [trace for trace in figure.data if trace.name == "planned (freeze 19)"]
    assert list(planned.y) == pytest.approx([report.baseline.loss, *expected])
    assert list(planned.x) == [0, *(point.step for point in runs[0].points)]
    (annotation,) = figure.layout.annotations
    assert annotation.text == f"before: {report.baseline.loss:.2f}"
    assert 10**annotation.y == pytest.approx(report.baseline.loss) == figure.layout.shapes[0].y0
    assert not figure.frames


@pytest.mark.parametrize(
    "losses",
    [
        [6.4231, 6.4229, 6.4228],
        [6.42, 6.42, 6.42],
        [6.4, 5.6, 5.3],
        [2.0, 0.9, 0.15],
        [5.0, 0.4, 0.02],
        [8, 1e-3, 1e-7],
    ],
)
def test_the_loss_axis_has_named_ticks_however_close_or_far_apart_losses_are(report, losses):
    before, *later = losses
    (run,) = [run for run in report.runs if run.arm == "full" and run.seed == 0]
    points = [point.model_copy(update={"curve_loss": y}) for point, y in zip(run.points, later, strict=False)]
    shown = report.model_copy(
        update={
            "baseline": report.baseline.model_copy(update={"loss": before}),
            "arms": {"full": report.arms["full"]},
            "runs": [run.model_copy(update={"points": points})],
        }
    )
    axis = draw_losses(shown, "steps").layout.yaxis
    low, high = axis.range
    assert all(low < log10(loss) < high for loss in losses)
    if axis.tickvals is None:  # Plotly names ticks at even steps of the loss itself on less than a power of ten
        assert high - low < 1
    else:
        assert len([value for value in axis.tickvals if low < log10(value) < high]) >= 3
        assert [float(text) for text in axis.ticktext] == pytest.approx(list(axis.tickvals))


@pytest.mark.parametrize("along", ["steps", "seconds"])
def test_no_axis_begins_before_the_start(report, along):
    nothing_yet = report.model_copy(update={"arms": {}, "runs": [], "finished": False})
    for shown in (report, nothing_yet):
        low, high = draw_losses(shown, along).layout.xaxis.range
        assert low == 0 < high


def test_the_cache_pass_is_flat_at_the_loss_before(report):
    by_arm = {line.arm: line for line in lines(report, (), "seconds")}
    runs = [run for run in report.runs if run.arm == "planned"]
    cached = sum(run.cache_seconds for run in runs) / len(runs)
    assert by_arm["planned"].x[:2] == pytest.approx([0, cached])
    assert by_arm["planned"].y[:2] == [report.baseline.loss] * 2
    assert by_arm["full"].x[1] > 0 == by_arm["full"].x[0]
    for line in by_arm.values():
        assert line.x == sorted(line.x)


def test_the_race_shows_every_arm_as_far_as_it_was(report):
    figure = draw_losses(report, "seconds")
    end = max(trace.x[-1] for trace in figure.data)
    assert len(figure.frames[0].data[0].x) == 1
    for drawn, trace in zip(figure.frames[-1].data, figure.data, strict=True):
        assert list(drawn.x) == list(trace.x)
    middle = figure.frames[len(figure.frames) // 2]
    assert all(drawn.x[-1] <= end / 2 + 1e-9 for drawn in middle.data)
    assert figure.layout.updatemenus[0].buttons[0].label == "▶ play the race"


def test_between_readings_a_curve_is_straight_on_the_logarithmic_axis():
    line = Line("full", "full", [0.0, 10.0, 30.0], [4.0, 1.0, 0.25])
    assert until(line, 20) == ([0, 10, 20], [4, 1, pytest.approx(0.5)])
    assert until(line, 10) == ([0, 10], [4, 1])
    assert until(line, 99) == (line.x, line.y)


def test_an_arm_in_training_is_drawn_open_until_a_seed_of_it_is_done(report):
    points = report.runs[0].points[:2]
    live = [
        LiveArm(
            arm=arm, seed=1, step=7, total_steps=24, seconds=9.0, cache_seconds=0.0, train_loss=0.5, peak_bytes=1,
            points=points,
        )
        for arm in ("planned", "depth:3")
    ]  # fmt: skip
    figure = draw_losses(report, "seconds", live)
    (open_end,) = [trace for trace in figure.data if trace.marker.symbol == "circle-open"]
    assert open_end.name == "depth:3, training"
    assert list(open_end.x) == [0, *(point.seconds for point in points)]
    assert not figure.frames, "nothing is played while it still happens"
