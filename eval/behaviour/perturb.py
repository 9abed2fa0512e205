"""Small perturbations of a question, as people make them. Pure: the same seed perturbs the same text alike."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable

from configs.run.behaviour import Perturbation
from eval.metrics.rows import Row

SPACES = re.compile(r"(\s+)")
# Keys that touch on a QWERTY keyboard.
NEIGHBOURS = {
    "q": "wa", "w": "qeas", "e": "wsdr", "r": "edft", "t": "rfgy",
    "y": "tghu", "u": "yhji", "i": "ujko", "o": "iklp", "p": "ol",
    "a": "qwsz", "s": "weadzx", "d": "ersfxc", "f": "rtdgcv", "g": "tyfhvb",
    "h": "yugjbn", "j": "uihknm", "k": "iojlm", "l": "opk",
    "z": "asx", "x": "sdzc", "c": "dfxv", "v": "fgcb", "b": "ghvn", "n": "hjbm", "m": "jkn",
}  # fmt: skip


def perturb(kind: Perturbation, text: str, rate: float, seed: str) -> str:
    """`rate`: share of the words touched, one at least where it is above 0; 0 leaves the text as it is. A text that
    shows something still does."""
    parts = SPACES.split(text)  # words at even places, the spaces between them at odd ones
    if rate == 0 or not text.strip():
        return text
    if kind == "truncation":
        return truncate(parts, rate)
    generator = random.Random(f"{seed}/{kind}")  # seeded by text: the same on every machine
    change = {"typos": mistype, "case": recase, "whitespace": respace, "punctuation": repunctuate}[kind]
    places = [place for place in range(len(parts)) if parts[place] and changeable(kind, parts, place)]
    for place in touched(places, rate, generator):
        parts[place] = change(parts[place], generator)
    return "".join(parts)


def touched(places: list[int], rate: float, generator: random.Random) -> list[int]:
    return sorted(generator.sample(places, min(len(places), max(1, round(rate * len(places)))))) if rate else []


def changeable(kind: Perturbation, parts: list[str], place: int) -> bool:
    """Inner spaces for whitespace, else words: with letters for typos and case, with something beside punctuation for
    punctuation."""
    if kind == "whitespace":
        return place % 2 == 1 and bool(parts[place - 1]) and bool(parts[place + 1])
    word = parts[place]
    if place % 2:
        return False
    return bool(word.strip(string.punctuation)) if kind == "punctuation" else any(letter.isalpha() for letter in word)


def truncate(parts: list[str], rate: float) -> str:
    words = [place for place in range(0, len(parts), 2) if parts[place]]
    kept = max(1, min(len(words) - 1, len(words) - round(rate * len(words))))
    return "".join(parts[: words[kept - 1] + 1])


def mistype(word: str, generator: random.Random) -> str:
    """A neighbouring key, a letter twice, two letters changed round, or one left out where others remain."""
    place = generator.choice([index for index, letter in enumerate(word) if letter.isalpha()])
    letter = word[place]
    near = generator.choice(NEIGHBOURS.get(letter.lower(), letter))
    made = [
        word[:place] + (near.upper() if letter.isupper() else near) + word[place + 1 :],
        word[:place] + letter + word[place:],
    ]
    made.append(word[:place] + word[place + 1 : place + 2] + letter + word[place + 2 :])
    if len(word) > 2:
        made.append(word[:place] + word[place + 1 :])
    return generator.choice([one for one in made if one != word])


def recase(word: str, generator: random.Random) -> str:
    """Upper, lower, or first letter large: one that it was not; a script without case stays as it is."""
    made = [one for one in (word.upper(), word.lower(), word.capitalize()) if one != word]
    return generator.choice(made) if made else word


def respace(space: str, generator: random.Random) -> str:
    return generator.choice([one for one in ("", "  ", "\t", "\n") if one != space])


def repunctuate(word: str, generator: random.Random) -> str:
    """Without the marks at its end, or with one it did not have."""
    bare = word.rstrip(string.punctuation)
    return bare if bare and bare != word else word + generator.choice(",.!?;")


def change_question(row: Row, change: Callable[[str], str]) -> Row:
    """The row with its question changed: a text, both of a pair, a prompt, each word of a tagger, or the last user turn
    of a chat. Other turns stay as they are."""
    if "tokens" in row:
        return row | {"tokens": [change(str(word)) for word in row["tokens"]]}
    if "messages" not in row:
        names = [name for name in ("text", "text_pair") if row.get(name) is not None] or ["prompt"]
        return row | {name: change(row[name]) for name in names}
    turns = [dict(turn) for turn in row["messages"]]
    last = max((index for index, turn in enumerate(turns) if turn["role"] == "user"), default=None)
    if last is not None:
        turns[last]["content"] = change(turns[last]["content"])
    return row | {"messages": turns}


def last_question(row: Row) -> str:
    """What `change_question` changes, as one text."""
    found: list[str] = []

    def look(text: str) -> str:
        found.append(text)
        return text

    change_question(row, look)
    return " ".join(found)


def perturb_row(row: Row, kind: Perturbation, rate: float, seed: int) -> Row:
    """Of a tagger single words are perturbed, and stay as many: only typos and case."""
    identity = f"{seed}/{row['id']}"
    if "tokens" not in row:
        return change_question(row, lambda text: perturb(kind, text, rate, identity))
    words = [str(word) for word in row["tokens"]]
    places = [place for place, word in enumerate(words) if any(letter.isalpha() for letter in word)]
    for place in touched(places, rate, random.Random(f"{identity}/{kind}")):
        words[place] = perturb(kind, words[place], 1.0, f"{identity}/{place}")
    return row | {"tokens": words}
