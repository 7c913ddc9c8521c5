"""`semfreeze umap`: lay the display sample of a run out by UMAP, for the dashboard to draw."""

from typing import TYPE_CHECKING, Annotated

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options.common import JsonOption, QuietOption, RunArgument
from semfreeze_core.wording.escaping import terminal_text

if TYPE_CHECKING:
    from semfreeze_core.records.display import DisplaySample
    from semfreeze_core.records.umap_projection import UmapProjection


@app.command()
def umap(
    run: RunArgument,
    seed: Annotated[int, typer.Option(help="Seed of the layout.")] = 0,
    neighbors: Annotated[
        int, typer.Option(help="Nearest neighbors per point, 2 to 200; more show larger patterns.")
    ] = 15,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compute a UMAP of a run's hidden states and target directions for the dashboard. Needs no model."""
    from semfreeze_core.cli.printing.console import print_json, progress_on_stderr
    from semfreeze_core.errors import RunError
    from semfreeze_core.records.manifest import PROJECTION
    from semfreeze_core.runs.folder import read_run
    from semfreeze_core.runs.store import find_run
    from semfreeze_core.runs.umaps import read_umap, umap_file, write_umap
    from semfreeze_core.semantics.umap_projection import project_umap, require_umap
    from semfreeze_core.wording.runs import parts_to_come_sentence

    folder = find_run(run)
    analysis = read_run(folder)
    if analysis.display is None:
        raise RunError(parts_to_come_sentence((PROJECTION,), analysis.manifest, folder))
    display = analysis.display
    require_umap(display, seed=seed, n_neighbors=neighbors)
    file = umap_file(analysis.manifest, seed=seed, n_neighbors=neighbors)
    try:
        saved = read_umap(file)
    except RunError as error:
        saved = None
        typer.echo(terminal_text(f"semfreeze: {error} It is being computed again."), err=True)
    if saved is None:
        with progress_on_stderr(quiet) as progress:
            projection = project_umap(display, seed=seed, n_neighbors=neighbors, progress=progress)
            write_umap(projection, file)
    else:
        projection = saved
    if as_json:
        print_json(
            {
                "run": str(folder),
                "file": str(file),
                "from_cache": saved is not None,
                "seed": projection.seed,
                "neighbors": projection.n_neighbors,
                "components": projection.n_components,
                "points": projection.n_points,
                "spaces": len(projection.coordinates),
                "positions": len(projection.positions),
                "shown_positions": len(display.example),
                "read_positions": display.n_positions_total,
                "bases": len(projection.basis_coordinates),
                "seconds": projection.seconds,
            }
        )
        return
    typer.echo(_summary(projection, display))
    verb = "Read from" if saved is not None else "Saved in"
    typer.echo(terminal_text(f"{verb} {file}") + "\nSee it with: semfreeze dashboard (Analyze, projection UMAP)")


def _summary(projection: "UmapProjection", display: "DisplaySample") -> str:
    """What was laid out, and how."""
    from semfreeze_core.wording.numbers import duration

    return (
        f"UMAP of {projection.n_points:,} points: {len(projection.positions):,} of {len(display.example):,} shown "
        f"positions at {len(projection.coordinates)} hidden states, and {len(projection.basis_coordinates):,} bases.\n"
        f"Seed {projection.seed}, {projection.n_neighbors} neighbors, first {projection.n_components} principal "
        f"components; it took {duration(projection.seconds)}."
    )
