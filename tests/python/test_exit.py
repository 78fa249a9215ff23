"""P4, P9: a process that exits drains its pools, and never hangs on a callback that does not end."""

import subprocess
import sys
import textwrap
import time

import pytest


def run(script, seconds=30.0, warnings="error"):
    """Runs a script in a fresh interpreter: its exit status, its output, how long it took."""
    start = time.monotonic()
    script = "import atexit, os, sys, threading, time\nimport duly\n" + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-W", warnings, "-c", script],
        capture_output=True,
        timeout=seconds,
        check=False,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr, time.monotonic() - start


STUCK = {
    "asleep": "time.sleep(3600)",
    "waiting": "threading.Event().wait()",
    "busy": "\n        while True: pass",
    # It comes back for the interpreter again and again, also while that goes.
    "dozing": "\n        while True: time.sleep(0.0005)",
}


@pytest.mark.parametrize("how", STUCK)
def test_p09_exit_never_hangs_on_a_stuck_callback(how):
    status, out, err, took = run(f"""
    pool = duly.Pool(workers=2, exit_timeout=0.3)
    started = threading.Event()
    def stuck():
        started.set()
        {STUCK[how]}
    atexit.register(print, "atexit ran")
    pool.options(label="the stuck one").submit(stuck)
    started.wait(5)
    sys.stdout.write("not flushed yet")
    sys.exit(7)
    """)
    assert status == 7, err
    assert out == "not flushed yetatexit ran\n"
    assert "the stuck one" in err
    assert "Traceback" not in err
    assert "Fatal" not in err
    assert 0.3 <= took < 8


def test_p09_exit_after_a_shutdown_that_left_threads_behind_is_silent():
    status, out, err, _ = run("""
    pool = duly.Pool(workers=3)
    started = threading.Barrier(4)
    def dozing():
        started.wait()
        while True: time.sleep(0.0005)
    for _ in range(3):
        pool.options(timeout=0.1).submit(dozing)
    started.wait(5)
    print(pool.shutdown(0.05).threads_left)
    """)
    assert (status, out, err) == (0, "3\n", "")


def test_p09_exit_drains_for_as_long_as_tasks_keep_ending():
    status, out, err, _ = run("""
    pool = duly.Pool(workers=1, exit_timeout=0.5)
    for number in range(10):
        pool.submit(lambda number=number: time.sleep(0.1) or print(number, flush=True))
    """)
    assert (status, err) == (0, "")
    assert out.split() == [str(number) for number in range(10)]


def test_p09_exit_refuses_what_comes_too_late():
    status, out, err, _ = run("""
    pool = duly.Pool(workers=1)
    def late():
        try:
            pool.submit(int)
        except duly.ShutDown as error:
            print("refused", error.task)
    atexit.register(late)
    def callback():
        time.sleep(0.2)
        late()
    pool.submit(callback)
    """)
    assert (status, out, err) == (0, "refused int\nrefused int\n", "")


def test_p09_exit_drains_a_pool_that_was_dropped():
    script = """
    def main():
        pool = duly.Pool(workers=1, exit_timeout=EXIT_TIMEOUT)
        for number in range(3):
            pool.options(label=str(number)).submit(lambda: time.sleep(0.2) or print("ended", flush=True))
    main()
    """
    status, out, err, _ = run(script.replace("EXIT_TIMEOUT", "5"))
    assert (status, out, err) == (0, "ended\nended\nended\n", "")
    status, out, err, _ = run(script.replace("EXIT_TIMEOUT", "0.05"))
    assert (status, out) == (0, "")
    assert "abandoned 3 tasks at exit" in err


def test_p09_a_pool_dropped_by_its_own_callback():
    status, out, err, took = run("""
    def callback(pool):
        time.sleep(0.1)
        del pool[0]
        print("ended", flush=True)
    pool = [duly.Pool(workers=1)]
    task = pool[0].submit(callback, pool)
    task.result()
    end = time.monotonic() + 5
    while threading.active_count() > 1 and time.monotonic() < end:
        time.sleep(0.001)
    print(threading.active_count())
    """)
    assert (status, out, err) == (0, "ended\n1\n", "")
    assert took < 8


def test_p09_exit_with_a_dropped_pool_or_none_at_all():
    assert run("")[:3] == (0, "", "")
    assert run("duly.Pool()")[:3] == (0, "", "")
    assert run("pool = duly.Pool(); pool.submit(int); del pool")[:3] == (0, "", "")


def test_p09_an_unhandled_error_keeps_its_exit_status():
    status, _, err, took = run("""
    pool = duly.Pool(workers=1, exit_timeout=0.1)
    pool.submit(time.sleep, 3600)
    raise ValueError("unhandled")
    """)
    assert status == 1
    assert "unhandled" in err
    assert took < 8


def test_p04_ctrl_c_ends_the_drain_at_exit():
    status, _, err, took = run("""
    import signal
    pool = duly.Pool(workers=1, exit_timeout=None)
    pool.submit(time.sleep, 3600)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    """)
    assert "KeyboardInterrupt" in err
    assert took < 10
    assert status in (0, 1, 130, -2)


def test_p11_a_forked_child_exits_at_once_and_an_inherited_pool_is_shut_down():
    script = """
    pool = duly.Pool(workers=1, exit_timeout=20)
    gate = threading.Event()
    started = threading.Event()
    task = pool.submit(lambda: started.set() or gate.wait() and "parent")
    pool.submit(int)
    started.wait(5)
    child = os.fork()
    if child == 0:
        try:
            pool.submit(int)
        except duly.ShutDown as error:
            assert "inherited through fork" in str(error)
            assert duly.Pool(workers=1).submit(int).result(5) == 0
            sys.exit(7)
    print(os.waitpid(child, 0)[1] >> 8)
    gate.set()
    print(task.result(5))
    """
    # From 3.12 on a fork with threads is worth a warning.
    status, out, err, took = run(script, warnings="ignore")
    assert (status, out) == (0, "7\nparent\n"), err
    assert took < 10


def test_p06_destructors_that_run_while_the_interpreter_goes():
    for _ in range(5):
        status, _, err, _ = run("""
        pool = duly.Pool(workers=2, exit_timeout=0)
        class Slow:
            def __del__(self):
                time.sleep(0.0005)
        for number in range(300):
            task = pool.submit(lambda _: time.sleep(0.03), Slow())
            if number % 2:
                task.cancel()
        sys.exit(3)
        """)
        assert status == 3, err
        assert "Fatal" not in err


@pytest.mark.parametrize("seed", range(24))
def test_p09_exits_with_everything_in_flight(seed):
    status, _, err, _ = run(f"""
    import random
    chance = random.Random({seed})

    def spin():
        while True: pass

    def doze():
        while True: time.sleep(0.001)

    def wait():
        threading.Event().wait()

    def hook():
        duly.current_task().on_cancel(doze)
        doze()

    def leave():
        raise KeyboardInterrupt

    def quick():
        time.sleep(0.001)

    pool = duly.Pool(chance.randint(1, 4), exit_timeout=chance.choice([0.0, 0.02, 0.1]), replace_after=0.01)
    tasks = []
    for _ in range(chance.randint(0, 20)):
        callback = chance.choice([spin, doze, wait, hook, leave, quick, quick])
        task = pool.options(timeout=chance.choice([None, 0.01, 0.05])).submit(callback)
        task.add_done_callback(lambda task: time.sleep(0.002))
        if chance.random() < 0.3:
            task.cancel()
        if chance.random() < 0.5:
            tasks.append(task)
    for task in tasks[:3]:
        threading.Thread(target=task.wait, daemon=True).start()
    if chance.random() < 0.3:
        pool.shutdown(chance.choice([0, 0.01]))
    elif chance.random() < 0.3:
        del pool
    time.sleep(chance.random() * 0.02)
    sys.exit(3)
    """)
    assert status == 3, err
    assert "Traceback" not in err
    assert "Fatal" not in err
