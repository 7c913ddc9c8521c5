"""Records as rows of words for tables on a page."""

from collections.abc import Mapping, Sequence

from semfreeze_core.cli.printing.compare import proof_words
from semfreeze_core.cost.hardware import GPUS, Gpu, least_fitting_depth
from semfreeze_core.plan.slices import Slice
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.records.pilots import Measurement
from semfreeze_core.records.sweep import SweepReport
from semfreeze_core.records.validation import ValidationReport
from semfreeze_core.runs.store import RunEntry
from semfreeze_core.wording.numbers import flop, gib, interval, percent

from ..data.run_folder import ShelfEntry


def card_rows(named: Mapping[str, DepthCost], depths: Sequence[DepthCost]) -> list[dict[str, str]]:
    """A line a card: its memory, the least freeze depth that fits, and the headroom of each alternative."""
    return [
        {"card": gpu.name, "memory": gib(gpu.memory_bytes), "fits from depth": _least(depths, gpu)}
        | {name: _headroom(cost, gpu) for name, cost in named.items()}
        for gpu in GPUS
    ]


def _least(depths: Sequence[DepthCost], gpu: Gpu) -> str:
    depth = least_fitting_depth(depths, gpu)
    return "none" if depth is None else str(depth)


def _headroom(cost: DepthCost, gpu: Gpu) -> str:
    if cost.bytes.total is None:
        return "unknown"
    left = gpu.memory_bytes - cost.bytes.total
    return f"fits, {gib(left)} left" if left >= 0 else f"{gib(-left)} too much"


def slice_rows(slices: Sequence[Slice], depth: int) -> list[dict[str, object]]:
    """A line a group of examples: what the coverage rule's formula says of it alone."""
    return [
        {
            "group": s.name,
            "examples": s.curve.n_examples,
            "formula's depth": s.decision.candidate_depth,
            "over replicates": f"{s.pick[0]} to {s.pick[1]}",
            f"R({depth})": interval(s.coverage_at(depth), 2),
            "does this depth fit": "freezes more than the rule would" if s.contradicts(depth) else "yes",
        }
        for s in slices
    ]


def run_rows(entries: Sequence[ShelfEntry]) -> list[dict[str, object]]:
    """A line a run; one that cannot be read says why."""
    rows: list[dict[str, object]] = []
    broken = any(entry.problem for entry in entries)
    for entry in entries:
        m = entry.manifest
        row: dict[str, object] = {
            "run": entry.name,
            "model": m.model.identity.source if m else "",
            "layers": m.model.shape.n_layers if m else None,
            "data": m.data.source if m else "",
            "examples": m.data.n_examples if m else None,
            "read": m.provenance.created[:16].replace("T", " ") if m else "",
        }
        rows.append(row | ({"problem": entry.problem} if broken else {}))
    return rows


def kept_rows(
    entries: Sequence[RunEntry], proofs: Mapping[str, Mapping[str, ValidationReport]]
) -> list[dict[str, object]]:
    """A line a run of the folder: what was read, what finetunes showed, how large it is, and its note."""
    rows: list[dict[str, object]] = []
    for entry in entries:
        m = entry.manifest
        rows.append(
            {
                "run": entry.name,
                "note": entry.note if m else f"unreadable: {entry.problem}",
                "model": _last(m.model.identity.source) if m else "",
                "data": _last(m.data.source) if m else "",
                "examples": m.data.n_examples if m else None,
                "validated": "; ".join(map(proof_words, proofs.get(entry.name, {}).values())),
                "layers": m.model.shape.n_layers if m else None,
                "MiB": round(entry.bytes / 2**20, 1),
                "read": m.provenance.created[:16].replace("T", " ") if m else "",
            }
        )
    return rows


def _last(source: str) -> str:
    """The end of a path, which tells more in a narrow column than its beginning; hub ids as they are."""
    return source.rsplit("/", 1)[-1] if source.startswith(("/", "~", ".")) else source


def regret_rows(report: SweepReport) -> list[dict[str, str]]:
    """A line a rule or score, the best at equal compute first; the reason where there is no regret."""

    def share(value: float | None, ends: tuple[float, float] | None) -> str:
        if value is None:
            return ""
        return f"{100 * value:.1f} %" + ("" if ends is None else f" [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]")

    def cost(name: str) -> float:
        found = report.rules[name].regret["compute"]
        return float("inf") if found is None else found

    rows = []
    for name in sorted(report.rules, key=cost):
        rule = report.rules[name]
        pick = "none" if rule.freeze_depth is None else str(rule.freeze_depth)
        rows.append(
            {
                "rule or score": name.replace("_", " "),
                "freezes": pick + (" (abstains)" if rule.recommendation == "abstain" else ""),
                "regret, equal compute": share(rule.regret["compute"], rule.regret_interval["compute"]) or rule.reason,
                "less half's": share(rule.beyond_half["compute"], rule.beyond_half_interval["compute"]),
                "regret, equal steps": share(rule.regret["steps"], rule.regret_interval["steps"]) or rule.reason,
            }
        )
    return rows


def pilot_rows(measured: Measurement) -> list[dict[str, object]]:
    """A line a pilot, round by round."""
    rows: list[dict[str, object]] = []
    for number, one in enumerate(measured.rounds, 1):
        for pilot in one.pilots:
            ahead = pilot.ahead
            known = ahead.estimate is not None and ahead.low is not None and ahead.high is not None
            told = f"{ahead.estimate:.3f} [{ahead.low:.3f}, {ahead.high:.3f}]" if known else pilot.reason
            rows.append(
                {
                    "round": number,
                    "freezes": pilot.freeze_depth,
                    "steps": pilot.steps,
                    "eval loss": None if pilot.loss is None else round(pilot.loss, 3),
                    "below the shallowest's": told,
                    "FLOP": flop(pilot.flop),
                    "stays": "yes" if pilot.freeze_depth in one.kept else "",
                }
            )
    return rows


def answer_rows(report: ValidationReport) -> list[dict[str, str]]:
    """A line an eval item that was answered: before, and by the first seed of every arm at its last mark.

    Items whose answer became right or wrong stand first, then those whose words changed.
    """
    said: dict[str, list[str]] = {}
    for run in report.runs:
        found = [point.answers for point in run.points if point.answers]
        if found and run.arm not in said:
            said[run.arm] = found[-1]
    ordered = []
    for i, item in enumerate(report.baseline.shown):
        answers = {arm: given[i] for arm, given in said.items() if i < len(given)}
        right = [answer.strip() == item.reference.strip() for answer in (item.answer, *answers.values())]
        changed = any(answer != item.answer for answer in answers.values())
        row = {"prompt": item.prompt, "reference": item.reference, "before": item.answer} | answers
        ordered.append((len(set(right)) == 1, not changed, i, row))
    return [row for *_, row in sorted(ordered, key=lambda found: found[:3])]


def arm_rows(report: ValidationReport) -> list[dict[str, str]]:
    """A line an arm: its cost as predicted and as measured, and what it gave."""
    return [
        {
            "arm": name,
            "frozen": str(arm.freeze_depth),
            "step": f"{arm.median_step_seconds:.2f} s",
            "cache": f"{arm.cache_seconds:.1f} s",
            "FLOP predicted": flop(arm.flop.predicted),
            "FLOP counted": flop(arm.flop.counted),
            "memory predicted": gib(arm.peak_bytes.predicted),
            "memory measured": gib(arm.peak_bytes.measured),
            "accuracy before": percent(arm.eval_accuracy_before),
            "accuracy, equal steps": percent(arm.eval_accuracy_after),
            "accuracy, equal compute": percent(arm.eval_accuracy_after_compute),
        }
        for name, arm in report.arms.items()
    ]
