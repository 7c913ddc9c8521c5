"""A sweep lists its depths in order, and the rules with the least regret first."""

from semfreeze_core.wording import sweep as wording


def test_sweep_table_is_ordered_by_depth_and_regret_by_regret(sweep):
    depths = [int(row["frozen layers"]) for row in wording.sweep_table(sweep).dicts()]
    assert depths == sorted(depths)
    methods = {row["method"]: row for row in wording.regret_table(sweep).dicts()}
    assert set(methods) == {name.replace("_", " ") for name in sweep.rules}
    regrets = [sweep.rules[name.replace(" ", "_")].regret["compute"] for name in methods]
    known = [regret for regret in regrets if regret is not None]
    assert known == sorted(known)
    assert regrets[: len(known)] == known
