"""From command-line flags to a training setup."""

from semfreeze_core.errors import PlanError
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.run import Run
from semfreeze_core.records.training import TrainingSetup

_LARGEST = 10**12  # larger numbers are slips of the keyboard, and their products overflow floating point


def setup_from_flags(
    shape: ModelShape,
    run: Run | None,
    *,
    batch_size: int,
    sequence_length: int | None,
    supervised_fraction: float | None,
    train_examples: int | None,
    epochs: int | None,
    steps: int | None,
    optimizer: str,
    precision: str,
    loss: str,
    prefix_cache: bool,
) -> TrainingSetup:
    """The setup these flags mean; a run fills in its supervised share and its number of examples.

    Left unset, an example has 512 tokens, or as many as the model takes.

    Raises:
        PlanError: all problems in one message.
    """
    problems = []
    limit = shape.max_positions
    if sequence_length is None:
        sequence_length = min(512, limit or 512)
    for flag, value, allowed in (
        ("optimizer", optimizer, ("adamw",)),
        ("precision", precision, ("float32", "bf16")),
        ("loss", loss, ("materialised", "supervised-only")),
    ):
        if value not in allowed:
            problems.append(f"--{flag} {value}: expected {' or '.join(allowed)}")
    if epochs is not None and steps is not None:
        problems.append("--epochs and --steps say the same thing twice: give one")
    numbers = (
        ("batch-size", batch_size),
        ("sequence-length", sequence_length),
        ("epochs", epochs),
        ("steps", steps),
        ("train-examples", train_examples),
    )
    for flag, number in numbers:
        if number is not None and not 1 <= number <= _LARGEST:
            problems.append(f"--{flag} must be in 1..{_LARGEST}, found {number}")
    if supervised_fraction is not None and not 0 < supervised_fraction <= 1:
        problems.append(f"--supervised-fraction must be in (0, 1], found {supervised_fraction:g}")
    if limit is not None and limit < sequence_length <= _LARGEST:
        problems.append(f"--sequence-length {sequence_length} is over the model's limit of {limit}")
    if problems:
        raise PlanError("; ".join(problems) + ".")
    data = run.manifest.data if run else None
    examples = train_examples or (data.n_usable if data else 1000)
    if supervised_fraction is None:
        supervised_fraction = data.n_supervised_tokens / data.n_tokens if data else 1.0
    steps_per_epoch = -(-examples // batch_size)
    return TrainingSetup(
        batch_size=batch_size,
        sequence_length=sequence_length,
        supervised_fraction=supervised_fraction,
        train_examples=examples,
        steps=steps if steps is not None else (epochs or 3) * steps_per_epoch,
        precision=precision,  # type: ignore[arg-type]  # checked above
        loss=loss,  # type: ignore[arg-type]
        prefix_cache=prefix_cache,
    )
