"""What the models' own library computes, and how the table of it beside this file was made.

    pip install transformers torch
    python -m tests.bert_reference

made with transformers 5.24.0 and torch 2.13.0. The tests read the table, and need neither.
"""

from pathlib import Path

import numpy as np

from tests.minilm import FOLDER, varied_sentences

TABLE = Path(__file__).with_name("bert_reference.npz")
VARIED = varied_sentences(100, seed=1, longest=12)
# Neighbours mean nearly the same.
PAIRED = [
    "A boring film that goes on for hours.",
    "The movie is dull and much too long.",
    "The music was wonderful.",
    "I loved the soundtrack.",
    "She is a doctor in a small hospital.",
    "The physician works at a little clinic.",
    "The train to Paris leaves at noon.",
    "At twelve there is a train to Paris.",
    "My cat sleeps all day long.",
    "The kitten is always napping.",
]
LAYERS, WIDTH, VALUES = 7, 384, 32


def places(tokens: int, sentence: int) -> tuple[np.ndarray, ...]:
    """Which values of a sentence's hidden states stand in the table: layer, token, feature."""
    rng = np.random.default_rng(sentence)
    layers = np.repeat(np.arange(LAYERS), VALUES)
    sizes = (tokens, WIDTH)
    return layers, *(rng.integers(0, size, LAYERS * VALUES) for size in sizes)


def embeddings(hidden: list[np.ndarray]) -> np.ndarray:
    """Sentences' mean states at length 1, `float32[N, D]`."""
    means = np.stack([states.mean(axis=0) for states in hidden])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def main() -> None:
    """Writes the table."""
    import torch
    from tokenizers import Tokenizer
    from transformers import BertModel

    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(512)
    model = BertModel.from_pretrained(FOLDER, attn_implementation="eager").eval()

    def states(text: str) -> np.ndarray:
        with torch.no_grad():
            ids = torch.tensor([tokenizer.encode(text).ids])
            found = model(ids, output_hidden_states=True).hidden_states
        return np.stack([layer[0].numpy() for layer in found])  # float32[layers, T, D]

    varied = [states(text) for text in VARIED]
    values = [one[places(one.shape[1], n)] for n, one in enumerate(varied)]
    known = embeddings([states(text)[-1] for text in PAIRED])
    np.savez_compressed(TABLE, values=np.stack(values), similarities=known @ known.T)


if __name__ == "__main__":
    main()
