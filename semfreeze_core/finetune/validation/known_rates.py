"""Learning rates that a search chose before: of the same arm with another seed, an equal arm of another run, or the
variant before it, from whose rate a search begins."""

from dataclasses import asdict, replace
from pathlib import Path

from pydantic import ValidationError

from semfreeze_core.finetune.arm.arms import Arm
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.validation.request import Prepared
from semfreeze_core.gains.rates import too_high_rate
from semfreeze_core.records.defaults import RATE_GRID, RATE_TRIALS
from semfreeze_core.records.rates import RateSearch
from semfreeze_core.storage import cache_folder, digest, write_atomically


def after_search(arm: Arm, settings: ArmSettings, before: RateSearch | None) -> tuple[Arm, ArmSettings]:
    """The arm with a search that begins at another variant's rate: one that trains fewer layers.

    The more layers are trained, the lower the best rate is at most, as far as we have seen: so lower rates come first,
    and those that were clearly too high for the other variant are not tried again.
    """
    if before is None or before.rate is None:
        return arm, settings
    return (
        replace(arm, learning_rate=before.rate),
        replace(settings, lower_rates_first=True, too_high_rate=too_high_rate(before)),
    )


def search_path(prepared: Prepared, arm: Arm, settings: ArmSettings) -> Path:
    """The file of the search of an arm; equal for all that would search the same rates on the same batches."""
    document = prepared.document
    order = [settings.rates_on, settings.lower_rates_first, settings.too_high_rate]
    key = digest(
        {
            "weights": prepared.request.plan.model.weights_digest,
            "structure": prepared.request.plan.model.structure_digest,
            "train": document.train_digest,
            "eval": document.eval_digest,
            "examples": [document.n_train, document.n_eval],
            "parts": asdict(arm.parts),
            "lora": None if arm.lora is None else asdict(arm.lora),
            "setup": replace(settings.setup, steps=1, prefix_cache=False, micro_batch_size=None).document(),
            "steps": settings.rate_steps,
            "warmup": settings.warmup_steps,
            "rates": [arm.learning_rate, RATE_TRIALS, *RATE_GRID],
            **({} if settings.rates_on == "eval examples" else {"order": order}),
        }
        | ({} if arm.example_depths is None else {"depths": arm.example_depths})
    )
    return cache_folder() / "rates" / f"{key}.json"


def known_search(prepared: Prepared, arm: Arm, settings: ArmSettings) -> RateSearch | None:
    """An equal arm's earlier search; None where there is none that can be read."""
    try:
        search = RateSearch.model_validate_json(search_path(prepared, arm, settings).read_text())
    except (OSError, UnicodeDecodeError, ValidationError):
        return None
    return search.model_copy(update={"reused": True, "spent_flop": 0, "spent_seconds": 0.0})


def remember_search(prepared: Prepared, arm: Arm, settings: ArmSettings, search: RateSearch) -> None:
    """Keep a search that chose a rate for later runs."""
    if search.rate is not None and not search.reused:
        write_atomically(search_path(prepared, arm, settings), search.model_dump_json() + "\n")


def at_known_rate(arm: Arm, settings: ArmSettings, search: RateSearch | None) -> tuple[Arm, ArmSettings]:
    """The arm at a search's rate; as it is where there is no search or it chose none."""
    if search is None or search.rate is None:
        return arm, settings
    return replace(arm, learning_rate=search.rate), replace(settings, rate_known=True)
