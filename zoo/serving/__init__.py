"""SavedModels answered over TensorFlow Serving's two protocols; needs the extra `serve`.

It knows nothing of the rest of the zoo, and would serve any other SavedModel as well. Every call
goes `rest` or `grpc_services` (both on one event loop) -> `gathering` (with what came together) ->
`predict` -> `registry` (which version) -> `versions` and `batching` (what runs it).
"""
