"""P14: pools and scopes that signals end. Each program is an interpreter of its own, for signals reach all of it."""

import subprocess
import sys
import textwrap

import duly
import pytest

PRELUDE = """
import asyncio, contextlib, ctypes, faulthandler, logging, os, pathlib, re, signal, sys, threading, time
import duly

# Callbacks that were abandoned end late.
logging.getLogger("duly").addHandler(logging.NullHandler())
logging.getLogger("duly").propagate = False
# In debug mode an event loop warns of a step that took longer than 0.1 s, as any may on a machine that stood still.
logging.getLogger("asyncio").setLevel(logging.ERROR)

def until(ready, seconds=20.0):
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.001)

def send(number):
    os.kill(os.getpid(), number)

def soon(number, ready=lambda: True):
    def wait():
        until(ready)
        time.sleep(0.1)  # for the main thread to be in its wait; if it is not yet, the program shows less, and passes
        send(number)
    threading.Thread(target=wait, daemon=True).start()

# That the main thread is in a wait of CPython: a signal between its last look at signals and the system call would be
# heeded after the call only. It sleeps, and has not moved for a moment.
def in_its_wait():
    def look():
        status = pathlib.Path(f"/proc/self/task/{os.getpid()}/status").read_text()
        return re.findall(r"^(?:State|voluntary_ctxt_switches):\\s*(\\w+)", status, re.M)
    before = look()
    time.sleep(0.05)
    return before[0] == "S" and before == look()

def threads():
    names = []
    for comm in pathlib.Path("/proc/self/task").glob("*/comm"):
        with contextlib.suppress(OSError):  # it ended just now
            names.append(comm.read_text().strip())
    return names

seen = []
def handler(number, frame):
    seen.append(number)
"""


def program(text, status=0, **words):
    """Runs a program to its end, which has that status and tells nothing."""
    text = PRELUDE + textwrap.dedent(text)
    for word, value in words.items():
        text = text.replace(f"<{word}>", str(value))
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", text],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=45,
        check=False,
    )
    assert done.returncode == status, done.stdout
    assert not done.stdout or status, done.stdout
    return done.stdout


def test_p14_the_first_signal_drains_and_what_was_accepted_ends():
    program("""
        pool, gate = duly.Pool(workers=1), threading.Event()
        pool.shutdown_on([signal.SIGTERM, signal.SIGHUP], grace=60.0)
        tasks = [pool.submit(gate.wait), pool.submit(abs, -1)]
        assert pool.signal is None
        assert pool.wait_shutdown(0.01) is None, "it goes on"
        send(signal.SIGTERM)
        until(lambda: pool.closed)
        try:
            pool.submit(abs, -1)
        except duly.ShutDown:
            gate.set()
        report = pool.wait_shutdown()
        assert report.drained and report.stats.succeeded == 2 and report.threads_left == 0, report
        assert [task.result() for task in tasks] == [True, 1]
        assert pool.signal is signal.SIGTERM
        assert not pool._threads()
    """)


def test_p14_a_second_signal_abandons_at_once():
    program("""
        pool, gate = duly.Pool(workers=1), threading.Event()
        pool.shutdown_on([signal.SIGTERM, signal.SIGHUP], grace=600.0)
        running, queued = pool.submit(gate.wait), pool.submit(abs, -1)
        until(lambda: pool.running())
        send(signal.SIGTERM)
        until(lambda: pool.closed)
        assert not running.wait(0.1)
        send(signal.SIGHUP)
        assert isinstance(running.exception(5), duly.Abandoned)
        assert isinstance(queued.exception(5), duly.Abandoned)
        report = pool.wait_shutdown(5)
        assert len(report.abandoned) == 2 and pool.signal is signal.SIGTERM, report
        gate.set()
    """)


def test_p14_the_process_is_ready_to_exit_within_the_grace_whatever_callbacks_do():
    program("""
        pool = duly.Pool(workers=1)
        pool.shutdown_on(signal.SIGTERM, grace=0.5)
        pool.options(label="stuck").submit(time.sleep, 600)
        until(lambda: pool.running())
        start = time.monotonic()
        send(signal.SIGTERM)
        report = pool.wait_shutdown()
        took = time.monotonic() - start
        assert 0.4 <= took < 3, took
        assert [record.label for record in report.abandoned] == ["stuck"] and report.threads_left == 1, report
    """)


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_p14_what_signal_signal_was_given_still_runs_once(number):
    program(
        """
        signal.signal(signal.<number>, handler)
        pool = duly.Pool(workers=1)
        pool.shutdown_on([signal.<number>])
        send(signal.<number>)
        assert pool.wait_shutdown(20).drained
        until(lambda: seen)
        assert signal.getsignal(signal.<number>) is handler
        signal.signal(signal.<number>, lambda *_: seen.append("another"))
        send(signal.<number>)
        until(lambda: len(seen) > 1)
        time.sleep(0.01)
        assert seen == [signal.<number>, "another"], seen
        """,
        number=number,
    )


def test_p14_without_a_keyboard_interrupt_where_the_program_ignores_the_signal():
    program("""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        pool = duly.Pool(workers=1)
        pool.shutdown_on([signal.SIGINT])
        soon(signal.SIGINT)
        assert pool.wait_shutdown(20).drained
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    """)


@pytest.mark.parametrize(
    ("wait", "waits"),
    [
        ("threading.Event().wait()", "in_its_wait()"),
        ("os.read(ends[0], 1)", "in_its_wait()"),
        ("pool.wait_shutdown()", "True"),
    ],
)
def test_p14_ctrl_c_still_interrupts_what_the_main_thread_waits_in(wait, waits):
    program(
        """
        pool, gate, ends = duly.Pool(workers=1), threading.Event(), os.pipe()
        pool.shutdown_on([signal.SIGINT])
        task = pool.submit(gate.wait)
        faulthandler.dump_traceback_later(40, exit=True)
        try:
            soon(signal.SIGINT, lambda: pool.running() and <waits>)
            <wait>
        except KeyboardInterrupt:
            pass
        until(lambda: pool.closed)
        assert pool.signal is signal.SIGINT and not task.done()
        gate.set()
        assert pool.wait_shutdown(20).drained and task.result()
        os._exit(0)
        """,
        wait=wait,
        waits=waits,
    )


def test_p14_a_main_thread_that_never_comes_back_holds_nothing_up():
    """As one in a library that waits for ever: no handler written in Python would be called."""
    program("""
        pool, gate = duly.Pool(workers=1), threading.Event()
        pool.shutdown_on([signal.SIGTERM], grace=60.0)
        pool.submit(gate.wait)
        signal.signal(signal.SIGUSR1, handler)
        def watch():
            until(lambda: pool.closed)
            gate.set()
            report = pool.wait_shutdown(20)
            os._exit(0 if report.drained and not seen else 4)
        here = threading.Event()
        soon(signal.SIGUSR1, here.is_set)
        soon(signal.SIGTERM, lambda: here.is_set() and pool.running())
        threading.Thread(target=watch, daemon=True).start()
        faulthandler.dump_traceback_later(40, exit=True)
        mutex, lock = ctypes.create_string_buffer(64), ctypes.CDLL(None).pthread_mutex_lock
        here.set()
        for _ in range(2):
            lock(mutex)
    """)


def test_p14_who_holds_the_interpreter_holds_nothing_up():
    program("""
        pool, other, gate = duly.Pool(workers=1), duly.NativePool(workers=1), threading.Event()
        with duly.CancelScope() as scope:
            scope.cancel_on(signal.SIGUSR1)
            tasks = [pool.submit(gate.wait)] + [pool.submit(print, threading.Lock()) for _ in range(5)]
        other.shutdown_on(signal.SIGUSR2)
        until(lambda: pool.running())
        # From here on nobody else gets the interpreter.
        sys.setswitchinterval(100)
        start = time.monotonic()
        send(signal.SIGUSR1)
        while not scope.cancelled and time.monotonic() - start < 20:
            pass
        send(signal.SIGUSR2)
        while not other.closed and time.monotonic() - start < 20:
            pass
        seen = scope.cancelled, other.closed, [task.outcome for task in tasks]
        sys.setswitchinterval(0.005)
        assert seen == (True, True, ["cancelled"] * 6), seen
        gate.set()
        pool.shutdown(20)
    """)


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("later", ["handler", "signal.SIG_IGN"])
@pytest.mark.parametrize(
    "again", ["pool.shutdown_on([signal.<number>])", "", "duly.CancelScope().cancel_on(signal.<number>)"]
)
def test_p14_a_signal_that_signal_signal_took_away_is_brought_back_by_who_binds_or_waits(number, later, again):
    program(
        """
        pool = duly.Pool(workers=1)
        for _ in range(2):
            pool.shutdown_on([signal.<number>])
            signal.signal(signal.<number>, <later>)
            <again>
            if not "<again>":
                assert pool.wait_shutdown(0) is None
        send(signal.<number>)
        assert pool.wait_shutdown(20).drained
        assert pool.signal == signal.<number>
        time.sleep(0.01)
        assert seen == ([signal.<number>] if <later> is handler else []), seen
        """.replace("<again>", again),
        number=number,
        later=later,
    )


def test_p14_a_handler_in_c_that_calls_those_before_it_is_left_where_it_is():
    program("""
        import faulthandler
        pool, gate = duly.Pool(workers=1), threading.Event()
        with open(os.devnull, "w") as null:
            pool.shutdown_on(signal.SIGUSR1)
            faulthandler.register(signal.SIGUSR1, file=null, chain=True)
            pool.shutdown_on(signal.SIGUSR1)
            task = pool.submit(gate.wait)
            send(signal.SIGUSR1)
            until(lambda: pool.closed)
            assert not task.wait(0.1), "one signal is one"
            gate.set()
            assert pool.wait_shutdown(20).drained
            faulthandler.unregister(signal.SIGUSR1)
    """)


@pytest.mark.parametrize("end", ["del pool", "pool.shutdown_on([])"])
def test_p14_what_a_signal_does_by_default_comes_back(end):
    program(
        """
        pool = duly.Pool(workers=1)
        pool.shutdown_on([signal.SIGTERM])
        <end>
        send(signal.SIGTERM)
        time.sleep(20)
        """,
        status=-15,
        end=end,
    )


def test_p14_a_signal_cancels_a_scope_and_says_which():
    program("""
        pool, gate = duly.Pool(workers=1), threading.Event()
        with duly.CancelScope() as scope:
            binder = threading.Thread(target=scope.cancel_on, args=([signal.SIGUSR1, signal.SIGUSR2],))
            binder.start()
            binder.join()
            running, queued = pool.submit(gate.wait), pool.submit(abs, -1)
        assert not scope.cancelled
        send(signal.SIGUSR2)
        assert running.exception(20).reason == queued.exception(20).reason == f"signal {int(signal.SIGUSR2)}"
        assert scope.cancelled and scope.reason == f"signal {int(signal.SIGUSR2)}"
        gate.set()
        assert pool.submit(abs, -1).result(20) == 1, "the pool goes on"
        pool.shutdown(20)
    """)


def test_p14_beside_the_handlers_of_an_event_loop():
    program("""
        async def main():
            loop, heard = asyncio.get_running_loop(), asyncio.Event()
            loop.add_signal_handler(signal.SIGTERM, heard.set)
            pool, gate = duly.Pool(workers=1), threading.Event()
            pool.shutdown_on([signal.SIGTERM, signal.SIGINT])
            task = await pool.asubmit(gate.wait)
            send(signal.SIGTERM)
            await asyncio.wait_for(heard.wait(), 20)
            while not pool.closed:
                await asyncio.sleep(0.001)
            gate.set()
            assert await task
            assert (await asyncio.to_thread(pool.wait_shutdown, 20)).drained
            return "ended"

        assert asyncio.run(main()) == "ended"
    """)


def test_p14_several_pools_share_a_signal_and_one_is_the_new_binding_of_another():
    program("""
        pools = [duly.Pool(workers=1, name=f"p{number}") for number in range(3)]
        for pool in pools:
            pool.shutdown_on([signal.SIGUSR1])
        pools[0].shutdown_on([signal.SIGUSR2])
        send(signal.SIGUSR1)
        assert all(pool.wait_shutdown(20).drained for pool in pools[1:])
        assert not pools[0].closed
        send(signal.SIGUSR2)
        assert pools[0].wait_shutdown(20).drained
        assert [pool.signal for pool in pools] == [signal.SIGUSR2, signal.SIGUSR1, signal.SIGUSR1]
        assert "duly-signals" in threads()
        del pool, pools
        until(lambda: "duly-signals" not in threads())
    """)


@pytest.mark.parametrize("on_fork", ["restart", "shut_down"])
def test_p11_in_a_forked_child_nobody_is_bound(on_fork):
    program(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        pool, scope = duly.Pool(workers=1, on_fork="<on_fork>"), duly.CancelScope()
        pool.shutdown_on([signal.SIGTERM, signal.SIGUSR1])
        scope.cancel_on(signal.SIGTERM)
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)
            ok = pool.signal is None
            # A scope of the parent's is cancelled as it is, and nothing is bound to signals nobody knew.
            scope.cancel_on(signal.SIGHUP)
            scope.cancel_on(signal.SIGINT)
            if "<on_fork>" == "restart":
                pool.shutdown_on(signal.SIGHUP)
                signal.signal(signal.SIGHUP, handler)
                pool.shutdown_on(signal.SIGHUP)
                send(signal.SIGHUP)
                ok = ok and pool.wait_shutdown(20).drained
                until(lambda: seen)
            else:
                try:
                    pool.shutdown_on(signal.SIGUSR1)
                    ok = False
                except duly.ShutDown:
                    pass
            send(signal.SIGTERM if ok else signal.SIGKILL)
            time.sleep(20)
        _, status = os.waitpid(pid, 0)
        assert os.WTERMSIG(status) == signal.SIGTERM, status
        assert not pool.closed and not scope.cancelled
        send(signal.SIGTERM)
        assert pool.wait_shutdown(20).drained
        until(lambda: scope.cancelled)
        """,
        on_fork=on_fork,
    )


def test_p13_a_wait_inside_a_callback_of_the_pool_is_refused():
    program("""
        pool = duly.Pool(workers=1)
        pool.shutdown_on([signal.SIGTERM])
        assert isinstance(pool.submit(pool.wait_shutdown, 20).exception(20), duly.WouldDeadlock)
        pool.shutdown(20)
        assert pool.wait_shutdown(20).drained, "by another shutdown"
        assert pool.signal is None
    """)


@pytest.mark.parametrize(
    ("signals", "error", "match"),
    [
        ("SIGTERM", TypeError, "not str"),
        (None, TypeError, "not NoneType"),
        ([15, "15"], TypeError, "not str"),
        (9, duly.InvalidArgument, "signal 9"),
        ([15, 14], duly.InvalidArgument, "signal 14"),
        ([-1], duly.InvalidArgument, "signal -1"),
        ([10**30], TypeError, "not int"),
    ],
)
def test_p16_what_is_no_signal_is_refused(make_pool, signals, error, match):
    pool = make_pool(workers=1)
    with pytest.raises(error, match=match):
        pool.shutdown_on(signals)
    with pytest.raises(error, match=match):
        duly.CancelScope().cancel_on(signals)


def test_p16_arguments_of_bindings_are_checked(make_pool):
    pool = make_pool(workers=1)
    for grace in (-1.0, float("nan"), float("inf")):
        with pytest.raises(duly.InvalidArgument, match="grace"):
            pool.shutdown_on([15], grace=grace)
    with pytest.raises(duly.InvalidArgument, match="not bound"):
        pool.wait_shutdown(0)
    with pytest.raises(duly.InvalidArgument, match="no signal"):
        duly.CancelScope().cancel_on([])
    pool.shutdown_on([])
    assert pool.signal is None
