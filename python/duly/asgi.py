"""`Scoped`: ASGI middleware that gives each request a `CancelScope`, cancelled when its client leaves.

Keeps true:
1. Every message of the server reaches the application, once and in order; at most `READ_AHEAD` bytes and one message
   are read before the application asks.
2. A client has left only if it did so before the last of its answer was sent: what goes on after that is not cancelled.
3. When a request ends, nothing of it is left: whoever listens is cancelled.
4. Websockets and lifespan pass through as they are.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, Any

from duly import _errors
from duly._scope import CancelScope

if TYPE_CHECKING:
    from collections.abc import Awaitable, MutableMapping
    from typing import Callable

    from typing_extensions import TypeAlias

    Message: TypeAlias = MutableMapping[str, Any]
    Receive: TypeAlias = Callable[[], Awaitable[Message]]
    Send: TypeAlias = Callable[[Message], Awaitable[None]]
    Application: TypeAlias = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

__all__ = ["Scoped"]

# How much of a request's body is read before the application asks for it, to hear of the client's leaving behind it.
READ_AHEAD = 64 * 1024

# Messages with the body of an answer. A path is always the whole of it.
_BODIES = ("http.response.body", "http.response.zerocopysend", "http.response.pathsend")

_BUSY = (_errors.QueueFull, _errors.SubmitTimedOut, _errors.Shed, _errors.ShutDown, _errors.Abandoned)


class Scoped:
    """Middleware for ASGI servers on asyncio: each HTTP request runs under a `CancelScope` of its own.

        app = FastAPI()
        app.add_middleware(duly.asgi.Scoped, timeout=2.0)

    The scope is ambient for the handler, also for one that runs on a thread: what it submits to a pool, and what that
    submits, is cancelled with the reason "caller_left" when the client closes the connection before it has its whole
    answer, and has to end within `timeout` seconds of the beginning of the request. What shall outlive the request is
    submitted with `detached=True`. Whatever else the handler awaits is not ended.

    What a handler lets out and nobody has answered, is answered here: 503 with `Retry-After: {retry_after}` to
    QueueFull, SubmitTimedOut, Shed, ShutDown and Abandoned, 504 to DeadlineExceeded. After the client has left, these
    and Cancelled end the request in silence. Everything else passes on, as do these once the answer has begun.
    """

    def __init__(self, app: Application, *, timeout: float | None = None, retry_after: float = 1.0) -> None:
        # Bad values are refused here, not at the first request.
        CancelScope(timeout, detached=True)
        if not 0 <= retry_after <= 1e9:
            raise _errors.InvalidArgument(f"retry_after={retry_after!r} is no number of seconds")
        self.app = app
        self.timeout = timeout
        self._retry_after = str(math.ceil(retry_after)).encode()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with CancelScope(self.timeout) as cancel_scope:
            request = _Request(receive, send, cancel_scope)
            if not _waits_to_be_asked(scope):
                request.listen()
            try:
                await self.app(scope, request.receive, request.send)
            except (_errors.Cancelled, _errors.DeadlineExceeded, *_BUSY) as error:
                if request.left:
                    return  # nobody is there to be told
                if request.begun or isinstance(error, _errors.Cancelled):
                    raise
                if isinstance(error, _errors.DeadlineExceeded):
                    await request.answer(504, b"not done in time\n", [])
                else:
                    await request.answer(503, b"too busy, try again later\n", [(b"retry-after", self._retry_after)])
            finally:
                request.end()


def _waits_to_be_asked(scope: MutableMapping[str, Any]) -> bool:
    """Whether the first look at the body makes the client send it: that is for the application to decide."""
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in scope.get("headers", ()))


class _Request:
    """One request: between the server's receive and send and those of the application."""

    def __init__(self, receive: Receive, send: Send, scope: CancelScope) -> None:
        self.server_receives, self.server_sends, self.scope = receive, send, scope
        # What was read ahead, its size, and what the server has said last.
        self.messages: deque[Message] = deque()
        self.size = 0
        self.last: Message | BaseException | None = None
        self.listener: asyncio.Task[None] | None = None
        self.came, self.room = asyncio.Event(), asyncio.Event()
        self.begun = self.answered = self.left = False

    def listen(self) -> None:
        """From now on the client is heard."""
        if self.listener is None:
            self.listener = asyncio.get_running_loop().create_task(self.listening())

    async def listening(self) -> None:
        try:
            while True:
                message = await self.server_receives()
                if message["type"] == "http.disconnect":
                    self.last = message
                    if not self.answered:
                        self.left = True
                        self.scope.cancel("caller_left")
                    return
                self.messages.append(message)
                self.size += len(message.get("body", b""))
                self.came.set()
                while self.size >= READ_AHEAD:
                    self.room.clear()
                    await self.room.wait()
        except Exception as error:
            self.last = error  # for the application, when it asks
        finally:
            # However it ends, whoever asks is answered.
            self.last = self.last or {"type": "http.disconnect"}
            self.came.set()

    async def receive(self) -> Message:
        """For the application."""
        self.listen()
        while not self.messages:
            if isinstance(self.last, BaseException):
                raise self.last
            if self.last is not None:
                return self.last
            self.came.clear()
            await self.came.wait()
        message = self.messages.popleft()
        self.size -= len(message.get("body", b""))
        self.room.set()
        return message

    async def send(self, message: Message) -> None:
        """For the application."""
        kind = message["type"]
        if kind == "http.response.start":
            self.begun = True
        elif kind in _BODIES and not message.get("more_body", False):
            # Before it is sent: servers say that the client is gone once it has all.
            self.answered = True
        await self.server_sends(message)

    async def answer(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """Sends a whole answer."""
        headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode()), *headers]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    def end(self) -> None:
        """Nobody listens any more."""
        if self.listener is not None:
            self.listener.cancel()
