"""A measurement made by hand: pilots of depths 2 and 3, of which 3 won."""

from semfreeze_core.records.interval import IntervalEntry
from semfreeze_core.records.pilots import Measurement, Pilot, PilotRound
from semfreeze_core.records.provenance import provenance_now

INTERVAL = IntervalEntry(estimate=1.0, low=0.5, high=1.5)
MEASURED = Measurement(
    aim="compute",
    proposed=None,
    proposed_by=None,
    margin=0.05,
    train="t.jsonl",
    eval="e.jsonl",
    n_train=80,
    n_eval=16,
    steps=90,
    batch_size=8,
    n_layers=4,
    loss_before=3.0,
    improvement=INTERVAL,
    full_flop=1000,
    budget_flop=150,
    promised_flop=140,
    spent_flop=120,
    rounds=[
        PilotRound(
            share=0.1,
            pilots=[
                Pilot(freeze_depth=depth, steps=9, loss=2.0, ahead=INTERVAL, flop=50, seconds=1.0, reason="")
                for depth in (2, 3)
            ],
            kept=[3],
        )
    ],
    freeze_depth=3,
    candidate_depth=3,
    reasons=["3 won."],
    provenance=provenance_now(0),
)
