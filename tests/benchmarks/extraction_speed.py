"""Speed of reading hidden states, as ratios in one run; works on a CPU and on a GPU.

    python tests/benchmarks/extraction_speed.py DATA [--model embedded] [--examples 256] [--rounds 5] [--device auto]

Every round times, one after the other and on the same batches:
    bare        the model without its head, plain forward passes: the ceiling
    hidden      the same with output_hidden_states=True, supervised positions gathered from what it returns
    reading     ours: semantic, logit_z and the label null of every space, block influence, and the states kept for
                display and for classes
and gives bare / reading and bare / hidden of the round; the medians over rounds are what to quote. The task null's
extra pass is timed apart. One JSON document on stdout.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.semantics.analysis import prepare_labels, read_traces
from semfreeze_core.semantics.display import choose_display
from semfreeze_core.semantics.extraction import CPU_BATCH_TOKENS, GPU_BATCH_TOKENS
from semfreeze_core.semantics.positions import Batch, choose_positions, length_buckets, make_batch
from semfreeze_core.semantics.scores import states_to_keep
from semfreeze_core.semantics.task_null import read_task_null
from semfreeze_core.sources.data.encode import encode_all
from semfreeze_core.sources.data.examples import read_examples
from semfreeze_core.sources.data.samples import resolve_data
from semfreeze_core.sources.models.causal_lm import load_causal_lm
from semfreeze_core.sources.models.decoder import Decoder


def seconds(work: Callable[[], object], device: torch.device) -> float:
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def compare(
    decoder: Decoder,
    examples: Sequence[TokenizedExample],
    *,
    real_rows: int,
    rounds: int,
    batch_tokens: int | None = None,
) -> dict[str, Any]:
    """The ratios on a model that is loaded, and what they were measured on.

    Args:
        decoder: the model.
        examples: to read.
        real_rows: rows of the head that have a token.
        rounds: of which ratios are the medians.
        batch_tokens: of a pass; None is what an analysis takes on the device.
    """
    device = decoder.device
    positions = choose_positions(examples, 64, 0)
    limit = batch_tokens or (GPU_BATCH_TOKENS if device.type == "cuda" else CPU_BATCH_TOKENS)
    pad = int(examples[0].input_ids[0])
    groups = length_buckets([len(e.input_ids) for e in examples], limit)
    batches = [make_batch(indices, examples, positions, pad) for indices in groups]
    labels = prepare_labels(decoder, examples, positions, real_rows=real_rows)

    @torch.inference_mode()
    def bare() -> None:
        for batch in batches:
            decoder.base(input_ids=torch.from_numpy(batch.input_ids).to(device), use_cache=False)

    def gathered(batch: Batch) -> list[torch.Tensor]:
        ids = torch.from_numpy(batch.input_ids).to(device)
        states = decoder.base(input_ids=ids, use_cache=False, output_hidden_states=True).hidden_states
        rows, columns = (torch.from_numpy(x).to(device) for x in (batch.rows, batch.columns))
        return [s[rows, columns] for s in states]

    @torch.inference_mode()
    def hidden() -> None:
        for batch in batches:
            gathered(batch)

    def reading() -> None:
        display = choose_display(decoder, positions, 1000, 0)
        states = states_to_keep(decoder, examples, 0)
        read_traces(decoder, examples, positions, labels, max_tokens=limit, kept_states=display, scores=states)

    def task_null() -> None:
        read_task_null(decoder, examples, labels, position_limit=64, seed=0, max_tokens=limit)

    for warm in (bare, hidden, reading):
        warm()
    timed = [{w.__name__: seconds(w, device) for w in (bare, hidden, reading)} for _ in range(rounds)]
    tokens = sum(len(e.input_ids) for e in examples)
    taken = statistics.median(r["reading"] for r in timed)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor(),
        "dtype": str(decoder.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "examples": len(examples),
        "tokens": tokens,
        "positions": sum(len(p) for p in positions),
        "batches": len(batches),
        "bare_over_reading": statistics.median(r["bare"] / r["reading"] for r in timed),
        "bare_over_hidden": statistics.median(r["bare"] / r["hidden"] for r in timed),
        "reading_tokens_per_second": tokens / taken,
        "task_null_over_reading": seconds(task_null, device) / taken,
        "rounds": timed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--batch-tokens", type=int)
    chosen = parser.parse_args()

    loaded = load_causal_lm(chosen.model, device=chosen.device, dtype=chosen.dtype)
    drawn = read_examples(resolve_data(chosen.data), mapping=FieldMapping(), n=chosen.examples, seed=0)
    examples = encode_all(loaded.tokenizer, drawn.examples, max_length=2048).tokenized
    measured = compare(
        loaded.decoder,
        examples,
        real_rows=loaded.vocabulary.real_rows,
        rounds=chosen.rounds,
        batch_tokens=chosen.batch_tokens,
    )
    print(json.dumps({"model": chosen.model, "data": chosen.data, **measured}, indent=1))


if __name__ == "__main__":
    main()
