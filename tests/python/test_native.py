"""P1, P2, P6, P8, P12, P16: callbacks in native code, on workers that never take the interpreter."""

import asyncio
import contextlib
import ctypes
import gc
import pathlib
import sys
import threading
import time
import weakref

import duly
import pytest
from conftest import LONGER, maker, until

libc = ctypes.CDLL(None)
Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)


@pytest.fixture
def make_native():
    yield from maker(duly.NativePool, lambda pool: pool.shutdown(5))


def atoi():
    """A C function `int (char *)`, seen as `int (void *)`: what it parses is its status."""
    return ctypes.cast(libc.atoi, Callback)


def nap(milliseconds):
    """A C function that sleeps: poll() of no descriptors; its data is what poll takes first."""
    usleep = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(("usleep", libc))
    return usleep, milliseconds * 1000


class Gate:
    """A C function that waits until it is opened: sem_wait of a semaphore."""

    def __init__(self):
        self.semaphore = ctypes.create_string_buffer(64)
        libc.sem_init(self.semaphore, 0, 0)
        self.wait = ctypes.cast(libc.sem_wait, Callback), self.semaphore

    def open(self):
        libc.sem_post(self.semaphore)


@pytest.fixture
def native_gate(make_native):
    gate = Gate()
    yield gate
    for _ in range(10):
        gate.open()


def test_p01_a_function_gets_its_data_and_tells_by_its_status(make_native):
    pool = make_native(workers=2)
    zero, seven = bytearray(b"0\0"), bytearray(b"7\0")
    task = pool.submit(atoi(), zero)
    assert task.result(5) is zero, "what it worked on"
    failed = pool.options(label="seven").submit(atoi(), seven)
    with pytest.raises(duly.NativeFailed, match="7") as error:
        failed.result(5)
    assert error.value.code == 7
    assert failed.outcome == "failed"
    assert pool.try_submit(atoi(), ctypes.create_string_buffer(b"0")).wait(5)
    tasks = [pool.submit(atoi(), bytearray(b"%d\0" % (number % 2))) for number in range(200)]
    assert duly.wait_all(tasks, 10)
    assert [task.outcome for task in tasks] == ["succeeded", "failed"] * 100
    assert [bytes(value) for value in pool.map(atoi(), [bytearray(b"0\0")] * 5)] == [b"0\0"] * 5
    assert pool.stats().books_balance()
    report = pool.shutdown(5)
    assert report.drained
    assert report.threads_left == 0


@pytest.mark.thread_unsafe
def test_p03_workers_never_take_the_interpreter(make_native):
    """They run while somebody holds it and does not let go, and Python knows nothing of them."""
    pool = make_native(workers=2, capacity=100, name="nat")
    before = sys.getswitchinterval()
    sys.setswitchinterval(100)
    try:
        usleep, span = nap(20)
        start = time.monotonic()
        naps = [pool.submit(usleep, span) for _ in range(20)]
        # Without a system call or a wait, so that nobody else gets the interpreter.
        while not all(task.done() for task in naps) and time.monotonic() - start < 20:
            pass
        ended = [task.done() for task in naps]
    finally:
        sys.setswitchinterval(before)
    assert all(ended)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("nat")]
    until(lambda: {"nat-0", "nat-1"} <= thread_names())


def thread_names():
    names = set()
    for comm in pathlib.Path("/proc/self/task").glob("*/comm"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended just now
            names.add(comm.read_text().strip())
    return names


def test_p02_deadlines_scopes_and_replacements_as_anywhere(make_native, native_gate):
    pool = make_native(workers=1, replace_after=0.05)
    for timeout in LONGER:
        stuck = pool.options(timeout=timeout).submit(*native_gate.wait)
        assert isinstance(stuck.exception(timeout + 5), duly.DeadlineExceeded)
        if pool.stats().overdue:
            break  # it has begun
    assert pool.submit(atoi(), bytearray(b"0\0")).wait(10), "by a replacement"
    with duly.CancelScope() as scope:
        under = pool.options(delay=30).submit(atoi(), None)
    scope.cancel("no more")
    assert under.exception(5).reason == "no more"
    assert not stuck.released(0)
    native_gate.open()
    assert stuck.released(5)
    until(lambda: pool.stats().late == 1)


def test_p01_callbacks_of_python_are_told_of_native_tasks(make_native, caplog):
    pool = make_native(workers=1)
    told, usleep, span = [], *nap(30)
    pool.submit(usleep, span).add_done_callback(lambda task: told.append((task.outcome, threading.current_thread())))
    until(lambda: told)
    assert told[0][0] == "succeeded"

    async def main():
        data = bytearray(b"0\0")
        assert await pool.run(atoi(), data) is data
        assert await (await pool.asubmit(usleep, span)) == span
        with pytest.raises(duly.NativeFailed):
            await pool.run(atoi(), bytearray(b"3\0"))

    asyncio.run(main())
    with duly.Group(pool) as group:
        group.submit(usleep, 1)
    pool.options(label="unseen").submit(atoi(), bytearray(b"9\0"))
    until(lambda: "unseen" in caplog.text)
    assert "returned 9" in caplog.text


def test_p04_who_waits_for_the_release_of_a_task_waits_for_nothing_else(make_pool, make_native):
    made, gone = [], []

    class Slow(bytearray):
        def __del__(self):
            time.sleep(0.005)
            gone.append(1)

    # Whoever lets go of their data has something to do all the time.
    busy, stop = make_native(workers=1), make_native.gate()

    def feed():
        while not stop.is_set():
            if len(made) - len(gone) < 20:
                made.append(1)
                busy.submit(atoi(), Slow(b"0\0"))
            else:
                time.sleep(0.001)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        until(lambda: busy.stats().succeeded > 10)
        other = make_pool(workers=1)
        assert [other.submit(int).released(10) for _ in range(3)] == [True] * 3
        assert busy.submit(atoi(), bytearray(b"0\0")).released(10)
    finally:
        stop.set()
        feeder.join(20)


def test_p13_a_done_callback_may_wait_for_a_release(make_native, native_gate):
    pool, told = make_native(workers=1), []
    task = pool.submit(*native_gate.wait)
    task.add_done_callback(lambda task: told.append(task.released(10)))
    native_gate.open()
    until(lambda: told)
    assert told == [True]


class Data(bytearray):
    pass


@pytest.mark.parametrize("how", ["ended", "dropped", "cancelled", "shut down"])
def test_p06_data_stays_where_it_is_while_it_is_used_and_is_let_go_of_then(make_native, native_gate, how):
    pool = make_native(workers=1)
    data = Data(b"0\0")
    there = weakref.ref(data)
    if how == "dropped":
        blocking = pool.submit(*native_gate.wait)
    task = pool.submit(atoi(), data) if how in ("ended", "dropped") else pool.options(delay=30).submit(atoi(), data)
    if how != "ended":
        with pytest.raises(BufferError):
            data.extend(b"elsewhere")
    del data
    if how == "dropped":
        del task
        native_gate.open()
        blocking.result(5)
    elif how == "cancelled":
        task.cancel()
    elif how == "shut down":
        pool.shutdown(0)
    if how not in ("dropped",):
        assert task.released(5)
        assert (there() is None) == (how != "ended"), "it is the value"
        del task
    gc.collect()
    until(lambda: there() is None)


@pytest.mark.thread_unsafe
def test_p03_runs_of_a_periodic_task_never_take_the_interpreter(make_native):
    pool = make_native(workers=1, name="nat-every")
    beat = pool.every(0.005).submit(*nap(1))
    until(lambda: beat.stats().runs)
    before = sys.getswitchinterval()
    sys.setswitchinterval(100)
    try:
        start, runs = time.monotonic(), beat.stats().runs
        # Without a system call or a wait, so that nobody else gets the interpreter.
        while beat.stats().runs < runs + 5 and time.monotonic() - start < 20:
            pass
        runs = beat.stats().runs - runs
    finally:
        sys.setswitchinterval(before)
    assert runs >= 5, "in 20 s"
    assert beat.end is None
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("nat-every")]
    assert beat.cancel()
    assert beat.wait(5) == "cancelled"


def test_p02_a_periodic_task_is_cancelled_and_ends_with_its_scope_and_its_pool(make_native):
    pool = make_native(workers=2)
    with duly.CancelScope() as scope:
        under = pool.every(0.005).submit(*nap(1))
    cancelled = pool.options(label="tick").every(0.005).submit(*nap(1))
    goes_on = pool.every(0.005).submit(*nap(1))
    until(lambda: under.stats().runs > 1 and cancelled.stats().runs > 1)
    assert cancelled.label == "tick"
    assert cancelled.cancel("enough")
    scope.cancel()
    assert (under.wait(5), cancelled.wait(5)) == ("cancelled", "cancelled")
    until(lambda: under.stats().active == cancelled.stats().active == 0)
    stopped = under.stats().runs, cancelled.stats().runs
    runs = goes_on.stats().runs
    until(lambda: goes_on.stats().runs > runs + 2)
    assert (under.stats().runs, cancelled.stats().runs) == stopped
    report = pool.shutdown(5)
    assert goes_on.wait(5) == "shut_down"
    assert report.threads_left == 0
    assert report.stats.books_balance()
    with pytest.raises(duly.ShutDown):
        pool.every(1).submit(*nap(1))


def test_p01_runs_of_a_periodic_task_tell_by_their_status(make_native, caplog):
    pool = make_native(workers=1)
    data = bytearray(b"0\0")
    beat = pool.options(label="probe").every(0.005, max_failures=3).submit(atoi(), data)
    until(lambda: beat.stats().runs > 3)
    assert beat.stats().failures == 0
    data[0:1] = b"7"
    assert beat.wait(5) == "failed"
    assert beat.stats().failures == 3
    until(lambda: "returned 7" in caplog.text)
    assert pool.submit(atoi(), bytearray(b"0\0")).wait(5)


@pytest.mark.parametrize("how", ["cancelled", "shut down", "refused", "dropped"])
def test_p06_data_of_a_periodic_task_is_let_go_of_once_no_run_can_use_it(make_native, how):
    """Each run waits for a semaphore, which stands in the data."""
    pool = make_native(workers=1) if how != "dropped" else duly.NativePool(workers=1, drop_drain=0)
    sem_wait = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(("sem_wait", libc))
    data = Data(bytes(32))
    there, pinned = weakref.ref(data), ctypes.c_char.from_buffer(data)
    address = ctypes.c_void_p(ctypes.addressof(pinned))
    del pinned
    assert libc.sem_init(address, 0, 0) == 0
    if how == "refused":
        pool.close()
        with pytest.raises(duly.ShutDown):
            pool.every(0.005).submit(sem_wait, data)
        data.extend(b"elsewhere")
        del data
    else:
        beat = pool.every(0.005, overlap=True).submit(sem_wait, data)
        with pytest.raises(BufferError):
            data.extend(b"elsewhere")
        del data
        until(lambda: beat.stats().runs == 1)
        if how == "cancelled":
            beat.cancel()
            assert beat.wait(5) == "cancelled"
        elif how == "shut down":
            assert pool.shutdown(0).threads_left == 1
            assert beat.end == "shut_down"
        else:
            del pool
            until(lambda: beat.end == "shut_down")
        gc.collect()
        assert there() is not None, "a run waits in it"
        until(lambda: how == "cancelled" or beat.stats().active == 1)
        libc.sem_post(address)
    gc.collect()
    until(lambda: there() is None)


def test_p12_it_may_run_on_the_callers_thread(make_native):
    pool = make_native(workers=1, capacity=1, overflow="caller_runs")
    usleep, span = nap(200)
    tasks = [pool.submit(usleep, span) for _ in range(4)]
    assert all(task.wait(5) for task in tasks)
    assert pool.shutdown(5).stats.succeeded == 4


def test_p01_pointers_of_every_kind(make_native):
    pool = make_native(workers=1)
    address = ctypes.cast(libc.atoi, ctypes.c_void_p).value
    new = ctypes.pythonapi.PyCapsule_New
    new.argtypes, new.restype = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p], ctypes.py_object
    name, text = b"an atoi", ctypes.create_string_buffer(b"5")
    capsule, data = new(address, name, None), new(ctypes.addressof(text), None, None)

    def code(function, data):
        return pool.submit(function, data).exception(5).code

    assert code(address, text) == 5
    assert code(capsule, data) == 5
    assert code(atoi(), ctypes.addressof(text)) == 5
    assert code(atoi(), ctypes.cast(text, ctypes.c_void_p)) == 5
    assert code(atoi(), ctypes.pointer(text)) == 5
    seen = []
    assert pool.submit(Callback(lambda data: seen.append(data) or 0)).result(5) is None, (
        "ctypes takes the interpreter itself"
    )
    assert seen == [None]


def test_p01_a_pointer_of_cffi(make_native):
    cffi = pytest.importorskip("cffi")
    pool, ffi = make_native(workers=1), cffi.FFI()
    ffi.cdef("int atoi(const char *); void usleep(unsigned);")
    function = ffi.cast("int (*)(void *)", ffi.addressof(ffi.dlopen(None), "atoi"))
    text = ffi.new("char[]", b"6")
    assert pool.submit(function, text).exception(5).code == 6
    nothing = ffi.cast("void (*)(void *)", ffi.addressof(ffi.dlopen(None), "usleep"))
    assert pool.submit(nothing, 1).result(5) == 1
    with pytest.raises(TypeError, match="no pointer to a function"):
        pool.submit(text)
    with pytest.raises(TypeError, match="double"):
        pool.submit(ffi.cast("double (*)(void *)", function))


def test_p01_a_cfunc_of_numba(make_native):
    numba = pytest.importorskip("numba")
    numpy = pytest.importorskip("numpy")
    pool = make_native(workers=2)

    @numba.cfunc("int32(CPointer(float64))")
    def double(values):
        for index in range(1000):
            values[index] *= 2
        return 0

    arrays = [numpy.full(1000, float(number)) for number in range(20)]
    for number, array in enumerate(pool.map(double, arrays)):
        assert array is arrays[number]
        assert (array == 2.0 * number).all()
    with pytest.raises(TypeError, match="float64"):
        pool.submit(numba.cfunc("float64(voidptr)")(lambda _: 1.0))


@pytest.mark.parametrize(
    ("function", "data", "error", "match"),
    [
        (abs, None, TypeError, "no native callback"),
        (lambda: 0, None, TypeError, r"duly\.Pool"),
        (0, None, duly.InvalidArgument, "null pointer"),
        (-1, None, duly.InvalidArgument, "no address"),
        (2**64, None, duly.InvalidArgument, "no address"),
        (True, None, TypeError, "no native callback"),
        (ctypes.pythonapi.Py_IncRef, None, TypeError, "needs the interpreter"),
        (ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_void_p)(("atof", libc)), None, TypeError, "returns"),
        (atoi(), b"read-only", TypeError, "writable buffer"),
        (atoi(), "text", TypeError, "no data"),
        (atoi(), -1, duly.InvalidArgument, "no address"),
    ],
)
def test_p16_what_is_no_native_callback_is_refused(make_native, function, data, error, match):
    pool = make_native(workers=1)
    with pytest.raises(error, match=match):
        pool.submit(function, data)
    with pytest.raises(error, match=match):
        pool.options(label="x").try_submit(function, data)
    assert pool.stats().submitted == 0


def test_p16_arguments_of_a_native_pool_are_checked(make_native):
    pool = make_native(workers=1)
    with pytest.raises(TypeError, match="one argument"):
        pool.submit(atoi(), None, None)
    with pytest.raises(TypeError, match="keyword"):
        pool.submit(atoi(), data=None)
    with pytest.raises(TypeError, match="one argument"):
        pool.every(1).submit(atoi(), None, None)
    with pytest.raises(TypeError, match="no native callback"):
        pool.options(label="x").every(1).submit(abs)
    with pytest.raises(duly.InvalidArgument, match="period"):
        pool.every(-1).submit(atoi())
    with pytest.raises(TypeError, match="initializer"):
        duly.NativePool(1, initializer=int)
