"""Turns of several trainings at once: their order, what waits for what, and how all end when one fails."""

import threading

import pytest

from semfreeze_core.finetune.validation.turns import take_turns


class Work:
    """Tasks that run until they are released."""

    def __init__(self):
        self.begun, self.released, self.changed = [], set(), threading.Condition()

    def __call__(self, task):
        with self.changed:
            self.begun.append(task)
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: task in self.released, timeout=20)

    def release(self, task):
        with self.changed:
            self.released.add(task)
            self.changed.notify_all()

    def wait_until_begun(self, tasks):
        with self.changed:
            assert self.changed.wait_for(lambda: self.begun == tasks, timeout=20), self.begun


def test_one_at_a_time_runs_in_this_thread_and_in_order():
    threads, done, after = [], [], []

    def work(task):
        threads.append(threading.current_thread())
        done.append(task)

    take_turns(
        "abc", work, lambda: after.append(len(done)), at_once=lambda: 1, first_of=lambda _: None, cancel=pytest.fail
    )
    assert done == ["a", "b", "c"]
    assert after == [1, 2, 3]
    assert set(threads) == {threading.current_thread()}


def test_those_with_one_first_wait_for_it_and_others_overtake_them():
    work, ended = Work(), []
    turns = threading.Thread(
        target=take_turns,
        args=(["a0", "a1", "b0", "a2"], work, lambda: ended.append(len(work.begun))),
        kwargs={"at_once": lambda: 3, "first_of": lambda task: task[0], "cancel": pytest.fail},
    )
    turns.start()
    work.wait_until_begun(["a0", "b0"])
    work.release("a0")
    work.wait_until_begun(["a0", "b0", "a1", "a2"])
    for task in ("a1", "a2", "b0"):
        work.release(task)
    turns.join(20)
    assert not turns.is_alive()
    assert len(ended) == 4


def test_an_error_ends_the_others_and_begins_no_more():
    work, canceled = Work(), []

    def fail(task):
        if task == "bad":
            raise ValueError("bad")
        work(task)

    def cancel():
        canceled.append(True)
        work.release("long")

    with pytest.raises(ValueError, match="bad"):
        take_turns(
            ["long", "bad", "later"], fail, lambda: None, at_once=lambda: 2, first_of=lambda _: None, cancel=cancel
        )
    assert canceled == [True]
    assert work.begun == ["long"]
