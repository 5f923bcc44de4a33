"""The endpoint: routes, streams, and errors in the words of OpenAI's API."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from interp import __version__
from interp.run.steerable import Steerable
from interp.serving.asked import Asked, Chat, Completion
from interp.serving.refusals import RefusedError
from interp.serving.replies import Replies, Usage
from interp.serving.requests import PlannedRequest, Planner
from interp.serving.texts import RequestText, WrittenPiece
from interp.serving.writer import Writer
from interp.steering.rolling import RollingBatch

log = logging.getLogger("interp.serving")
POLL = 0.5
"""Seconds without a token after which a client is looked after."""
MOST_BYTES = 8 * 2**20
"""Of a request's body."""


class ClientGoneError(Exception):
    """Nobody waits for the answer."""


def build_app(steerable: Steerable, *, name: str, most: int = 16, waiting_room: int = 1024) -> FastAPI:
    """The application; uvicorn, or any ASGI server, serves it.

    Args:
        name: under which the model is asked for.
        most: texts that are written together.
        waiting_room: texts that may wait.
    """

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        batch: RollingBatch[RequestText] = RollingBatch(steerable.model)
        app.state.writer = Writer(batch, most=most, waiting_room=waiting_room)
        yield
        await asyncio.to_thread(app.state.writer.close)

    app = FastAPI(title=f"interp: {name}", version=__version__, lifespan=life)
    planner = Planner(steerable, name)
    app.add_middleware(_Bounded)
    _tell_errors(app)

    @app.get("/health")
    def health() -> Response:
        alive = app.state.writer.alive
        return JSONResponse(
            {"status": "ok" if alive else "stopped", "texts": app.state.writer.busy}, status_code=200 if alive else 503
        )

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [_described(planner, known) for known in planner.models]}

    @app.get("/v1/models/{known:path}")
    def model(known: str) -> dict[str, Any]:
        if known not in planner.models:
            raise RefusedError(f"There is no model {known[:60]!r} here.", status=404, code="model_not_found")
        return _described(planner, known)

    @app.post("/v1/completions")
    async def completions(request: Request, body: Completion) -> Response:
        return await _answer(app, planner, request, body)

    @app.post("/v1/chat/completions")
    async def chat(request: Request, body: Chat) -> Response:
        return await _answer(app, planner, request, body)

    return app


def _described(planner: Planner, known: str) -> dict[str, Any]:
    steering = planner.models[known]
    about = None if steering is None else steering.model_dump(exclude_none=True)
    return {"id": known, "object": "model", "created": 0, "owned_by": "interp", "steering": about}


async def _answer(app: FastAPI, planner: Planner, request: Request, asked: Asked) -> Response:
    plan = await asyncio.to_thread(planner.plan, asked)
    model = planner.steerable.model
    replies = Replies(model, asked.model, chat=isinstance(asked, Chat), top=asked.top)
    loop = asyncio.get_running_loop()
    heard: asyncio.Queue[tuple[int, WrittenPiece | Exception]] = asyncio.Queue()

    def tell(choice: int) -> Any:
        return lambda said: loop.call_soon_threadsafe(heard.put_nowait, (choice, said))

    texts = plan.texts(model, tell)
    app.state.writer.put(texts)
    told = _told(request, texts, heard)
    if asked.stream:
        return StreamingResponse(_events(told, replies, plan, texts, asked.with_usage), media_type="text/event-stream")
    pieces: list[list[WrittenPiece]] = [[] for _ in texts]
    try:
        async for choice, piece in told:
            pieces[choice].append(piece)
    except ClientGoneError:
        return Response(status_code=499)
    return JSONResponse(replies.whole(pieces, _usage(plan, texts)))


async def _told(
    request: Request, texts: list[RequestText], heard: "asyncio.Queue[tuple[int, WrittenPiece | Exception]]"
) -> AsyncIterator[tuple[int, WrittenPiece]]:
    """(choice, piece) as they come, until all texts are at their end; however it ends, no text goes on without it.

    Raises:
        ClientGoneError: the client has hung up.
        RefusedError: what went wrong while a text was written.
    """
    open_texts = len(texts)
    try:
        while open_texts:
            try:
                choice, said = await asyncio.wait_for(heard.get(), POLL)
            except TimeoutError:
                if await request.is_disconnected():
                    raise ClientGoneError from None
                continue
            if isinstance(said, RefusedError):
                raise said
            if isinstance(said, Exception):
                log.error("writing failed", exc_info=said)
                raise RefusedError(_went_wrong(said), status=500, code="writing_failed") from said
            open_texts -= said.finish is not None
            yield choice, said
            if heard.empty() and await request.is_disconnected():
                raise ClientGoneError
    finally:
        for text in texts:
            text.given_up = True


async def _events(
    told: AsyncIterator[tuple[int, WrittenPiece]],
    replies: Replies,
    plan: PlannedRequest,
    texts: list[RequestText],
    usage: bool,
) -> AsyncIterator[str]:
    """Server-sent events. The status has been sent by then: what goes wrong is an event."""
    offsets: dict[int, int] = {}
    try:
        async for choice, piece in told:
            if piece.text or piece.finish or piece.chances:
                first, offset = choice not in offsets, offsets.get(choice, 0)
                offsets[choice] = offset + len(piece.text)
                yield _event(replies.chunk(choice, piece, first=first, offset=offset))
        if usage:
            yield _event(replies.last(_usage(plan, texts)))
    except ClientGoneError:
        return
    except RefusedError as error:
        yield _event(error.body)
    finally:
        await told.aclose()  # type: ignore[attr-defined]
    yield "data: [DONE]\n\n"


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


def _usage(plan: PlannedRequest, texts: list[RequestText]) -> Usage:
    return Usage(plan.prompt_tokens, sum(len(text.written) for text in texts))


def _went_wrong(error: Exception) -> str:
    if "OutOfMemory" in type(error).__name__ or isinstance(error, MemoryError):
        return "Out of memory while writing; ask for fewer tokens, or start the server with a smaller --batch."
    return f"Writing failed ({type(error).__name__}); the server goes on."


def _tell_errors(app: FastAPI) -> None:
    """Every refusal has the same shape."""

    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> Response:
        return JSONResponse(error.body, status_code=error.status)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return await refused(_, _explained(error))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        known = (
            "; this server has /v1/models, /v1/completions and /v1/chat/completions."
            if error.status_code == 404
            else "."
        )
        said = f"{request.method} {request.url.path[:80]}: {error.detail}{known}"
        return await refused(request, RefusedError(said, status=error.status_code))

    @app.exception_handler(Exception)
    async def ours(_: Request, error: Exception) -> Response:
        said = f"Internal error, our fault ({type(error).__name__}); the server goes on."
        return await refused(_, RefusedError(said, status=500, code="internal_error"))


class _Bounded:
    """Refuses bodies of more than `MOST_BYTES`, announced or not."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > MOST_BYTES:
                raise HTTPException(413, f"a request may have {MOST_BYTES:,} bytes")
            return message

        await self.app(scope, counted, send)


def _explained(error: RequestValidationError) -> RefusedError:
    """The first thing that is wrong, with where."""
    first = error.errors()[0]
    where = [
        str(part) for part in first["loc"] if part != "body" and not str(part).startswith(("constrained", "list["))
    ]
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "")
        return RefusedError(f"The body is not JSON ({reason}).", code="invalid_json")
    if not where:
        return RefusedError(f"The body must be a JSON object ({first['msg']}).", code="invalid_json")
    said = "is missing" if first["type"] == "missing" else str(first["msg"])
    return RefusedError(f"{'.'.join(where)}: {said}.".replace("..", "."), param=".".join(where))
