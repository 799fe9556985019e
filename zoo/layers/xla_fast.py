"""Whether XLA will compile a graph of TensorFlow's: it knows other ways to be fast."""


def inside_xla() -> bool:
    """Whether the graph that is being made is XLA's to compile.

    Example:
        >>> import tensorflow as tf
        >>> inside_xla(), tf.function(inside_xla, jit_compile=True)().numpy()
        (False, np.True_)
    """
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util

    # There is no public way to ask what will compile the graph.
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
