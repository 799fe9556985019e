"""Both protocols with nothing behind them: what the libraries cost that `zoo.serving` is made of.

    python -m zoo.benchmark_nothing 8081 8082

The first port answers HTTP by Starlette and uvicorn, the second gRPC by grpcio. Every request gets
the same bytes at once, read by no one.
"""

import asyncio
import sys
from typing import Any

import grpc
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_ANSWER = b'{"predictions":[{"label":"positive","probabilities":[0.25,0.75]}]}'
SERVICE, METHOD = "zoo.Nothing", "Predict"


async def serve(http_port: int, grpc_port: int) -> None:
    """Answers until the process ends."""

    async def predict(request: Request) -> Response:
        await request.body()
        return Response(_ANSWER, media_type="application/json")

    async def call(message: bytes, context: Any) -> bytes:
        return _ANSWER

    server = grpc.aio.server()
    methods = {METHOD: grpc.unary_unary_rpc_method_handler(call)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    await server.start()
    service = Starlette(routes=[Route("/predict", predict, methods=["POST"])])
    config = uvicorn.Config(service, port=http_port, log_level="error", access_log=False)
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    factory = uvicorn.Config(Starlette()).get_loop_factory()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(int(sys.argv[1]), int(sys.argv[2])))
