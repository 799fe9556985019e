"""How much text a model is to write, and how its words are chosen."""

from dataclasses import dataclass

from zoo.settings import Settings, setting

# A request for more would keep a server busy for minutes.
MOST_NEW_TOKENS = 4_096


@dataclass(frozen=True)
class GenerationConfig(Settings):
    """What is asked of a model that writes; each field is a flag of `trainers/generate.py`.

    Raises:
        UsageError: naming the field as a flag, its value, and what would work.

    Example:
        >>> GenerationConfig(top_p=0.0)
        Traceback (most recent call last):
        ...
        zoo.errors.UsageError: --top_p=0.0 cannot work: it must be at most 1 and above 0
    """

    max_new_tokens: int = setting(
        100, "text", "tokens to write", at_least=1, at_most=MOST_NEW_TOKENS
    )
    num_samples: int = setting(1, "text", "texts to write, one behind the other", at_least=1)
    temperature: float = setting(
        1.0,
        "choice",
        "below 1, likely words are made likelier, above, less so; 0 takes the likeliest alone",
        at_least=0,
        at_most=1e6,
    )
    top_k: int = setting(0, "choice", "likeliest words that may come; 0 for all", at_least=0)
    top_p: float = setting(
        1.0,
        "choice",
        "of all probability, what the words that may come make up",
        above=0,
        at_most=1,
    )
    seed: int = setting(0, "choice", "another one gives another text", at_least=0)
