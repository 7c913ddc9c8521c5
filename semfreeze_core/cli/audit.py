"""`semfreeze audit`: what a training script really trains, and whether it saves what freezing could."""

from pathlib import Path
from typing import Annotated

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options.common import JsonOption
from semfreeze_core.cli.options.finetune import require
from semfreeze_core.wording.escaping import terminal_text


@app.command()
def audit(
    script: Annotated[Path, typer.Option(help="Python file that trains with transformers' Trainer, or TRL's.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- ARGUMENTS]", help="The script's own command line.")
    ] = None,
    plan: Annotated[Path | None, typer.Option(help="A plan.json that the script should follow.")] = None,
    after_steps: Annotated[int, typer.Option(help="Optimizer steps before the audit.")] = 2,
    as_json: JsonOption = False,
) -> None:
    """Run a training script for a few steps; report what trains, where the gradient ends, and the saving."""
    from semfreeze_core.cli.printing.console import print_json
    from semfreeze_core.finetune.audit.script import audit_script
    from semfreeze_core.runs.plans import read_plan
    from semfreeze_core.storage import user_path

    require([f"--after-steps must be at least 1, found {after_steps}"] if after_steps < 1 else [])
    document = None if plan is None else read_plan(user_path(str(plan)))
    report = audit_script(user_path(str(script)), arguments or (), document, after_steps=after_steps)
    if as_json:
        print_json(report.to_dict())
    else:
        typer.echo(terminal_text(str(report)))
