"""The page on which anyone can try a model, its files served as they are.

It asks what any caller may ask, by the REST API: its explanations come from the SavedModel's own
signature `explain`. Nothing is fetched from elsewhere, and the browser is told to allow none of it.
"""

from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_INDEX = "index.html"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def routes() -> list[Route]:
    """A route for each file of the page; `/` is the page itself.

    They ask for no token: what they serve is in everyone's hands.

    Example:
        >>> sorted(route.path for route in routes())[:3]
        ['/', '/answer.js', '/api.js']
    """
    files = (resources.files("zoo.serving") / "static").iterdir()
    return [_route(file.name, file.read_bytes()) for file in files]


def _route(name: str, content: bytes) -> Route:
    kind = _TYPES["." + name.rpartition(".")[2]]

    async def serve(request: Request) -> Response:
        return Response(content, media_type=kind, headers=_HEADERS)

    return Route("/" if name == _INDEX else f"/{name}", serve)
