"""The peer of `zoo.benchmark_serving`: a web service around a SavedModel, as most are written.

    python -m zoo.benchmark_plain saved_models/first/1 8080

One endpoint, one call of the model a request, in a thread of the web framework's pool.
"""

import sys
from pathlib import Path

import tensorflow as tf
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


def application(folder: Path) -> Starlette:
    """A service that answers `{"instances": [text, ...]}` at `/predict`.

    Args:
        folder: a version of a SavedModel that takes texts.
    """
    module = tf.saved_model.load(str(folder))
    serve = module.signatures["serving_default"]

    def answer(texts: list[str]) -> list[dict[str, object]]:
        found = serve(text=tf.constant(texts))
        labels = found["label"].numpy().tolist()
        rows = zip(labels, found["probabilities"].numpy().tolist(), strict=True)
        return [{"label": label.decode(), "probabilities": row} for label, row in rows]

    async def predict(request: Request) -> JSONResponse:
        texts = (await request.json())["instances"]
        return JSONResponse({"predictions": await run_in_threadpool(answer, texts)})

    service = Starlette(routes=[Route("/predict", predict, methods=["POST"])])
    service.state.model = module  # its variables live as long as it does
    return service


if __name__ == "__main__":
    uvicorn.run(application(Path(sys.argv[1])), port=int(sys.argv[2]), log_level="error")
