"""The building blocks: gates, attention, and what stands around them.

Keras layers on `keras.ops`: they run on TensorFlow, JAX and PyTorch, alone or in models of your
own. `LSTM` and `MultiHeadAttention` take the place of Keras's, weights and all.
"""

from zoo.layers.attention import MultiHeadAttention
from zoo.layers.attention_cache import AttentionCache
from zoo.layers.dot_product import scaled_dot_product_attention
from zoo.layers.dropout import WordDropout
from zoo.layers.log_count_ratios import LogCountRatios
from zoo.layers.lstm import LSTM
from zoo.layers.lstm_cell import LSTMCell
from zoo.layers.lstm_equations import LSTMState, lstm_step
from zoo.layers.masking import LengthMask
from zoo.layers.min_lstm import MinLSTM, MinLSTMCell, log_space_candidate, min_lstm_gates
from zoo.layers.ngrams import HashedNgrams
from zoo.layers.own_gradient_fast import plain_loops
from zoo.layers.pooling import MaskedPooling
from zoo.layers.positions import LearnedPositions, SinusoidalPositions
from zoo.layers.standardization import Standardization
from zoo.layers.transformer import TransformerBlock

__all__ = [
    "LSTM",
    "AttentionCache",
    "HashedNgrams",
    "LSTMCell",
    "LSTMState",
    "LearnedPositions",
    "LengthMask",
    "LogCountRatios",
    "MaskedPooling",
    "MinLSTM",
    "MinLSTMCell",
    "MultiHeadAttention",
    "SinusoidalPositions",
    "Standardization",
    "TransformerBlock",
    "WordDropout",
    "log_space_candidate",
    "lstm_step",
    "min_lstm_gates",
    "plain_loops",
    "scaled_dot_product_attention",
]
