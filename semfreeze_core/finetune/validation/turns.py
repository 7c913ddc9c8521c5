"""Several trainings of a comparison at once: which may begin, and what happens when one ends."""

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

_T = TypeVar("_T")
_SECONDS_BETWEEN_LOOKS = 10.0  # at how many may run at once, which grows with a cluster


def take_turns(
    tasks: Sequence[_T],
    work: Callable[[_T], None],
    after: Callable[[], object],
    *,
    at_once: Callable[[], int],
    first_of: Callable[[_T], Hashable | None],
    cancel: Callable[[], None],
) -> None:
    """Work on tasks in their order, as many at once as may be.

    Args:
        tasks: what is to be done.
        work: does one; called in this thread where one runs at a time, else in threads.
        after: called in this thread after each one.
        at_once: how many may run at once now.
        first_of: tasks with the same answer wait for the first of them, whose result they use; None waits for none.
        cancel: ends all that run; called when one of them, or `after`, raises an error.
    """
    waiting, running, settled = list(tasks), dict[Future[None], _T](), set[Hashable]()
    with ThreadPoolExecutor(max_workers=max(1, len(tasks))) as pool:
        try:
            while waiting or running:
                if not running and at_once() <= 1:
                    work(task := waiting.pop(0))
                    settled.add(first_of(task))
                    after()
                    continue
                for task in _ready(waiting, list(running.values()), settled, at_once() - len(running), first_of):
                    waiting.remove(task)
                    running[pool.submit(work, task)] = task
                ended, _ = wait(running, timeout=_SECONDS_BETWEEN_LOOKS, return_when=FIRST_COMPLETED)
                for future in ended:
                    settled.add(first_of(running.pop(future)))
                    future.result()
                    after()
        except BaseException:
            cancel()
            raise


def _ready(
    waiting: Sequence[_T],
    running: Sequence[_T],
    settled: set[Hashable],
    room: int,
    first_of: Callable[[_T], Hashable | None],
) -> list[_T]:
    """Which of those that wait begin now."""
    begun = {first_of(task) for task in running}
    ready: list[_T] = []
    for task in waiting:
        if len(ready) >= room:
            break
        first = first_of(task)
        if first is not None and first in begun and first not in settled:
            continue
        begun.add(first)
        ready.append(task)
    return ready
