"""Seeded choices built on `random.random()` alone, the one method Python promises to keep stable."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """All the randomness of one file: the same seed gives the same choices on every Python."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def number(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self._random.random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def pick(self, options: Sequence[T]) -> T:
        return options[self.number(0, len(options) - 1)]

    def pick_two(self, options: Sequence[T]) -> tuple[T, T]:
        """Two different options, in random order."""
        first = self.number(0, len(options) - 1)
        second = self.number(0, len(options) - 2)
        return options[first], options[second + (second >= first)]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        result = list(options)
        for last in range(len(result) - 1, 0, -1):
            other = self.number(0, last)
            result[last], result[other] = result[other], result[last]
        return result

    def rounds(self, options: Sequence[T], total: int) -> list[T]:
        """`total` options, each used as often as every other (give or take one)."""
        result: list[T] = []
        while len(result) < total:
            result.extend(self.shuffled(options))
        return result[:total]
