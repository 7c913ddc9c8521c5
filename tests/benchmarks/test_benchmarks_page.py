"""The numbers of docs/benchmarks.md that CPUs gave are those of the results, and pages that quote them agree."""

from tests.benchmarks.benchmarks_page import flop_range, rendered_page
from tests.benchmarks.gpu_report import PAGE
from tests.docs.pages import ROOT


def test_the_page_holds_what_was_measured():
    assert rendered_page(PAGE.read_text()) == PAGE.read_text()


def test_the_page_about_training_quotes_what_like_lengths_save():
    assert f"a batch of 8 took {flop_range('8')} of the FLOPs" in " ".join(
        (ROOT / "docs" / "training.md").read_text().split()
    )
