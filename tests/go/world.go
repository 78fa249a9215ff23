// The interpreter of the conformance table in Go: does the steps of a case, then the checks at its end.
//
// Keeps true: every wait here has an end, so a case that would hang fails; bounds of time are measured around the step itself,
// and "never early" has no slack; an unknown field, step or word is an error. ../conformance/README.md tells the format.
package tests

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"duly"
)

const (
	patience = 10 * time.Second
	settling = 5 * time.Second
	joining  = 20 * time.Second
)

type failure struct {
	code    int64
	message string
}

func (f *failure) Error() string { return f.message }

// A record is what is known of one task.
type record struct {
	mu        sync.Mutex
	task      *duly.Task[int64]
	outcomes  map[string]bool
	starts    atomic.Int64
	cause     atomic.Value
	completed atomic.Value
	// How often what its callback captures was collected.
	drops *atomic.Int64
}

// What a callback captures. It is released when the collector can have it.
type held struct {
	drops *atomic.Int64
	_     [4]int
}

func (r *record) captured() *held {
	h := &held{drops: r.drops}
	runtime.SetFinalizer(h, func(h *held) { h.drops.Add(1) })
	return h
}

// here: it is used up to here.
func (h *held) here() { runtime.KeepAlive(h) }

func (w *world) newRecord(name string) *record {
	r := &record{drops: new(atomic.Int64)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.records[name] = r
	return r
}

// begins notes that a callback has started.
func (w *world) begins(name string, r *record) {
	w.mu.Lock()
	w.order = append(w.order, name)
	w.mu.Unlock()
	r.starts.Add(1)
}

func (r *record) dropped(count int64) {
	settle(func() {
		if r.drops.Load() < count {
			runtime.GC()
		}
		same("the releases of what is captured", r.drops.Load(), count)
	})
}

func (r *record) saw(outcome string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.outcomes == nil {
		r.outcomes = map[string]bool{}
	}
	r.outcomes[outcome] = true
	if len(r.outcomes) > 1 {
		wrong("one task, but %v", r.outcomes)
	}
}

// A gate is closed until it is opened.
type gate struct {
	once sync.Once
	c    chan struct{}
}

func (g *gate) open() { g.once.Do(func() { close(g.c) }) }

type token struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	free   func()
}

type member struct {
	group *duly.Group
	keep  bool
}

// A world is what one case has named.
type world struct {
	mu      sync.Mutex
	pools   map[string]*duly.Pool
	records map[string]*record
	gates   map[string]*gate
	tokens  map[string]token
	groups  map[string]member
	threads map[string]chan any
	marks   map[string]time.Time
	order   []string

	name      string
	queues    map[queueKey]*duly.Queue
	periodics map[string]*duly.Periodic
	streams   map[string]oneStream
	flights   map[string]*duly.SingleFlight[string, int64]
	callers   map[string]*caller
	told      map[string]int64 // by pool and event
}

func newWorld(name string) *world {
	return &world{name: name, queues: map[queueKey]*duly.Queue{}, periodics: map[string]*duly.Periodic{},
		streams: map[string]oneStream{}, flights: map[string]*duly.SingleFlight[string, int64]{}, callers: map[string]*caller{},
		told: map[string]int64{}, pools: map[string]*duly.Pool{}, records: map[string]*record{}, gates: map[string]*gate{},
		tokens: map[string]token{}, groups: map[string]member{}, threads: map[string]chan any{}, marks: map[string]time.Time{}}
}

// notAsExpected is panicked with, and caught by the step.
type notAsExpected string

func wrong(format string, args ...any) { panic(notAsExpected(fmt.Sprintf(format, args...))) }

func same(what string, is, expected any) {
	if is != expected {
		wrong("%s is %v, expected %v", what, is, expected)
	}
}

func sorted(labels []string) string {
	labels = append([]string{}, labels...)
	sort.Strings(labels)
	return fmt.Sprintf("%q", labels)
}

func poll(limit time.Duration, ready func() bool) bool {
	for end := time.Now().Add(limit); !ready(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// caught is what check is not satisfied with, or nil.
func caught(check func()) (what any) {
	defer func() { what = recover() }()
	check()
	return nil
}

func settle(check func()) {
	var what any
	if !poll(settling, func() bool { what = caught(check); return what == nil }) {
		panic(what)
	}
}

func find[T any](w *world, of map[string]T, kind, name string) T {
	w.mu.Lock()
	defer w.mu.Unlock()
	found, ok := of[name]
	if !ok {
		wrong("there is no %s %q", kind, name)
	}
	return found
}

func (w *world) gate(name string) *gate {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.gates[name]
	if g == nil {
		g = &gate{c: make(chan struct{})}
		w.gates[name] = g
	}
	return g
}

func (w *world) record(name string) *record { return find(w, w.records, "task", name) }

func (w *world) task(name string) *duly.Task[int64] {
	r := w.record(name)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.task == nil {
		wrong("the task %q has no handle", name)
	}
	return r.task
}

// fields are those of a step; what is not taken is unknown.
type fields map[string]any

func take[T any](f fields, key string, otherwise T) T {
	value, there := f[key]
	if !there {
		return otherwise
	}
	delete(f, key)
	typed, ok := value.(T)
	if !ok {
		panic(fmt.Sprintf("field %q is a %T", key, value))
	}
	return typed
}

func (f fields) has(key string) bool { _, there := f[key]; return there }

func (f fields) ms(key string, otherwise int64) time.Duration {
	return time.Duration(take(f, key, otherwise)) * time.Millisecond
}

func (f fields) texts(key string) (texts []string) {
	for _, text := range take(f, key, []any{}) {
		texts = append(texts, text.(string))
	}
	return texts
}

func (w *world) step(step fields) {
	do := take(step, "do", "")
	thread := take(step, "thread", "")
	if child := take(step, "child", ""); do == "fork" {
		w.fork(child)
		return
	} else if do == "join" && child != "" {
		thread = child
	} else if child != "" {
		return
	}
	if do == "join" {
		step["thread"] = thread
		w.timed(do, step)
		return
	}
	if thread == "" {
		w.timed(do, step)
		return
	}
	ended := make(chan any, 1)
	w.threads[thread] = ended
	go func() { ended <- caught(func() { w.timed(do, step) }) }()
}

func (w *world) join(thread string) {
	ended := find(w, w.threads, "thread", thread)
	delete(w.threads, thread)
	select {
	case what := <-ended:
		if what != nil {
			panic(what)
		}
	case <-time.After(joining):
		wrong("thread %q hangs", thread)
	}
}

func (w *world) timed(do string, step fields) {
	since, from := take(step, "since", ""), time.Time{}
	hasLeast, hasMost := step.has("at_least_ms"), step.has("at_most_ms")
	least, most := step.ms("at_least_ms", 0), step.ms("at_most_ms", 0)
	times := take(step, "times", int64(-1))
	if since != "" {
		from = find(w, w.marks, "mark", since)
	}
	once := func(step fields) {
		start := time.Now()
		w.do(do, step)
		if since != "" {
			start = from
		}
		took := time.Since(start)
		if hasLeast && took < least {
			wrong("early: after %v, not before %v", took, least)
		}
		if hasMost && took > most {
			wrong("late: after %v, not within %v", took, most)
		}
		if len(step) > 0 {
			panic(fmt.Sprintf("step %s: unknown fields %v", do, step))
		}
	}
	if times < 0 {
		once(step)
	}
	for i := int64(0); i < times; i++ {
		copied := fields{}
		for key, value := range step {
			if key == "task" || key == "label" {
				value = fmt.Sprintf("%v.%d", value, i)
			}
			copied[key] = value
		}
		once(copied)
	}
}

func (w *world) do(do string, f fields) {
	pool := func() *duly.Pool { return find(w, w.pools, "pool", take(f, "pool", "pool")) }
	switch do {
	case "join":
		w.join(take(f, "thread", ""))
	case "queue":
		w.makeQueue(f)
	case "set_queue":
		w.setQueue(f)
	case "queue_stats":
		w.queueStats(f)
	case "pause_queue":
		w.queue(take(f, "pool", "pool"), take(f, "queue", "")).Pause()
	case "resume_queue":
		w.queue(take(f, "pool", "pool"), take(f, "queue", "")).Resume()
	case "pause_pool":
		pool().Pause()
	case "resume_pool":
		pool().Resume()
	case "set_workers":
		same("the answer", built(pool().SetWorkers(int(take(f, "count", int64(0))))), take(f, "expect", "ok"))
	case "leaks":
		p, expected := pool(), sorted(f.texts("labels"))
		settle(func() { same("leaks", sorted(labels(p.Leaks())), expected) })
	case "running":
		p, expected := pool(), sorted(f.texts("labels"))
		settle(func() { same("running", sorted(labels(p.Running())), expected) })
	case "hook":
		w.hook(f)
	case "drop_pool":
		w.dropPool(take(f, "pool", "pool"))
	case "drops":
		w.record(take(f, "task", "")).dropped(take(f, "count", int64(0)))
	case "every":
		w.every(f)
	case "periodic_stats":
		w.periodicStats(f)
	case "cancel_periodic":
		answer := "ended"
		if find(w, w.periodics, "periodic task", take(f, "periodic", "")).Cancel(nil) {
			answer = "decided"
		}
		same("the answer", answer, take(f, "expect", answer))
	case "wait_periodic":
		w.waitPeriodic(f)
	case "drop_periodic":
		w.mu.Lock()
		delete(w.periodics, take(f, "periodic", ""))
		w.mu.Unlock()
	case "stream":
		w.makeStream(f)
	case "next":
		w.next(f)
	case "pulled":
		w.pulled(f)
	case "drop_stream":
		w.dropStream(take(f, "stream", ""))
	case "flight":
		w.makeFlight(f)
	case "call":
		w.call(f)
	case "answer":
		w.answer(f)
	case "leave":
		w.leave(take(f, "caller", ""))
	case "shut_down_on":
		pool().ShutdownOn(f.ms("grace_ms", 0), named(f)...)
	case "cancel_on":
		w.cancelOn(take(f, "token", ""), named(f))
	case "raise":
		w.raise(take(f, "signal", ""))
	case "closed":
		w.closed(pool(), take(f, "expect", "yes"))
	case "pool":
		w.makePool(f)
	case "close":
		pool().Close()
	case "shutdown":
		w.shutdown(pool(), f)
	case "stats":
		p := pool()
		expected := counters(f)
		_, unobserved := expected["unobserved"]
		settle(func() {
			if unobserved {
				runtime.GC()
			}
			check(p.Stats(), expected)
		})
	case "submit", "try_submit", "submit_async", "run":
		w.submit(do, f)
	case "wait", "wait_async":
		w.wait(do, f)
	case "outcome":
		name := take(f, "task", "")
		outcome := w.task(name).Outcome().String()
		if outcome != "pending" {
			w.record(name).saw(outcome)
		}
		same("the outcome", outcome, take(f, "expect", ""))
	case "cancel":
		var cause error
		if f.has("reason") {
			cause = errors.New(take(f, "reason", ""))
		}
		answer := "ended"
		if w.task(take(f, "task", "")).Cancel(cause) {
			answer = "decided"
		}
		same("the answer", answer, take(f, "expect", answer))
	case "drop_task":
		name := take(f, "task", "")
		w.task(name)
		r := w.record(name)
		r.mu.Lock()
		r.task = nil
		r.mu.Unlock()
	case "on_complete":
		name := take(f, "task", "")
		r, task := w.record(name), w.task(name)
		go func() {
			<-task.Done()
			r.completed.Store(task.Outcome().String())
		}()
	case "completed":
		r := w.record(take(f, "task", ""))
		poll(patience, func() bool { return r.completed.Load() != nil })
		same("what was heard", r.completed.Load(), take(f, "expect", ""))
	case "released":
		task, answer := w.task(take(f, "task", "")), "no"
		limit, released := f.ms("timeout_ms", 10_000), task.Released()
		select {
		case <-released:
			answer = "yes"
		default:
			select {
			case <-released:
				answer = "yes"
			case <-time.After(limit):
			}
		}
		same("released", answer, take(f, "expect", "yes"))
	case "await_start":
		r := w.record(take(f, "task", ""))
		if !poll(patience, func() bool { return r.starts.Load() > 0 }) {
			wrong("the callback has not started")
		}
	case "started":
		same("the number of starts", w.record(take(f, "task", "")).starts.Load(), take(f, "count", int64(0)))
	case "cause":
		r := w.record(take(f, "task", ""))
		poll(patience, func() bool { return r.cause.Load() != nil })
		same("the cause", r.cause.Load(), take(f, "expect", ""))
	case "order":
		tasks := f.texts("tasks")
		started := func() (started []string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, name := range w.order {
				if slices.Contains(tasks, name) {
					started = append(started, name)
				}
			}
			return started
		}
		poll(patience, func() bool { return len(started()) >= len(tasks) })
		same("the order of the starts", fmt.Sprint(started()), fmt.Sprint(tasks))
	case "share":
		name, first := take(f, "task", ""), int(take(f, "of_first", int64(0)))
		started := func() []string {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.order[:min(first, len(w.order))]
		}
		poll(patience, func() bool { return len(started()) >= first })
		count := int64(0)
		for _, one := range started() {
			if one == name || strings.HasPrefix(one, name+".") {
				count++
			}
		}
		if most := take(f, "at_most", count); len(started()) < first || count < take(f, "at_least", int64(0)) || count > most {
			wrong("of the first %d starts %d are of %q", first, count, name)
		}
	case "open":
		w.gate(take(f, "gate", "")).open()
	case "mark":
		w.mu.Lock()
		w.marks[take(f, "name", "")] = time.Now()
		w.mu.Unlock()
	case "pause":
		time.Sleep(f.ms("ms", 0))
	case "token":
		parent := context.Background()
		if f.has("parent") {
			parent = find(w, w.tokens, "token", take(f, "parent", "")).ctx
		}
		free := func() {}
		if f.has("timeout_ms") {
			parent, free = context.WithTimeout(parent, f.ms("timeout_ms", 0))
		}
		ctx, cancel := context.WithCancelCause(parent)
		w.mu.Lock()
		w.tokens[take(f, "token", "")] = token{ctx, cancel, free}
		w.mu.Unlock()
	case "cancel_token":
		var cause error
		if f.has("reason") {
			cause = errors.New(take(f, "reason", ""))
		}
		find(w, w.tokens, "token", take(f, "token", "")).cancel(cause)
	case "token_state":
		state := "live"
		ctx := find(w, w.tokens, "token", take(f, "token", "")).ctx
		// A context's own timer is a goroutine's business, and may be some microseconds behind its deadline.
		deadline, bounded := ctx.Deadline()
		if ctx.Err() != nil || bounded && !time.Now().Before(deadline) {
			state = "cancelled"
		}
		same("the token", state, take(f, "expect", ""))
	case "group":
		group, _ := duly.NewGroup(context.Background(), pool())
		if !take(f, "fail_fast", true) {
			group.KeepOn()
		}
		group.SetLimit(int(take(f, "limit", int64(0))))
		w.mu.Lock()
		w.groups[take(f, "group", "")] = member{group, take(f, "detach", false)}
		w.mu.Unlock()
	case "group_wait":
		w.groupWait(f)
	case "drop_group":
		if m := find(w, w.groups, "group", take(f, "group", "")); !m.keep {
			m.group.Cancel(nil)
		}
	case "wait_any", "wait_all":
		w.waitSeveral(do, f)
	default:
		panic(fmt.Sprintf("there is no step %q", do))
	}
}

var policies = map[string]duly.Overflow{"block": duly.Block, "reject": duly.Reject, "drop_newest": duly.DropNewest,
	"drop_oldest": duly.DropOldest, "caller_runs": duly.CallerRuns}

func (w *world) makePool(f fields) {
	name, expect := take(f, "pool", "pool"), take(f, "expect", "ok")
	var options []duly.Option
	number := func(key string, option func(int) duly.Option) {
		if f.has(key) {
			options = append(options, option(int(take(f, key, int64(0)))))
		}
	}
	span := func(key string, option func(time.Duration) duly.Option) {
		if f.has(key) {
			options = append(options, option(f.ms(key, 0)))
		}
	}
	number("workers", duly.Workers)
	number("capacity", duly.Capacity)
	number("max_blocked_producers", duly.MaxBlockedProducers)
	number("max_replacements", duly.MaxReplacements)
	span("replace_after_ms", duly.ReplaceAfter)
	span("default_timeout_ms", duly.DefaultTimeout)
	span("drop_drain_ms", duly.DropDrain)
	if f.has("overflow") {
		options = append(options, duly.OnOverflow(policies[take(f, "overflow", "")]))
	}
	if take(f, "threads", "eager") == "on_demand" {
		options = append(options, duly.OnDemand())
	}
	options = append(options, duly.OnEvent(func(event duly.Event) {
		w.mu.Lock()
		w.told[name+"/"+event.Kind.String()]++
		w.mu.Unlock()
	}))
	pool, err := duly.New(options...)
	answer := "ok"
	if errors.Is(err, duly.ErrInvalidArgument) {
		answer = "invalid_argument"
	} else if err != nil {
		answer = err.Error()
	} else {
		w.mu.Lock()
		w.pools[name] = pool
		w.mu.Unlock()
	}
	same("the answer", answer, expect)
}

func counters(f fields) map[string]int64 {
	expected := map[string]int64{}
	for key := range f {
		if _, known := counter(duly.Stats{}, key); known {
			expected[key] = take(f, key, int64(0))
		}
	}
	return expected
}

func counter(s duly.Stats, name string) (uint64, bool) {
	value, known := map[string]uint64{"submitted": s.Submitted, "succeeded": s.Succeeded, "failed": s.Failed,
		"panicked": s.Panicked, "cancelled": s.Cancelled, "deadline_exceeded": s.DeadlineExceeded, "shed": s.Shed,
		"abandoned": s.Abandoned, "queued": s.Queued, "running": s.Running, "refused": s.Refused, "late": s.Late,
		"overdue": s.Overdue, "replaced": s.Replaced, "stalled": s.Stalled, "unobserved": s.Unobserved,
		"blocked_producers": s.BlockedProducers, "workers": s.Workers}[name]
	return value, known
}

func check(stats duly.Stats, expected map[string]int64) {
	for name, value := range expected {
		is, _ := counter(stats, name)
		same(name, int64(is), value)
	}
}

func (w *world) shutdown(pool *duly.Pool, f fields) {
	ctx, cancel := context.WithTimeout(context.Background(), f.ms("drain_ms", 0))
	defer cancel()
	report, err := pool.Shutdown(ctx)
	if errors.Is(err, duly.ErrWouldDeadlock) {
		wrong("%v", err)
	}
	if f.has("drained") {
		same("drained", report.Drained, take(f, "drained", false))
	}
	if f.has("abandoned") {
		same("abandoned", sorted(report.Abandoned), sorted(f.texts("abandoned")))
	}
	if f.has("threads_left") {
		same("threads_left", int64(report.WorkersLeft), take(f, "threads_left", int64(0)))
	}
	check(report.Stats, counters(f))
}

var refusals = map[error]string{duly.ErrQueueFull: "queue_full", duly.ErrSubmitTimedOut: "submit_timed_out",
	context.DeadlineExceeded: "deadline_exceeded", context.Canceled: "cancelled", duly.ErrShutDown: "shut_down",
	duly.ErrWouldDeadlock: "would_deadlock", duly.ErrInvalidArgument: "invalid_argument"}

func refusal(err error) string {
	for is, word := range refusals {
		if errors.Is(err, is) {
			return word
		}
	}
	return err.Error()
}

// common are the options of a submit that others have, too.
func (w *world) common(pool string, f fields) []duly.TaskOption {
	var options []duly.TaskOption
	if f.has("label") {
		options = append(options, duly.Label(take(f, "label", "")))
	}
	if f.has("timeout_ms") {
		options = append(options, duly.Timeout(f.ms("timeout_ms", 0)))
	}
	switch take(f, "timeout", "") {
	case "negative":
		options = append(options, duly.Timeout(-time.Millisecond))
	case "longest":
		options = append(options, duly.Timeout(math.MaxInt64))
	}
	if f.has("submit_timeout_ms") {
		options = append(options, duly.SubmitTimeout(f.ms("submit_timeout_ms", 0)))
	}
	if f.has("delay_ms") {
		options = append(options, duly.Delay(f.ms("delay_ms", 0)))
	}
	if f.has("queue") {
		options = append(options, duly.OnQueue(w.queue(pool, take(f, "queue", ""))))
	}
	if f.has("overflow") {
		options = append(options, duly.WhenFull(policies[take(f, "overflow", "")]))
	}
	if f.has("key") {
		options = append(options, duly.Key(take(f, "key", "")))
	}
	return options
}

func (w *world) submit(verb string, f fields) {
	poolName := take(f, "pool", "pool")
	pool := find(w, w.pools, "pool", poolName)
	name, ctx := take(f, "task", ""), context.Background()
	if f.has("token") {
		ctx = find(w, w.tokens, "token", take(f, "token", "")).ctx
	}
	options := w.common(poolName, f)
	group := take(f, "group", "")
	leave := take(f, "leave", false)
	expect := take(f, "expect", map[bool]string{true: "succeeded", false: "accepted"}[verb == "run"])
	value, hasValue := f["value"]
	fn := w.callback(pool, f)
	r := w.newRecord(name)
	var counted func(context.Context) (int64, error)
	if fn != nil {
		counted = w.counted(name, r, fn)
	}
	var task *duly.Task[int64]
	var err error
	switch {
	case verb == "run":
		w.run(ctx, pool, r, counted, options, leave, expect, value, hasValue)
		return
	case group != "" && verb == "try_submit":
		task, err = duly.TrySubmitTo(find(w, w.groups, "group", group).group, counted, options...)
	case group != "":
		task, err = duly.SubmitTo(find(w, w.groups, "group", group).group, counted, options...)
	case verb == "try_submit":
		task, err = duly.TrySubmit(ctx, pool, counted, options...)
	default:
		task, err = duly.Submit(ctx, pool, counted, options...)
	}
	answer := "accepted"
	if err != nil {
		answer = refusal(err)
		w.mu.Lock()
		delete(w.records, name)
		w.mu.Unlock()
		same("the starts of a refused callback", r.starts.Load(), int64(0))
	}
	r.mu.Lock()
	r.task = task
	r.mu.Unlock()
	same("the answer", answer, expect)
}

func (w *world) run(ctx context.Context, pool *duly.Pool, r *record, fn func(context.Context) (int64, error), options []duly.TaskOption, leave bool, expect string, value any, hasValue bool) {
	if leave {
		ctx, cancel := context.WithCancel(ctx)
		go func() {
			poll(patience, func() bool { return r.starts.Load() > 0 })
			cancel()
		}()
		_, _ = duly.Run(ctx, pool, fn, options...)
		return
	}
	got, err := duly.Run(ctx, pool, fn, options...)
	answer, _ := answerOf(err)
	var refused *duly.SubmitError
	if errors.As(err, &refused) {
		answer = refusal(err)
	}
	same("the answer", answer, expect)
	if hasValue && answer == "succeeded" {
		same("the value", got, value)
	}
}

// answerOf is the outcome that an error of a wait tells of.
func answerOf(err error) (string, error) {
	var ended *duly.TaskError
	var panicked *duly.PanicError
	var failed *failure
	switch {
	case err == nil:
		return "succeeded", nil
	case errors.As(err, &panicked):
		return "panicked", panicked
	case errors.As(err, &failed):
		return "failed", failed
	case errors.As(err, &ended):
		return ended.Outcome.String(), ended
	}
	return err.Error(), err
}

// expectations are those of an answer that are given.
func expectations(got int64, what error, f fields) {
	if f.has("value") {
		same("the value", got, take(f, "value", int64(0)))
	}
	if least := take(f, "value_at_least", got); got < least {
		wrong("the value is %d, less than %d", got, least)
	}
	if most := take(f, "value_at_most", got); got > most {
		wrong("the value is %d, more than %d", got, most)
	}
	if f.has("code") {
		code := take(f, "code", int64(0))
		var failed *failure
		if !errors.As(what, &failed) || failed.code != code {
			wrong("the code is not %d: %v", code, what)
		}
	}
	if message := take(f, "message", ""); message != "" && !strings.Contains(what.Error(), message) {
		wrong("the message is %q, expected %q in it", what, message)
	}
}

func (w *world) wait(do string, f fields) {
	name := take(f, "task", "")
	task := w.task(name)
	ctx, cancel := context.WithTimeout(context.Background(), f.ms("timeout_ms", 10_000))
	defer cancel()
	if do == "wait_async" {
		select {
		case <-task.Done():
		case <-ctx.Done():
		}
	}
	got, err := task.Wait(ctx)
	answer, what := answerOf(err)
	if err == context.DeadlineExceeded {
		answer = "timed_out"
	} else {
		w.record(name).saw(answer)
		w.record(name).saw(task.Outcome().String())
	}
	same("the answer", answer, take(f, "expect", ""))
	expectations(got, what, f)
	if f.has("reason") {
		reason := "none"
		var ended *duly.TaskError
		if errors.As(what, &ended) && ended.Cause != nil {
			reason = ended.Cause.Error()
			if ended.Cause == context.Canceled {
				reason = "requested"
			} else if errors.Is(ended.Cause, duly.ErrSignal) {
				reason = "signal"
			}
		}
		same("the reason", reason, take(f, "reason", ""))
	}
}

func (w *world) groupWait(f fields) {
	g := find(w, w.groups, "group", take(f, "group", "")).group
	ctx, cancel := context.WithTimeout(context.Background(), f.ms("timeout_ms", 10_000))
	defer cancel()
	err := g.Wait(ctx)
	answer := "ok"
	if err == context.DeadlineExceeded && ctx.Err() != nil {
		answer = "timed_out"
	} else if err != nil {
		answer = "failed"
	}
	same("the answer", answer, take(f, "expect", ""))
	if f.has("errors") {
		var labels []string
		for _, one := range g.Errors() {
			labels = append(labels, one.Label)
		}
		same("the errors", fmt.Sprint(labels), fmt.Sprint(f.texts("errors")))
	}
	if f.has("cancelled") {
		same("cancelled", int64(g.Cancelled()), take(f, "cancelled", int64(0)))
	}
}

func (w *world) waitSeveral(do string, f fields) {
	names, until := f.texts("tasks"), time.After(f.ms("timeout_ms", 10_000))
	ended := make(chan string, len(names))
	for _, name := range names {
		name, task := name, w.task(name)
		go func() { <-task.Done(); ended <- name }()
	}
	if do == "wait_any" {
		first := ""
		select {
		case first = <-ended:
		case <-until:
		}
		same("the first that ended", first, take(f, "expect", ""))
		return
	}
	missing := append([]string{}, names...)
	for len(missing) > 0 {
		select {
		case name := <-ended:
			missing = slices.DeleteFunc(missing, func(other string) bool { return other == name })
			continue
		case <-until:
			// Both may have come.
			missing = slices.DeleteFunc(missing, func(name string) bool { return w.task(name).Outcome() != duly.Pending })
		}
		break
	}
	same("what is missing", sorted(missing), sorted(f.texts("missing")))
}

// end is what every case ends with.
func (w *world) end(passed bool) {
	w.mu.Lock()
	for _, gate := range w.gates {
		gate.open()
	}
	w.mu.Unlock()
	for thread := range w.threads {
		w.join(thread)
	}
	for name := range w.streams {
		w.dropStream(name)
	}
	records, pools := map[string]*record{}, map[string]*duly.Pool{}
	w.mu.Lock()
	for name, r := range w.records {
		records[name] = r
	}
	for name, pool := range w.pools {
		pools[name] = pool
	}
	w.mu.Unlock()
	for name, r := range records {
		if r.task == nil {
			continue
		}
		select {
		case <-r.task.Done():
		case <-time.After(patience):
			wrong("%q has no outcome", name)
		}
		r.saw(r.task.Outcome().String())
	}
	for _, pool := range pools {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		report, _ := pool.Shutdown(ctx)
		cancel()
		if s := report.Stats; passed {
			same("queued", s.Queued, uint64(0))
			same("running", s.Running, uint64(0))
			same("the sum of the outcomes", s.Succeeded+s.Failed+s.Panicked+s.Cancelled+s.DeadlineExceeded+s.Shed+s.Abandoned, s.Submitted)
		}
	}
	for name, c := range w.callers {
		if !c.gone {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			if _, err := c.caller.Wait(ctx); err != nil && err == ctx.Err() {
				wrong("%q has no answer", name)
			}
			cancel()
			w.leave(name)
		}
	}
	for name, r := range records {
		if r.task == nil {
			continue
		}
		select {
		case <-r.task.Released():
		case <-time.After(patience):
			wrong("%q is not released", name)
		}
		r.saw(r.task.Outcome().String())
		if passed {
			r.dropped(1)
		}
	}
	for _, token := range w.tokens {
		token.cancel(nil)
		token.free()
	}
}
