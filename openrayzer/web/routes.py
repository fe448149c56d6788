"""The addresses of pictures and files of a scene, and the limit on uploads.

The token of a scene is random, so only the visitor who made the scene knows its addresses.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from openrayzer.web.answers import Picture, Refused
from openrayzer.web.limits import MOST_REQUEST_BYTES

_PRIVATE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


def scene_routes(studio: Callable[[], Any]) -> list[Route]:
    """The addresses ``/scene/TOKEN/view``, ``/scene/TOKEN/photo/NUMBER`` and ``/scene/TOKEN/file/NAME``.

    Args:
        studio: returns the ``Studio``.
    """

    def view(request: Request) -> Response:
        query = request.query_params
        return _picture(
            studio().view(
                request.path_params["token"],
                query.get("path", "interpolate"),
                int(float(query.get("step", "0"))),
                turn=float(query.get("turn", "0")),
                lift=float(query.get("lift", "0")),
                shown=query.get("shown", "colour"),
            )
        )

    def photo(request: Request) -> Response:
        return _picture(studio().photo(request.path_params["token"], request.path_params["number"]))

    def file(request: Request) -> Response:
        name = request.path_params["name"]
        path = studio().file(request.path_params["token"], name)
        kind = "inline" if name.endswith(".mp4") and "save" not in request.query_params else "attachment"
        return FileResponse(path, filename=name, headers=_PRIVATE, content_disposition_type=kind)

    return [
        Route("/scene/{token}/view", _answering(view)),
        Route("/scene/{token}/photo/{number:int}", _answering(photo)),
        Route("/scene/{token}/file/{name}", _answering(file)),
    ]


def _answering(answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """``answer``, but a refusal, a restart of the worker and an unreadable number give a page with a message."""

    def answered(request: Request) -> Response:
        try:
            return answer(request)
        except Refused as error:
            return PlainTextResponse(str(error), status_code=404, headers=_PRIVATE)
        except (EOFError, ConnectionError):
            return PlainTextResponse("The program starts again. Press Run.", status_code=503, headers=_PRIVATE)
        except (ValueError, OverflowError):
            return PlainTextResponse("A number of this address cannot be read.", status_code=400, headers=_PRIVATE)

    return answered


def _picture(picture: Picture) -> Response:
    facts = {"X-Milliseconds": f"{picture.milliseconds:.1f}", "X-Camera": json.dumps(picture.c2w)}
    return Response(picture.content, media_type=picture.media_type, headers=_PRIVATE | facts)


class UploadLimit:
    """Refuses requests of more than ``MOST_REQUEST_BYTES``, whatever their header says, before they fill the disk."""

    def __init__(self, app: App, most: int = MOST_REQUEST_BYTES) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        if not stated.isdigit() or int(stated) > self.most:
            refusal = PlainTextResponse(f"An upload has at most {self.most >> 20} MB.", status_code=413)
            return await refusal(scope, receive, send)
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return {"type": "http.disconnect"} if received > self.most else message

        return await self.app(scope, counted, send)


def upload_limit() -> Middleware:
    """``UploadLimit`` for the list of middleware of an application."""
    return Middleware(UploadLimit)
