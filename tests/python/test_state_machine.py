"""P1, P2, P5, P12: a pool against a model of it. One worker sits in a callback, so the model knows what is queued; what
is submitted, cancelled, shed and run, in any order that hypothesis thinks of, ends in both alike."""

import threading

import duly
import pytest
from conftest import until

hypothesis = pytest.importorskip("hypothesis")
stateful = pytest.importorskip("hypothesis.stateful")
st = hypothesis.strategies

CAPACITY = 3
OUTCOMES = ("succeeded", "failed", "cancelled", "shed", "abandoned")


class One:
    """A task as the model knows it."""

    def __init__(self, number, task, fails, scope, queue):
        self.number, self.task, self.fails, self.scope, self.queue = number, task, fails, scope, queue
        self.outcome = None


class PoolMachine(stateful.RuleBasedStateMachine):
    @stateful.initialize(policy=st.sampled_from(["reject", "drop_newest", "drop_oldest"]))
    def begin(self, policy):
        self.policy, self.closed, self.number = policy, False, 0
        self.pool = duly.Pool(1, capacity=CAPACITY, overflow=policy, max_replacements=0)
        self.other = self.pool.queue("other", capacity=CAPACITY, overflow=policy)
        self.all, self.queued, self.ran, self.wanted = [], {"default": [], "other": []}, [], []
        self.scopes = [duly.CancelScope() for _ in range(2)]
        self.block()

    def block(self):
        """Has the worker sit in a callback."""
        self.gate, started = threading.Event(), threading.Event()
        gate = self.gate
        task = self.pool.submit(lambda: started.set() or gate.wait(30))
        assert started.wait(30)
        self.blocking = One(None, task, False, None, "default")
        self.all.append(self.blocking)

    def work(self, number, fails):
        self.ran.append(number)
        if fails:
            raise LookupError(number)
        return number

    @stateful.rule(
        count=st.integers(min_value=1, max_value=CAPACITY + 1),
        fails=st.booleans(),
        scope=st.sampled_from([None, 0, 1]),
        queue=st.sampled_from(["default", "other"]),
    )
    def submit(self, count, fails, scope, queue):
        for _ in range(count):
            self.submit_one(fails, scope, queue)

    def submit_one(self, fails, scope, queue):
        self.number += 1
        options = {"queue": self.other if queue == "other" else self.pool.default_queue}
        if scope is not None:
            options["scope"] = self.scopes[scope]
        queued = self.queued[queue]
        bound, refused = self.pool.options(**options), None
        try:
            task = bound.submit(self.work, self.number, fails)
        except duly.DulyError as error:
            refused = type(error)
        if scope is not None and self.scopes[scope].cancelled:
            assert refused is duly.Cancelled
            return
        if self.closed:
            assert refused is duly.ShutDown
            return
        if len(queued) == CAPACITY and self.policy == "reject":
            assert refused is duly.QueueFull
            return
        assert refused is None
        one = One(self.number, task, fails, scope, queue)
        self.all.append(one)
        if len(queued) == CAPACITY and self.policy == "drop_newest":
            one.outcome = "shed"
            return
        if len(queued) == CAPACITY:
            queued.pop(0).outcome = "shed"
        queued.append(one)

    @stateful.rule(pick=st.integers(min_value=0))
    def cancel(self, pick):
        one = self.all[pick % len(self.all)]
        assert one.task.cancel("by the model") == (one.outcome is None)
        self.cancelled(one)

    def cancelled(self, one):
        if one.outcome is None:
            one.outcome = "cancelled"
            if one in self.queued[one.queue]:
                self.queued[one.queue].remove(one)

    @stateful.rule(scope=st.integers(min_value=0, max_value=1))
    def cancel_scope(self, scope):
        self.scopes[scope].cancel("scope")
        for queue in self.queued.values():
            for one in list(queue):
                if one.scope == scope:
                    self.cancelled(one)

    @stateful.rule()
    def new_scopes(self):
        self.scopes = [duly.CancelScope() for _ in range(2)]
        for one in self.all:
            one.scope = None

    @stateful.rule()
    @stateful.precondition(lambda self: not self.closed)
    def run_what_is_queued(self):
        self.let_go()
        self.block()

    def let_go(self):
        """Opens the gate: what is queued runs, in order of each queue."""
        self.gate.set()
        if self.blocking.outcome is None:
            self.blocking.outcome = "succeeded"
        before = len(self.ran)
        expected = {name: [one.number for one in queue] for name, queue in self.queued.items()}
        for queue in self.queued.values():
            for one in queue:
                assert one.task.wait(30)
                one.outcome = "failed" if one.fails else "succeeded"
                assert isinstance(one.task.exception(0), LookupError) == one.fails
                if not one.fails:
                    assert one.task.result(0) == one.number
            queue.clear()
        ran = self.ran[before:]
        for numbers in expected.values():
            assert [number for number in ran if number in numbers] == numbers, "in order of arrival"
        assert len(ran) == sum(map(len, expected.values())), "each once, and nothing else"
        assert self.blocking.task.released(30)

    @stateful.rule()
    @stateful.precondition(lambda self: len(self.all) > 6)
    def close(self):
        self.pool.close()
        self.closed = True

    @stateful.invariant()
    def both_agree(self):
        if not hasattr(self, "pool"):
            return
        for one in self.all:
            assert one.task.outcome == one.outcome, one.number
        stats = self.pool.stats()
        assert stats.books_balance()
        assert stats.queued == sum(map(len, self.queued.values()))
        assert stats.running == (self.blocking.outcome is None)
        assert stats.submitted == len(self.all)
        for name in OUTCOMES:
            assert getattr(stats, name) == sum(one.outcome == name for one in self.all), name

    def teardown(self):
        if not hasattr(self, "pool"):
            return
        self.let_go()
        report = self.pool.shutdown(30)
        assert report.drained
        assert report.threads_left == 0
        self.both_agree()
        for one in self.all:
            assert one.task.released(30)
        until(lambda: self.pool.stats().overdue == 0)


settings = hypothesis.settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)


@pytest.mark.thread_unsafe
@pytest.mark.timeout(300)
def test_p12_a_pool_does_what_its_model_does():
    stateful.run_state_machine_as_test(PoolMachine, settings=settings)
