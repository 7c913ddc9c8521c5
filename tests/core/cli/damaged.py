"""Files as accidents and malice leave them: one change to a good file, drawn from a seed."""

import copy
import json
import random

# What stands where something else was: other types, other sizes, what terminals, regular expressions and paths mind.
VALUES = (
    None, True, False, 0, -1, 1, 3, 10**6, 10**30, 1e308, -0.5, "", " ", "x", "\x1b]0;owned\x07\x1b[31m", "\u202egnp",
    "../../etc/passwd", "/dev/zero", "{{ 1 / 0 }}", "(a+)+$", "a" * 50_000, "日本", [], [None], [[]], {}, {"a": 1},
    [1, "two", {"three": 3}], float("nan"), float("inf"),
)  # fmt: skip


def damage(data: bytes, seed: int) -> bytes:
    """The file's bytes with one change: to a value in its JSON where it is JSON, else to its bytes."""
    draw = random.Random(seed)
    try:
        lines = [json.loads(line) for line in data.decode().splitlines()]
        whole = False
    except ValueError:
        try:
            lines, whole = [json.loads(data)], True
        except ValueError:
            return _damage_bytes(data, draw)
    if draw.random() < 0.2:
        return _damage_bytes(data, draw)
    row = draw.randrange(len(lines))
    lines[row] = _damage_value(copy.deepcopy(lines[row]), draw)
    text = [json.dumps(line) for line in lines]
    if draw.random() < 0.1 and text[row].startswith('{"'):
        text[row] = text[row][0] + text[row][1:-1] + "," + text[row][1:]  # every key twice
    return (text[0] if whole else "\n".join(text) + "\n").encode()


def _damage_value(value, draw):
    """One place in a value changed: another value, a key gone or renamed, an element gone or doubled."""
    path, here = [], value
    while isinstance(here, dict | list) and here and (not path or draw.random() < 0.8):
        key = draw.choice(list(here) if isinstance(here, dict) else range(len(here)))
        path.append((here, key))
        here = here[key]
    if not path:
        return draw.choice(VALUES)
    holder, key = path[-1]
    match draw.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[draw.choice(("x", "", str(key).upper(), f"{key}\x1b[2J"))] = holder.pop(key)
        case 1:
            holder.insert(key, copy.deepcopy(holder[key]))
        case _:
            holder[key] = copy.deepcopy(draw.choice(VALUES))
    return value


def _damage_bytes(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data) + 1)
    return draw.choice(
        (
            b"",
            data[:at],
            data[:at] + bytes(draw.randrange(256) for _ in range(8)) + data[at:],
            data[:at] + b"\x00" + data[at:],
            b"\xef\xbb\xbf" + data,
            data.decode("latin-1").encode("utf-16"),
            data + data,
            b"[" * 100_000 + data,
            data[:at] + b'{"a":' * 2_000 + data[at:],
            b"\xff" * 64,
        )
    )
