"""The flags of `plan --rule measured`, and the measurement that they ask for."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from semfreeze_core.cli.options.common import DeviceOption, PickleOption, TrustOption
from semfreeze_core.cli.options.finetune import RunnerOption
from semfreeze_core.errors import PlanError
from semfreeze_core.records.defaults import MARGIN, MAX_LENGTH, PILOT_BUDGET, PILOT_EVAL_ROWS
from semfreeze_core.records.pilots import Aim

if TYPE_CHECKING:
    from semfreeze_core.progress import Progress
    from semfreeze_core.records.pilots import Measurement
    from semfreeze_core.records.run import Run
    from semfreeze_core.records.training import TrainingSetup


@dataclass(frozen=True)
class PilotFlags:
    """The pilots as given, unchecked."""

    train: Annotated[
        str | None,
        typer.Option(
            help="Training examples of the pilots: a file, hf:owner/name#split, or sample:NAME.", metavar="DATA"
        ),
    ] = None
    evaluation: Annotated[
        str | None, typer.Option("--eval", help="Eval examples of the pilots, same formats.", metavar="DATA")
    ] = None
    aim: Annotated[
        str | None,
        typer.Option(
            help="compute: best loss at the same compute (default); steps: at the same steps; cheapest: the deepest "
            f"that keeps {1 - MARGIN:.0%} of full finetuning's loss reduction."
        ),
    ] = None
    pilot_budget: Annotated[
        float | None,
        typer.Option(help=f"Share of one full finetune's compute that pilots may take (default: {PILOT_BUDGET:g})."),
    ] = None
    depths: Annotated[
        str | None,
        typer.Option(help="Depths to try, comma-separated (default: the rules', two thirds, half, the maximum)."),
    ] = None
    eval_examples: Annotated[
        int | None,
        typer.Option(
            help="Eval examples of the pilots (default: "
            f"{PILOT_EVAL_ROWS[0]} to {PILOT_EVAL_ROWS[1]}, a quarter of their compute)."
        ),
    ] = None
    pilots_in: Annotated[
        Path | None, typer.Option(help="Output folder for the pilots. Rerun the same command to resume.")
    ] = None
    pilot_model: Annotated[
        str | None, typer.Option("--model", help="Where the model is now (default: where it was analyzed).")
    ] = None
    runner: RunnerOption = None
    device: DeviceOption = "auto"
    trust_remote_code: TrustOption = False
    allow_pickle: PickleOption = False

    @property
    def given(self) -> list[str]:
        """The options that were given, by name."""
        names = {"evaluation": "eval", "pilot_model": "model"}
        return [
            f"--{names.get(f.name, f.name).replace('_', '-')}"
            for f in fields(self)
            if getattr(self, f.name) != f.default
        ]


def run_pilots(
    named: str, reading: "Run", setup: "TrainingSetup", metric: str, flags: PilotFlags, progress: "Progress"
) -> "Measurement":
    """Let short finetunes of the run's model decide.

    Raises:
        InputError: flags that are missing or wrong, or as `measure`.
    """
    from semfreeze_core.cli.options.plan_and_data import default_folder, plan_and_data
    from semfreeze_core.finetune.arm.job import ModelSource
    from semfreeze_core.finetune.validation.pilot_schedule import candidate_depths
    from semfreeze_core.finetune.validation.pilots import MeasureRequest, measure
    from semfreeze_core.plan.candidate_depths import parse_depths, proposal
    from semfreeze_core.plan.opinions import gather_opinions
    from semfreeze_core.records.fields import FieldMapping
    from semfreeze_core.records.usual_depths import half_depth
    from semfreeze_core.runs.folder import PILOTS
    from semfreeze_core.storage import user_path

    aim = flags.aim or "compute"
    if flags.train is None or flags.evaluation is None:
        raise PlanError("--rule measured runs short finetunes of your model: give --train and --eval.")
    if aim not in get_args(Aim):
        raise PlanError(f"--aim {aim}: expected {', '.join(get_args(Aim))}.")
    n_layers = reading.shape.n_layers
    made = plan_and_data(named, FieldMapping(), "manual", half_depth(n_layers))
    rules = gather_opinions(reading, metric=metric, setup=setup).rules
    proposed, proposed_by = proposal(n_layers, rules["coverage"].freeze_depth, aim)  # type: ignore[arg-type]
    if flags.depths is None:
        rule_depths = [proposed, *(rules[name].candidate_depth for name in ("coverage", "compute"))]
        depths = candidate_depths(n_layers, rule_depths, aim)  # type: ignore[arg-type]
    else:
        depths = parse_depths(flags.depths, n_layers)
    analyzed = made.plan.model
    folder = default_folder(named, made.run_folder, flags.train, PILOTS) if flags.pilots_in is None else flags.pilots_in
    request = MeasureRequest(
        plan=made.plan,
        setup=setup,
        train=flags.train,
        evaluation=flags.evaluation,
        depths=depths,
        proposed=proposed if proposed in depths else None,
        proposed_by=proposed_by if proposed in depths else None,
        mapping=made.mapping,
        max_length=made.longest or MAX_LENGTH,
        add_eos=made.add_eos,
        aim=aim,  # type: ignore[arg-type]
        budget=PILOT_BUDGET if flags.pilot_budget is None else flags.pilot_budget,
        n_eval=flags.eval_examples,
        model=ModelSource(
            source=flags.pilot_model or analyzed.source,
            revision=analyzed.revision,
            device=flags.device,
            trust_remote_code=flags.trust_remote_code,
            allow_pickle=flags.allow_pickle,
        ),
        runner=flags.runner,
    )
    return measure(request, user_path(str(folder)), progress=progress)


def refuse_pilot_flags(flags: PilotFlags, rule: str | None) -> None:
    """Refuse flags of pilots where no pilot runs.

    Raises:
        PlanError: with all of them.
    """
    if flags.given and rule != "measured":
        raise PlanError(f"{', '.join(flags.given)}: these belong to --rule measured.")
