"""A text to the ids that the model beside this file takes: Python alone, no package.

The rule, which `tokenizer.json` has the tables of:

1. Bytes that are no UTF-8 become U+FFFD, and U+0000 a space. A to Z become a to z; then each
   character becomes what `folding` says, itself if it is not there. An HTML line break becomes a
   space, each run of the characters in `space` one space, and none is left at either end.
2. `word`: an apostrophe between two characters of `word` stays where it is. Every other character
   that is not of `word`, and every one of `unspaced`, is a token of its own; what is left is cut at
   spaces. `character`: each character, a space being written U+2423. `bigram`: each of those with
   the one behind it, the last one alone. `byte`: each byte of the UTF-8.
3. Of more than `max_length` tokens, the first half and the last half of so many are kept, the
   first being one longer if it is odd.
4. A token's id is its line in `vocabulary.txt`, from 2 on; 1 if it is not there, and for a text of
   no tokens; of a byte, 2 more than the byte. 0 is padding.

`word`, `unspaced` and `space` list ranges of code points, both ends being part of them.
"""

import bisect
import json
import os
import re
import string
from collections.abc import Sequence
from pathlib import Path

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_BREAK = re.compile(r"</?br([\t\n\f\r ][^<>]*)?/?>")


class Tokenizer:
    """Strings to ids, with the tables of one model.

    Args:
        folder: where `tokenizer.json` and `vocabulary.txt` are.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> rule = {"unit": "word", "max_length": 4, "folding": {"é": "e"}}
        >>> rule |= {"word": [[97, 122]], "unspaced": [], "space": [[32, 32]]}
        >>> _ = (folder / "tokenizer.json").write_text(json.dumps(rule), "utf-8")
        >>> _ = (folder / "vocabulary.txt").write_text("don't\\ncafe\\n!\\n", "utf-8")
        >>> Tokenizer(folder)("Don't: café!")
        [2, 1, 3, 4]
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        rule = json.loads((Path(folder) / "tokenizer.json").read_text("utf-8"))
        words = (Path(folder) / "vocabulary.txt").read_text("utf-8").split("\n")[:-1]
        self.max_length: int = rule["max_length"]
        self._unit: str = rule["unit"]
        self._folding: dict[str, str] = rule["folding"]
        self._ids = {word: place for place, word in enumerate(words, start=2)}
        self._word, self._unspaced, self._space = (
            [bound for first, last in rule[name] for bound in (first, last + 1)]
            for name in ("word", "unspaced", "space")
        )

    def __call__(self, text: str | bytes) -> list[int]:
        """The ids of a text, 1 to `max_length` of them."""
        tokens = self.split(self.normalise(text))
        tail = self.max_length // 2
        if len(tokens) > self.max_length:
            tokens = [*tokens[: self.max_length - tail], *tokens[len(tokens) - tail :]]
        ids = [2 + one if isinstance(one, int) else self._ids.get(one, 1) for one in tokens]
        return ids or [1]

    def normalise(self, text: str | bytes) -> str:
        """The first step."""
        raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        text = raw.decode("utf-8", "replace").replace("\x00", " ").translate(_LOWER)
        text = "".join(self._folding.get(character, character) for character in text)
        text = _BREAK.sub(" ", text)
        spaced = (" " if _is_in(self._space, character) else character for character in text)
        return re.sub(" +", " ", "".join(spaced)).strip(" ")

    def split(self, text: str) -> Sequence[str] | Sequence[int]:
        """The second step; a byte is its number."""
        if self._unit == "byte":
            return list(text.encode("utf-8"))
        if self._unit == "word":
            return self._words(text)
        characters = text.replace(" ", "\u2423")
        if self._unit == "character":
            return list(characters)
        return [characters[place : place + 2] for place in range(len(characters))]

    def _words(self, text: str) -> list[str]:
        apart = []
        for place, character in enumerate(text):
            around = text[place - 1 : place] + text[place + 1 : place + 2]
            if character == "'" and len(around) == 2 and all(map(self._is_word, around)):
                apart.append(character)
            elif _is_in(self._unspaced, character) or not self._is_word(character):
                apart.append(f" {character} ")
            else:
                apart.append(character)
        return [token for token in "".join(apart).split(" ") if token]

    def _is_word(self, character: str) -> bool:
        return _is_in(self._word, character)


def _is_in(bounds: list[int], character: str) -> bool:
    """Whether a character lies in ranges, each given by its first and the one behind its last."""
    return bisect.bisect_right(bounds, ord(character)) % 2 == 1
