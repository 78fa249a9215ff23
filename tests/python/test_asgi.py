"""duly.asgi.Scoped: a request's work ends with its client and its time. Tried with FastAPI under uvicorn, on real
sockets, and against a server made here where a message has to come at a certain moment."""

import asyncio
import contextlib
import hashlib
import itertools
import json
import pathlib
import re
import select
import socket
import subprocess
import sys
import threading
import time

import duly
import duly.asgi
import pytest
from conftest import LONGER, auntil, needs, until

fastapi, uvicorn, _, _, _ = needs("fastapi", "uvicorn", "uvloop", "websockets", "fastapi.responses")


@contextlib.contextmanager
def served(app, loop="asyncio"):
    """The port where uvicorn serves an app."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, loop=loop, ws="websockets-sansio", log_config=None, timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            until(lambda: server.started or not thread.is_alive())
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def connected(port):
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def ask(path, *headers, method="GET"):
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: here", *headers, "", "")).encode()


def answer(client, body=True):
    """The status, headers and body of an answer."""
    with client.makefile("rb") as lines:
        status = int(lines.readline().split()[1])
        headers = {}
        while True:
            line = lines.readline().strip()
            if not line:
                break
            name, value = line.decode().split(": ", 1)
            headers[name.lower()] = value
        return status, headers, lines.read(int(headers.get("content-length", 0))) if body else b""


def get(port, path, *headers):
    with connected(port) as client:
        client.sendall(ask(path, *headers))
        return answer(client)


@pytest.fixture
def work(make_pool):
    """A pool and two callbacks: one that hears of its cancellation, and one that hears nothing."""
    pool, gate = make_pool(workers=2, capacity=2, overflow="reject"), make_pool.gate()

    class Work:
        @staticmethod
        def polite():
            try:
                while True:
                    duly.check_cancelled()
                    time.sleep(0.001)
            except duly.Cancelled as error:
                Work.reasons.append(error.reason)
                raise

        @staticmethod
        def deaf():
            return gate.wait(20)

    Work.pool, Work.gate, Work.reasons = pool, gate, []
    return Work


def app_for(work, **options):
    app = fastapi.FastAPI()
    if options.pop("scoped", True):
        app.add_middleware(duly.asgi.Scoped, **options)

    @app.get("/async/{name}")
    async def on_the_loop(name: str):
        return await work.pool.run(getattr(work, name))

    @app.get("/sync/{name}")
    def on_a_thread(name: str):
        return work.pool.submit(getattr(work, name)).result()

    return app


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("kind", ["async", "sync"])
def test_p02_a_client_that_leaves_cancels_the_work_of_its_request(work, loop, kind, caplog):
    with served(app_for(work), loop) as port:
        with connected(port) as client, connected(port) as other:
            for one in (client, other):
                one.sendall(ask(f"/{kind}/polite"))
            until(lambda: work.pool.stats().running == 2)
            client.close()
            until(lambda: work.reasons == ["caller_left"])
            assert work.pool.stats().running == 1, "the other's goes on"
        until(lambda: work.reasons == ["caller_left"] * 2)
        until(lambda: work.pool.stats().cancelled == 2)
    assert not [record for record in caplog.records if record.name == "uvicorn.error" and record.levelname == "ERROR"]


@pytest.mark.parametrize("others", ["outside", "inside", "both"])
def test_p02_middleware_of_the_app_around_it_and_in_it_changes_nothing(work, others):
    app = app_for(work, scoped=False)

    async def passes(request, call_next):
        return await call_next(request)

    if others != "outside":
        app.middleware("http")(passes)
    app.add_middleware(duly.asgi.Scoped)
    if others != "inside":
        app.middleware("http")(passes)

    @app.get("/late")
    async def late():
        return await work.pool.options(timeout=0.05).run(work.deaf)

    @app.post("/length")
    async def length(request: fastapi.Request):
        return await work.pool.run(len, await request.body())

    with served(app) as port:
        assert get(port, "/late")[0] == 504
        with connected(port) as client:
            client.sendall(ask("/length", "Content-Length: 200000", method="POST") + bytes(200_000))
            assert answer(client)[2] == b"200000"
        with connected(port) as client:
            client.sendall(ask("/async/polite"))
            until(lambda: work.pool.stats().running == 1)
        until(lambda: work.reasons == ["caller_left"])


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_p02_without_it_the_work_of_a_client_that_left_goes_on(work, kind):
    with served(app_for(work, scoped=False)) as port:
        with connected(port) as client:
            client.sendall(ask(f"/{kind}/deaf"))
            until(lambda: work.pool.stats().running == 1)
        time.sleep(0.2)
        assert work.pool.stats().running == 1
        work.gate.set()
        until(lambda: work.pool.stats().succeeded == 1)


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_p02_a_request_is_answered_at_its_deadline(work, kind):
    for timeout in LONGER:
        with served(app_for(work, timeout=timeout)) as port:
            start = time.monotonic()
            status, headers, _ = get(port, f"/{kind}/deaf")
            assert time.monotonic() - start >= timeout, "never early"
            assert status == 504
            assert "retry-after" not in headers
        # On a busy machine the time may be over before the handler submits.
        if work.pool.stats().deadline_exceeded:
            break
    assert work.pool.stats().deadline_exceeded == 1


def test_p05_a_full_pool_is_answered_at_once_with_when_to_come_back(work):
    with served(app_for(work, retry_after=1.5)) as port, contextlib.ExitStack() as clients:
        for count in ("running", "queued"):
            for _ in range(2):
                clients.enter_context(connected(port)).sendall(ask("/async/deaf"))
            until(lambda: getattr(work.pool.stats(), count) == 2)  # noqa: B023  # it is called here and now
        for kind in ("async", "sync"):
            status, headers, _ = get(port, f"/{kind}/deaf")
            assert (status, headers["retry-after"]) == (503, "2")
        work.gate.set()
    until(lambda: work.pool.stats().running == 0)


def test_p07_the_answers_of_the_app_come_first_and_other_errors_pass(work):
    app, patient = app_for(work, timeout=0.05), app_for(work)

    @app.exception_handler(duly.DeadlineExceeded)
    async def own(request, error):
        return fastapi.responses.PlainTextResponse("mine", 418)

    @patient.get("/cancelled")
    async def cancelled():
        task = await work.pool.asubmit(work.deaf)
        task.cancel("somebody else's")
        await task

    with served(app) as port:
        assert get(port, "/async/deaf")[::2] == (418, b"mine")
    with served(patient) as port:
        assert get(port, "/cancelled")[0] == 500, "the client is there and gets its answer"
        work.gate.set()


def test_p02_a_handler_that_asks_whether_its_client_is_there_is_told(work):
    app, asked = app_for(work), []

    @app.get("/asks")
    async def asks(request: fastapi.Request):
        for _ in range(10_000):
            asked.append(await request.is_disconnected())
            if asked[-1]:
                return
            await asyncio.sleep(0.001)

    with served(app) as port:
        with connected(port) as client:
            client.sendall(ask("/asks"))
            until(lambda: asked)
        until(lambda: asked[-1])
    assert asked[0] is False


def test_p02_what_goes_on_after_the_answer_is_not_cancelled_by_its_end(work):
    app = app_for(work)
    ended = []

    @app.get("/later")
    async def later(background: fastapi.BackgroundTasks):
        async def goes_on():
            ended.append(await work.pool.run(work.deaf))

        background.add_task(goes_on)
        return "now"

    with served(app) as port:
        assert get(port, "/later", "Connection: close")[::2] == (200, b'"now"')
        until(lambda: work.pool.stats().running == 1)
        time.sleep(0.1)
        work.gate.set()
        until(lambda: ended == [True])


def test_p02_a_client_that_leaves_in_the_middle_of_its_answer_is_noticed(work):
    app = app_for(work)

    @app.get("/stream")
    async def stream():
        async def pieces():
            yield b"first"
            await work.pool.run(work.polite)

        return fastapi.responses.StreamingResponse(pieces())

    with served(app) as port:
        with connected(port) as client:
            client.sendall(ask("/stream"))
            assert client.recv(15).startswith(b"HTTP/1.1 200")
            until(lambda: work.pool.stats().running == 1)
        until(lambda: work.reasons)

    async def main():
        server = Server()

        async def app(scope, receive, send):
            scope = duly.CancelScope()
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            server.leave()
            await auntil(lambda: scope.cancelled)

        await server.serve(app)

    asyncio.run(main())


def test_p01_no_byte_of_a_body_is_lost_and_leaving_in_the_middle_of_it_is_noticed(work):
    app = app_for(work)

    @app.post("/body")
    async def body(request: fastapi.Request):
        digest = hashlib.sha256()
        async for piece in request.stream():
            await work.pool.run(digest.update, piece)
        return digest.hexdigest()

    sent = bytes(range(256)) * 4096
    with served(app) as port:
        with connected(port) as client:
            # Twice over one connection: a request leaves nothing to the next.
            for _ in range(2):
                client.sendall(ask("/body", f"Content-Length: {len(sent)}", method="POST"))
                for at in range(0, len(sent), 100_000):
                    client.sendall(sent[at : at + 100_000])
                assert answer(client)[2].decode() == f'"{hashlib.sha256(sent).hexdigest()}"'
        work.pool.pause()
        with connected(port) as client:
            client.sendall(ask("/body", "Content-Length: 100", method="POST") + b"ten bytes.")
            until(lambda: work.pool.stats().queued == 1)
        until(lambda: work.pool.stats().cancelled == 1)


def test_p13_a_body_that_waits_to_be_asked_for_is_not_asked_for(work):
    app = app_for(work)

    @app.post("/refused")
    async def refused(request: fastapi.Request):
        await asyncio.sleep(0.05)
        return fastapi.responses.PlainTextResponse("too large", 413)

    @app.post("/taken")
    async def taken(request: fastapi.Request):
        return len(await request.body())

    with served(app) as port:
        asked = ("Content-Length: 5", "Expect: 100-continue")
        with connected(port) as client:
            client.sendall(ask("/refused", *asked, method="POST"))
            assert answer(client)[0] == 413
        with connected(port) as client:
            client.sendall(ask("/taken", *asked, method="POST"))
            assert answer(client)[0] == 100
            client.sendall(b"12345")
            assert answer(client)[2] == b"5"


def test_p13_websockets_and_lifespan_pass_as_they_are(work):
    from websockets.sync.client import connect

    seen = []

    @contextlib.asynccontextmanager
    async def lifespan(app):
        seen.append("begins")
        yield
        seen.append("ends")

    app = fastapi.FastAPI(lifespan=lifespan)
    app.add_middleware(duly.asgi.Scoped, timeout=0.01)

    @app.websocket("/echo")
    async def echo(socket: fastapi.WebSocket):
        await socket.accept()
        async for text in socket.iter_text():
            await asyncio.sleep(0.02)
            await socket.send_text(await work.pool.run(str.upper, text))

    with served(app) as port:
        with connect(f"ws://127.0.0.1:{port}/echo", proxy=None) as client:
            for text in ("one", "two"):
                client.send(text)
                assert client.recv(10) == text.upper()
        until(lambda: work.pool.stats().succeeded == 2)
    assert seen == ["begins", "ends"]

    async def passes():
        got = []

        async def inner(*given):
            got.append(given)

        for kind in ("websocket", "lifespan"):
            given = ({"type": kind}, object(), object())
            await duly.asgi.Scoped(inner)(*given)
            assert all(one is other for one, other in zip(got.pop(), given))

    asyncio.run(passes())


@contextlib.contextmanager
def recipe_served(folder, patient):
    """The port where the recipe of docs/python.md is served; with half a minute for each request, or as it is."""
    page = (pathlib.Path(__file__).parent.parent.parent / "docs" / "python.md").read_text()
    (recipe,) = re.findall(r"^```python\n(# main\.py.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert recipe.count("timeout=1.0") == 1
    (folder / "main.py").write_text(recipe.replace("timeout=1.0", "timeout=30.0") if patient else recipe)
    command = [sys.executable, "-X", "dev", "-m", "uvicorn", "main:app", "--port=0", "--no-access-log"]
    log = folder / "log"
    with log.open("w") as said:
        server = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said)
    try:
        until(lambda: "running on" in log.read_text() or server.poll() is not None, 90)
        yield int(re.search(r"running on http://127\.0\.0\.1:(\d+)", log.read_text())[1])
        server.terminate()
        server.wait(20)
    finally:
        server.kill()
        server.wait(20)
    assert "shutdown complete" in log.read_text()
    assert "Error" not in log.read_text(), log.read_text()


@pytest.mark.timeout(240)
def test_p02_the_recipe_of_the_page_does_what_the_page_says(tmp_path):
    def stats():
        return json.loads(get(port, "/stats")[2])

    paths = ("/render", "/render-from-a-thread")
    with recipe_served(tmp_path, patient=True) as port:
        for path in paths:
            assert get(port, f"{path}?pages=3")[::2] == (200, b'{"pages":3}')
            with connected(port) as client:
                client.sendall(ask(f"{path}?pages=100000"))
                until(lambda: stats()["running"] == 1)
            until(lambda: stats()["running"] == 0)
        assert stats()["cancelled"] == 2, "by their clients' leaving"
        with contextlib.ExitStack() as opened:
            clients = [opened.enter_context(connected(port)) for _ in range(40)]
            for client, path in zip(clients, itertools.cycle(paths)):
                client.sendall(ask(f"{path}?pages=100000"))
            # There is room for twenty, the others are answered at once.
            until(lambda: len(select.select(clients, [], [], 0)[0]) >= 20)
            answers = [answer(client) for client in select.select(clients, [], [], 0)[0]]
            assert [(status, headers["retry-after"]) for status, headers, _ in answers] == [(503, "1")] * 20
        until(lambda: stats()["running"] == stats()["queued"] == 0)
    with recipe_served(tmp_path, patient=False) as port:
        start = time.monotonic()
        assert get(port, f"{paths[0]}?pages=100000")[0] == get(port, f"{paths[1]}?pages=100000")[0] == 504
        assert time.monotonic() - start >= 2.0
        with contextlib.ExitStack() as opened:
            clients = [opened.enter_context(connected(port)) for _ in range(40)]
            for client, path in zip(clients, itertools.cycle(paths)):
                client.sendall(ask(f"{path}?pages=100000"))
            answers = [answer(client) for client in clients]
        # On a busy machine the first may be over before the last have come.
        full = [headers for status, headers, _ in answers if status == 503]
        assert [headers["retry-after"] for headers in full] == ["1"] * len(full)
        assert [status for status, _, _ in answers if status != 503] == [504] * (len(answers) - len(full))
        until(lambda: stats()["running"] == stats()["queued"] == 0)


class Server:
    """What a server gives an app, message by message."""

    def __init__(self):
        self.messages = asyncio.Queue()
        self.asked = 0
        self.sent = []

    async def receive(self):
        self.asked += 1
        return await self.messages.get()

    async def send(self, message):
        self.sent.append(message)

    def body(self, body, more=True):
        self.messages.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def leave(self):
        self.messages.put_nowait({"type": "http.disconnect"})

    async def serve(self, app, **options):
        await duly.asgi.Scoped(app, **options)({"type": "http", "headers": []}, self.receive, self.send)


def test_p01_every_message_arrives_once_and_in_order_also_when_a_receive_is_given_up():
    async def main():
        server, got = Server(), []

        async def app(scope, receive, send):
            for number in range(3):
                server.body(b"%d" % number, more=number < 2)
                got.append((await receive())["body"])
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(receive(), 0.01)
            server.leave()
            for _ in range(2):
                assert (await receive())["type"] == "http.disconnect", "however often it is asked"

        await server.serve(app)
        assert got == [b"0", b"1", b"2"]

    asyncio.run(main())


def test_p05_it_reads_ahead_no_further_than_it_has_to():
    async def main():
        server = Server()
        for number in range(10):
            server.body(bytes([number]) * (duly.asgi.READ_AHEAD // 2))

        async def app(scope, receive, send):
            await auntil(lambda: server.asked == 2)
            await asyncio.sleep(0.01)
            assert server.asked == 2, "the rest is left to the server, which tells the client to wait"
            for number in range(10):
                body = (await receive())["body"]
                assert body == bytes([number]) * (duly.asgi.READ_AHEAD // 2)

        await server.serve(app)
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1, "nobody listens any more"

    asyncio.run(main())


def test_p02_the_scope_hears_of_a_client_whose_body_nobody_has_read():
    async def main():
        server = Server()
        server.body(b"nobody reads me", more=False)
        server.leave()

        async def app(scope, receive, send):
            scope = duly.CancelScope()
            await auntil(lambda: scope.cancelled)
            assert (await receive())["body"] == b"nobody reads me", "it is there all the same"

        await server.serve(app)

    asyncio.run(main())


def test_p07_errors_of_the_server_reach_who_asks_and_those_after_the_beginning_pass():
    async def main():
        async def broken():
            raise OSError("the line is cut")

        async def app(scope, receive, send):
            with pytest.raises(OSError, match="cut"):
                await receive()

        await duly.asgi.Scoped(app)({"type": "http"}, broken, None)

        server = Server()
        for error in (duly.QueueFull, duly.DeadlineExceeded, duly.Cancelled):
            server.leave()

            async def left(scope, receive, send, error=error):
                await receive()
                raise error

            await server.serve(left)
            assert server.sent == [], "nobody is there to be told"

        server = Server()
        for error in (duly.QueueFull, duly.DeadlineExceeded, duly.Cancelled, ValueError):

            async def begun(scope, receive, send, error=error):
                await send({"type": "http.response.start", "status": 200})
                raise error

            with pytest.raises(error):
                await server.serve(begun)

    asyncio.run(main())


@pytest.mark.parametrize("options", [{"timeout": float("nan")}, {"timeout": -1.0}, {"retry_after": -1}])
def test_p16_bad_options_are_refused_before_the_first_request(options):
    with pytest.raises(duly.InvalidArgument):
        duly.asgi.Scoped(None, **options)
