// Steps about queues, workers and what a pool tells.
package tests

import (
	"context"
	"errors"
	"runtime"
	"time"

	"duly"
)

// queueKey names a queue within a case.
type queueKey struct{ pool, queue string }

func (w *world) queue(pool, name string) *duly.Queue {
	if name == "default" {
		return find(w, w.pools, "pool", pool).DefaultQueue()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	queue := w.queues[queueKey{pool, name}]
	if queue == nil {
		// Of another pool of the case.
		for key, other := range w.queues {
			if key.queue == name {
				queue = other
			}
		}
	}
	if queue == nil {
		wrong("there is no queue %q", name)
	}
	return queue
}

func built(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, duly.ErrInvalidArgument):
		return "invalid_argument"
	case errors.Is(err, duly.ErrShutDown):
		return "shut_down"
	}
	return err.Error()
}

func (w *world) makeQueue(f fields) {
	poolName, name, expect := take(f, "pool", "pool"), take(f, "queue", ""), take(f, "expect", "ok")
	var options []duly.Option
	for key, option := range map[string]func(int) duly.Option{"capacity": duly.Capacity, "max_blocked_producers": duly.MaxBlockedProducers,
		"weight": duly.Weight, "limit": duly.Limit, "key_limit": duly.KeyLimit, "key_capacity": duly.KeyCapacity} {
		if f.has(key) {
			options = append(options, option(int(take(f, key, int64(0)))))
		}
	}
	if f.has("overflow") {
		options = append(options, duly.OnOverflow(policies[take(f, "overflow", "")]))
	}
	queue, err := find(w, w.pools, "pool", poolName).AddQueue(name, options...)
	if err == nil {
		w.mu.Lock()
		w.queues[queueKey{poolName, name}] = queue
		w.mu.Unlock()
	}
	same("the answer", built(err), expect)
}

func (w *world) setQueue(f fields) {
	queue, expect := w.queue(take(f, "pool", "pool"), take(f, "queue", "")), take(f, "expect", "ok")
	none := map[string]bool{}
	for _, which := range f.texts("unlimited") {
		none[which] = true
	}
	var first error
	for _, one := range []struct {
		key string
		set func(int) error
	}{{"capacity", queue.SetCapacity}, {"weight", queue.SetWeight}, {"limit", queue.SetLimit}, {"key_limit", queue.SetKeyLimit},
		{"key_capacity", queue.SetKeyCapacity}} {
		var err error
		if none[one.key] {
			err = one.set(duly.NoLimit)
		}
		if f.has(one.key) {
			err = one.set(int(take(f, one.key, int64(0))))
		}
		if first == nil {
			first = err
		}
	}
	same("the answer", built(first), expect)
}

func (w *world) queueStats(f fields) {
	queue := w.queue(take(f, "pool", "pool"), take(f, "queue", ""))
	expected, paused, hasPaused := map[string]int64{}, false, f.has("paused")
	if hasPaused {
		paused = take(f, "paused", false)
	}
	for _, key := range []string{"submitted", "queued", "running", "blocked_producers"} {
		if f.has(key) {
			expected[key] = take(f, key, int64(0))
		}
	}
	settle(func() {
		s := queue.Stats()
		numbers := map[string]uint64{"submitted": s.Submitted, "queued": s.Queued, "running": s.Running, "blocked_producers": s.BlockedProducers}
		for key, number := range expected {
			same(key, int64(numbers[key]), number)
		}
		if hasPaused {
			same("paused", s.Paused, paused)
		}
	})
}

func labels(callbacks []duly.Callback) (labels []string) {
	for _, callback := range callbacks {
		labels = append(labels, callback.Label)
	}
	return labels
}

// hook: how often the pool has told of something. What nobody can look at any more is found by the collector.
func (w *world) hook(f fields) {
	pool, kind, count := take(f, "pool", "pool"), take(f, "hook", ""), take(f, "count", int64(0))
	settle(func() {
		if kind == "unobserved" {
			runtime.GC()
		}
		w.mu.Lock()
		told := w.told[pool+"/"+kind]
		w.mu.Unlock()
		same("the events", told, count)
	})
}

// dropPool forgets the last handle of a pool, which the collector has to find.
func (w *world) dropPool(name string) {
	find(w, w.pools, "pool", name)
	w.mu.Lock()
	delete(w.pools, name)
	w.mu.Unlock()
	for i := 0; i < 3; i++ {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
}

func (w *world) every(f fields) {
	pool, poolName := find(w, w.pools, "pool", take(f, "pool", "pool")), "pool"
	name, expect := take(f, "periodic", ""), take(f, "expect", "accepted")
	ctx := context.Background()
	if f.has("token") {
		ctx = find(w, w.tokens, "token", take(f, "token", "")).ctx
	}
	options := w.common(poolName, f)
	if take(f, "missed", "skip") == "catch_up" {
		options = append(options, duly.CatchUp())
	}
	if take(f, "overlap", false) {
		options = append(options, duly.Overlap())
	}
	if f.has("max_failures") {
		options = append(options, duly.MaxFailures(int(take(f, "max_failures", int64(0)))))
	}
	period := f.ms("period_ms", 0)
	r := w.newRecord(name)
	run := w.counted(name, r, w.callback(pool, f))
	periodic, err := duly.Every(ctx, pool, period, func(ctx context.Context) error {
		_, err := run(ctx)
		return err
	}, options...)
	answer := "accepted"
	if err != nil {
		answer = refusal(err)
	} else {
		w.mu.Lock()
		w.periodics[name] = periodic
		w.mu.Unlock()
	}
	same("the answer", answer, expect)
}

func (w *world) periodicStats(f fields) {
	periodic := find(w, w.periodics, "periodic task", take(f, "periodic", ""))
	expected := map[string]int64{}
	for _, key := range []string{"runs", "runs_at_least", "failures", "missed", "missed_at_least", "active"} {
		if f.has(key) {
			expected[key] = take(f, key, int64(0))
		}
	}
	settle(func() {
		s := periodic.Stats()
		for key, number := range expected {
			switch key {
			case "runs":
				same(key, int64(s.Runs), number)
			case "failures":
				same(key, int64(s.Failures), number)
			case "missed":
				same(key, int64(s.Missed), number)
			case "active":
				same(key, int64(s.Active), number)
			case "runs_at_least":
				same(key, int64(s.Runs) >= number, true)
			case "missed_at_least":
				same(key, int64(s.Missed) >= number, true)
			}
		}
	})
}

func (w *world) waitPeriodic(f fields) {
	periodic := find(w, w.periodics, "periodic task", take(f, "periodic", ""))
	ctx, cancel := context.WithTimeout(context.Background(), f.ms("timeout_ms", 10_000))
	defer cancel()
	err := periodic.Wait(ctx)
	var ended *duly.TaskError
	answer := "none"
	switch {
	case errors.As(err, &ended):
		answer = ended.Outcome.String()
	case errors.Is(err, duly.ErrShutDown):
		answer = "shut_down"
	case err == ctx.Err():
		answer = "timed_out"
	}
	same("the answer", answer, take(f, "expect", ""))
}
