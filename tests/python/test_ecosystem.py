"""The libraries that people use a pool with, as they are: Dask, tornado, OpenTelemetry, Sentry, tqdm, rich. (joblib,
trio, anyio, uvloop and FastAPI have files of their own.)"""

import asyncio
import contextlib
import contextvars
import io
import pathlib
import socket
import subprocess
import sys
import threading
import time

import duly
import pytest
from conftest import auntil, needs


def test_p05_dask_computes_on_the_drop_in():
    dask, threaded = needs("dask", "dask.threaded")
    delayed = dask.delayed

    def work(number):
        if number == 7:
            raise LookupError(number)
        return threading.current_thread().name

    with duly.ThreadPoolExecutor(3, capacity=4, thread_name_prefix="of-duly") as executor:
        with dask.config.set(pool=executor):
            names = dask.compute(*(delayed(work)(number) for number in range(7)))
            assert {name.split("_")[0] for name in names} == {"of-duly"}
            together = threading.Barrier(3)
            assert sorted(dask.compute(*(delayed(together.wait)(5) for _ in range(3)))) == [0, 1, 2], "on all threads"
            total = delayed(sum)([delayed(pow)(number, 2) for number in range(200)])
            assert total.compute(scheduler="threads") == sum(number**2 for number in range(200))
            with pytest.raises(LookupError):
                dask.compute(*(delayed(work)(number) for number in range(20)))
            assert threaded.get({"a": (abs, -5), "b": (pow, "a", 2)}, "b") == 25
        assert executor.submit(abs, -1).result(5) == 1


def test_p02_in_tornado_run_in_executor_and_run_answer_and_a_client_that_leaves_ends_its_work(make_pool):
    web, httpclient, netutil, ioloop = needs("tornado.web", "tornado.httpclient", "tornado.netutil", "tornado.ioloop")
    pool, executor, reasons = make_pool(workers=2), duly.ThreadPoolExecutor(2), []

    def polite():
        try:
            while True:
                duly.check_cancelled()
                time.sleep(0.001)
        except duly.Cancelled as error:
            reasons.append(error.reason)
            raise

    class InExecutor(web.RequestHandler):
        async def get(self):
            self.write(str(await ioloop.IOLoop.current().run_in_executor(executor, pow, 2, 8)))

    class Run(web.RequestHandler):
        def prepare(self):
            self.scope = duly.CancelScope(timeout=30)

        def on_connection_close(self):
            self.scope.cancel("caller_left")

        async def get(self, kind):
            with self.scope, contextlib.suppress(duly.Cancelled):
                self.write(str(await pool.run(polite if kind == "polite" else int)))

    async def main():
        app = web.Application([("/executor", InExecutor), ("/run/(.*)", Run)])
        sockets = netutil.bind_sockets(0, "127.0.0.1", family=socket.AF_INET)
        port = sockets[0].getsockname()[1]
        server = app.listen(0, "127.0.0.1")
        server.add_sockets(sockets)
        client = httpclient.AsyncHTTPClient()
        for path, wanted in (("executor", b"256"), ("run/int", b"0")):
            assert (await client.fetch(f"http://127.0.0.1:{port}/{path}")).body == wanted
        client.close()
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /run/polite HTTP/1.1\r\nHost: here\r\n\r\n")
        await auntil(lambda: pool.stats().running == 1)
        writer.close()
        await auntil(lambda: reasons == ["caller_left"])
        server.stop()
        await server.close_all_connections()

    with executor:
        asyncio.run(main())


def every_way(pool, callback):
    """What a callback returns in every way in which a pool runs one."""

    async def on_a_loop():
        yield await pool.run(callback)
        yield await (await pool.asubmit(callback))
        async for value in pool.amap(lambda _: callback(), range(3)):
            yield value

    async def all_of_them():
        return [value async for value in on_a_loop()]

    yield pool.submit(callback).result(5)
    yield pool.try_submit(callback).result(5)
    yield pool.options(delay=0.01).submit(callback).result(5)
    yield pool.submit(lambda: pool.submit(callback).result()).result(5)
    yield from pool.map(lambda _: callback(), range(20), ordered=False)
    yield from asyncio.run(all_of_them())
    with duly.Group(pool) as group:
        member = group.submit(callback)
    yield member.result(5)


def test_p13_spans_of_opentelemetry_reach_the_callback_however_it_is_submitted(make_pool):
    trace, sdk, export, memory = needs(
        "opentelemetry.trace",
        "opentelemetry.sdk.trace",
        "opentelemetry.sdk.trace.export",
        "opentelemetry.sdk.trace.export.in_memory_span_exporter",
    )
    exporter, provider = memory.InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    pool = make_pool(workers=2)

    def work():
        with tracer.start_as_current_span("work") as span:
            return span.parent and span.parent.span_id

    with tracer.start_as_current_span("request") as request:
        parents = list(every_way(pool, work))
    mine = request.get_span_context()
    assert parents == [mine.span_id] * len(parents)
    assert pool.submit(work).result(5) is None, "and nothing of it stays with the worker"
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans if span.context.trace_id == mine.trace_id] == ["work"] * len(parents) + [
        "request"
    ]
    assert trace.get_current_span() is trace.INVALID_SPAN

    # The drop-in is as the standard executor is: who wants the context there takes it along.
    with duly.ThreadPoolExecutor(1) as executor, tracer.start_as_current_span("request") as request:
        assert executor.submit(work).result(5) is None
        assert executor.submit(contextvars.copy_context().run, work).result(5) == request.get_span_context().span_id
    provider.shutdown()


def test_p13_the_scope_and_the_trace_of_sentry_reach_the_callback_however_it_is_submitted():
    needs("sentry_sdk")
    # In a process of its own: it patches threads and executors for good.
    program = "import test_ecosystem; test_ecosystem.with_sentry()"
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", program]
    done = subprocess.run(
        command, cwd=pathlib.Path(__file__).parent, capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def with_sentry():
    import sentry_sdk as sentry
    from sentry_sdk.transport import Transport

    class Kept(Transport):
        events = []  # noqa: RUF012

        def capture_envelope(self, envelope):
            self.events += [item.payload.json for item in envelope.items]

    sentry.init("http://key@localhost/1", transport=Kept, traces_sample_rate=1.0, auto_enabling_integrations=False)

    def work():
        sentry.capture_message("from the callback")
        with sentry.start_span(name="work") as span:
            return span.trace_id

    with duly.Pool(workers=2) as pool:
        assert pool.submit(int).result(5) == 0, "a worker is there before the request"
        with sentry.isolation_scope() as scope, sentry.start_transaction(name="request") as transaction:
            scope.set_tag("request", "mine")
            traces = list(every_way(pool, work))
        assert traces == [transaction.trace_id] * len(traces)
        pool.submit(work).result(5)
    sentry.flush()
    messages = [event for event in Kept.events if event.get("message") == "from the callback"]
    assert [event["tags"] for event in messages[:-1]] == [{"request": "mine"}] * len(traces)
    assert {event["contexts"]["trace"]["trace_id"] for event in messages[:-1]} == {transaction.trace_id}
    assert "request" not in messages[-1].get("tags", {}), "and nothing of it stays with the worker"
    (request,) = [event for event in Kept.events if event.get("transaction") == "request" and "spans" in event]
    assert len(request["spans"]) == len(traces)


@pytest.mark.parametrize("ordered", [True, False])
def test_p01_tqdm_and_rich_know_how_many_are_to_come(make_pool, ordered, monkeypatch):
    tqdm, tqdm_asyncio, progress, console = needs("tqdm", "tqdm.asyncio", "rich.progress", "rich.console")
    monkeypatch.setattr(tqdm.tqdm, "monitor_interval", 0)  # its thread would stay
    pool = make_pool(workers=2)
    with tqdm.tqdm(pool.map(abs, range(50), ordered=ordered), file=io.StringIO()) as bar:
        assert sorted(bar) == list(range(50))
        assert (bar.n, bar.total) == (50, 50)

    shown = progress.Progress(console=console.Console(file=io.StringIO()))
    with shown:
        assert sorted(shown.track(pool.map(abs, range(50), ordered=ordered))) == list(range(50))
    (task,) = shown.tasks
    assert (task.completed, task.total, task.finished) == (50, 50, True)

    async def main():
        with tqdm_asyncio.tqdm(pool.amap(abs, range(50), ordered=ordered), file=io.StringIO()) as bar:
            assert sorted([value async for value in bar]) == list(range(50))
            assert (bar.n, bar.total) == (50, 50)

    asyncio.run(main())
