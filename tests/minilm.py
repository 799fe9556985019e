"""The pretrained model that an installed package carries, and sentences to try it on."""

import random

from zoo.pretrained import folder_of

FOLDER = folder_of("minilm")
_TEXT = (
    "the film music of and or not was is never always brilliant dull unwatchable don't O'Neill's "
    "antidisestablishmentarianism electroencephalographically re-enter $1,000.50 3.14 e-mail C++ "
    "@home #1 [CLS] [SEP] [MASK] [UNK] [SEP ##ing [unused7] U.S.A. http://a.b/c?d=e&f 1234567890 "
    "Café NAÏVE ÉCOLE São Straße œuvre Æsop İstanbul ﬁne e\u0301te\u0301 Łódź Ελληνικά ΟΔΟΣ "
    "Привет ЁЛКА Україна שלום مرحبا नमस्ते สวัสดี 한국어 조선 にほんご カタカナ 漢字 "
    "电影很好看 中文test 😀 👩\u200d👩\u200d👧 🇫🇷 ☕\ufe0f ♥ ½ ² ™ № ≠ ≤ → “quoted” ‘so’ — – … "
    "¿qué? ¡no! «guillemets» ‹x› tab\tbed new\nline \r\n nul\x00led bell\x07 soft\u00adhyphen "
    "zero\u200bwidth \ufeffmark nb\u00a0space wide\u3000space \u2028 \x1f \x7f \x85 \ue000 \ufffd"
)
WORDS = _TEXT.split(" ")


def varied_sentences(number: int, seed: int = 0, longest: int = 24) -> list[str]:
    """Sentences of many scripts, of odd characters, of words that no one knows, and of nothing."""
    rng = random.Random(seed)

    def word() -> str:
        kind = rng.random()
        if kind < 0.75:
            return rng.choice(WORDS)
        if kind < 0.9:
            return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(1, 15)))
        if kind < 0.95:
            return "".join(rng.choices("zßéñ字", k=rng.randint(97, 104)))
        return rng.choice("!?.,;:'\"()-_/\\|~^`<>=+*%&@#$") * rng.randint(1, 4)

    return [
        rng.choice(["", " ", " ", "  "]).join(word() for _ in range(rng.randint(0, longest)))
        for _ in range(number)
    ]
