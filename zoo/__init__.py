"""Two ways to carry long-range dependencies, gates and attention, as interchangeable Keras parts.

`zoo.layers` holds the building blocks, `zoo.models` the classifiers made of them; data, training
and export are `zoo.pipeline`, `zoo.training` and `zoo.export`.

Shapes are written `dtype[dimensions]` throughout, with one glossary:

    B  batch            T  query steps, or steps of a sequence   S  key and value steps
    D  input features   U  units of an LSTM                      C  classes
    H  heads            K  size of a head's query and key        V  size of a head's value
"""

__version__ = "0.1.0"
