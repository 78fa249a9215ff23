//go:build cgo

package duly

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Overflow is what a submit does when the queue is full.
type Overflow int32

// The overflow policies.
const (
	// Block: Submit waits for room, in order of arrival. The default.
	Block Overflow = 1 + iota
	// Reject: Submit answers ErrQueueFull.
	Reject
	// DropNewest: the new task is accepted and is Shed already.
	DropNewest
	// DropOldest: the oldest queued task is Shed.
	DropOldest
	// CallerRuns: the callback runs in the call of Submit.
	CallerRuns
)

// An Option changes how a pool is made.
type Option func(*poolOptions)

type poolOptions struct {
	name                                    string
	workers, capacity                       int
	blocked, replacements                   int
	overflow                                Overflow
	onDemand                                bool
	replaceAfter, defaultTimeout, dropDrain time.Duration
	queue                                   queueOptions
	isSet                                   []string
	repanic                                 bool
	logger                                  *slog.Logger
	told                                    func(Event)
}

func newOptions(name string, options []Option) *poolOptions {
	how := &poolOptions{name: name, overflow: Block}
	for _, option := range options {
		option(how)
	}
	return how
}

func (o *poolOptions) set(option string) { o.isSet = append(o.isSet, option) }

func (o *poolOptions) has(option string) bool {
	for _, one := range o.isSet {
		if one == option {
			return true
		}
	}
	return false
}

// Name names the pool in errors and log lines. Default: duly.
func Name(name string) Option { return func(o *poolOptions) { o.name = name; o.set("Name") } }

// Workers is how many callbacks run at the same time, 1 to 32,767. Default: the parallelism this process may use.
func Workers(workers int) Option {
	return func(o *poolOptions) { o.workers = workers; o.set("Workers") }
}

// Capacity is how many tasks may be queued, 1 to 8,388,608. Default: 1024. Of AddQueue, too.
func Capacity(capacity int) Option {
	return func(o *poolOptions) { o.capacity = capacity; o.set("Capacity") }
}

// MaxBlockedProducers is how many Submits may wait for room; more are refused with ErrQueueFull. Default: the capacity. Of
// AddQueue, too.
func MaxBlockedProducers(producers int) Option {
	return func(o *poolOptions) { o.blocked = producers; o.set("MaxBlockedProducers") }
}

// MaxReplacements is how many workers may stand in for those that are stuck in overdue callbacks. Default: as many as Workers.
func MaxReplacements(replacements int) Option {
	return func(o *poolOptions) { o.replacements = replacements; o.set("MaxReplacements") }
}

// ReplaceAfter is how long a callback may run on after its task has its outcome before another worker takes its place.
// Default: 100 ms.
func ReplaceAfter(span time.Duration) Option {
	return func(o *poolOptions) { o.replaceAfter = span; o.set("ReplaceAfter") }
}

// OnOverflow is what a submit does when the queue is full. Default: Block. Of AddQueue, too.
func OnOverflow(overflow Overflow) Option {
	return func(o *poolOptions) { o.overflow = overflow; o.set("OnOverflow") }
}

// OnDemand has workers made when there is something for them to do, and not all at once.
func OnDemand() Option { return func(o *poolOptions) { o.onDemand = true; o.set("OnDemand") } }

// DefaultTimeout is the Timeout of tasks that name none. Default: none. Set one.
func DefaultTimeout(timeout time.Duration) Option {
	return func(o *poolOptions) { o.defaultTimeout = timeout; o.set("DefaultTimeout") }
}

// DropDrain is how long a pool that was forgotten without a Shutdown drains in the background. Default: 10 s.
func DropDrain(drain time.Duration) Option {
	return func(o *poolOptions) { o.dropDrain = drain; o.set("DropDrain") }
}

// Repanic has Wait and Run panic with the *PanicError of a callback that panicked, instead of returning it.
func Repanic() Option { return func(o *poolOptions) { o.repanic = true; o.set("Repanic") } }

// Logger is told of what nobody else may see: callbacks that returned after their task had its outcome, failures that nobody
// looked at, pools whose workers are all stuck, and tasks that a Shutdown abandoned. Default: none.
func Logger(logger *slog.Logger) Option {
	return func(o *poolOptions) { o.logger = logger; o.set("Logger") }
}

// A Pool is N workers over a bounded queue. All methods may be called from any goroutine. Tasks do not keep it alive: one
// that is forgotten drains in the background. Call Shutdown.
type Pool struct{ *core }

// core is the pool without its handle, which tasks and workers hold.
type core struct {
	handle         C.uintptr_t
	id             uint64
	name           string
	overflow       Overflow
	defaultTimeout time.Duration
	repanic        bool
	logger         *slog.Logger
	told           func(Event)
	unseen         atomic.Uint64
	tokens         tokens
	// Its drain has begun, or is about to.
	closing  atomic.Bool
	isShut   chan struct{}
	shutOnce sync.Once

	mu      sync.Mutex
	left    *sync.Cond
	workers int
	// The handle is given back.
	released bool
	dropped  bool
	late     bool
	once     sync.Once
}

// New makes a pool. Its workers start at once.
func New(options ...Option) (*Pool, error) {
	how := newOptions("duly", options)
	for _, option := range how.isSet {
		switch option {
		case "Weight", "Limit", "KeyLimit", "KeyCapacity":
			return nil, fmt.Errorf("duly: pool %s: %s is an option of a queue: %w", how.name, option, ErrInvalidArgument)
		}
	}
	if err := how.check("pool"); err != nil {
		return nil, err
	}
	p := &core{
		name:           how.name,
		overflow:       how.overflow,
		defaultTimeout: how.defaultTimeout,
		repanic:        how.repanic,
		logger:         how.logger,
		told:           how.told,
		isShut:         make(chan struct{}),
	}
	p.left = sync.NewCond(&p.mu)
	enterBoard(p)
	name := C.CString(how.name)
	defer C.free(unsafe.Pointer(name))
	asked := C.duly_go_pool_how{
		name: name, workers: C.uint32_t(how.workers), capacity: C.uint32_t(how.capacity),
		max_blocked:      count(how.blocked, how.has("MaxBlockedProducers")),
		max_replacements: count(how.replacements, how.has("MaxReplacements")),
		overflow:         C.int32_t(how.overflow), replace_after_ns: C.uint64_t(how.replaceAfter),
		default_timeout_ns: C.uint64_t(how.defaultTimeout), drop_drain_ns: C.uint64_t(how.dropDrain),
	}
	if how.onDemand {
		asked.threads = C.DULY_THREADS_ON_DEMAND
	}
	if how.told != nil || how.logger != nil {
		asked.tells = 1
	}
	made := C.duly_go_pool(board.handle, C.uint64_t(p.id), asked)
	if made.status != C.DULY_STATUS_OK {
		leaveBoard(p)
		return nil, fmt.Errorf("duly: no pool %s: %w (status %d)", how.name, ErrInvalidArgument, int32(made.status))
	}
	p.handle = made.handle
	// Its workers are on the board: from here on they are counted.
	passBoard()
	pool := &Pool{p}
	runtime.SetFinalizer(pool, func(pool *Pool) { pool.core.drop() })
	return pool, nil
}

func count(n int, set bool) C.uint32_t {
	if set && n == 0 {
		return math.MaxUint32
	}
	return C.uint32_t(n)
}

func (o *poolOptions) check(of string) error {
	invalid := func(what string, value any, bounds string) error {
		return fmt.Errorf("duly: %s %s: %s is %v, not within %s: %w", of, o.name, what, value, bounds, ErrInvalidArgument)
	}
	bounds := func(what string, value, least, most int) error {
		if o.has(what) && (value < least || value > most) {
			return invalid(what, value, fmt.Sprintf("%d to %d", least, most))
		}
		return nil
	}
	const many = math.MaxInt32 - 1
	for _, err := range []error{
		bounds("Workers", o.workers, 1, 32_767), bounds("Capacity", o.capacity, 1, 8_388_608),
		bounds("MaxBlockedProducers", o.blocked, 0, many), bounds("MaxReplacements", o.replacements, 0, many),
		bounds("Weight", o.queue.weight, 1, many), bounds("Limit", o.queue.limit, 1, many),
		bounds("KeyLimit", o.queue.keyLimit, 1, many), bounds("KeyCapacity", o.queue.keyCapacity, 1, many),
	} {
		if err != nil {
			return err
		}
	}
	switch {
	case o.overflow < Block || o.overflow > CallerRuns:
		return invalid("OnOverflow", o.overflow, "the policies")
	case o.has("DefaultTimeout") && o.defaultTimeout <= 0:
		return invalid("DefaultTimeout", o.defaultTimeout, "1 ns and more")
	case o.has("ReplaceAfter") && o.replaceAfter <= 0:
		return invalid("ReplaceAfter", o.replaceAfter, "1 ns and more")
	case o.dropDrain < 0:
		return invalid("DropDrain", o.dropDrain, "0 and more")
	}
	return nil
}

// Name is the pool's name.
func (p *core) Name() string { return p.name }

// Close has the pool accept no more tasks; Submits that wait for room are refused with ErrShutDown. What was accepted is
// still run.
func (p *Pool) Close() {
	p.shut()
	C.duly_go_close(p.handle)
	runtime.KeepAlive(p)
}

// Report is what a Shutdown did.
type Report struct {
	// Drained: every accepted task ended by itself; nothing was abandoned.
	Drained bool
	// Abandoned are the labels of the tasks that were abandoned, queued and running ones.
	Abandoned []string
	// Stuck are the labels of those whose callback still runs.
	Stuck []string
	// WorkersLeft is how many workers are inside of those.
	WorkersLeft int
	// Elapsed is how long the Shutdown took.
	Elapsed time.Duration
	// Stats are the counters when it returned.
	Stats Stats
	text  string
}

// String is the report in words.
func (r Report) String() string { return r.text }

const defaultDrain = 25 * time.Second

// Shutdown closes the pool and drains it until ctx is done, or for 25 s if ctx has no deadline; what has no outcome by then is
// abandoned. Every task has its outcome when it returns, and every goroutine of the pool has ended, but those that are inside
// of abandoned callbacks: the report names these. The error is ctx's, if it was done before all was drained.
//
// Called with the context of a callback of this pool, it is refused with ErrWouldDeadlock. Shutting down twice is fine; the
// second call may cut the first one's drain short.
func (p *Pool) Shutdown(ctx context.Context) (Report, error) {
	defer runtime.KeepAlive(p)
	if insideOf(ctx, p.core) {
		return Report{}, fmt.Errorf("duly: pool %s: Shutdown inside a callback of the pool: %w", p.name, ErrWouldDeadlock)
	}
	drain := defaultDrain
	if deadline, ok := ctx.Deadline(); ok {
		drain = max(time.Until(deadline), 0)
	}
	stop := context.AfterFunc(ctx, func() {
		again := C.duly_go_shutdown(p.handle, 0)
		C.duly_go_report_release(again.handle)
		runtime.KeepAlive(p)
	})
	defer stop()
	p.close()
	made := C.duly_go_shutdown(p.handle, C.uint64_t(drain))
	if made.status != C.DULY_STATUS_OK {
		return Report{}, fmt.Errorf("duly: pool %s: Shutdown by one of its workers: %w", p.name, ErrWouldDeadlock)
	}
	report := readReport(made.handle)
	// A worker that is in no callback ends as soon as its goroutine is scheduled.
	report.WorkersLeft = p.joinWorkers(min(len(report.Stuck), report.WorkersLeft), time.Second)
	p.gone()
	report.Stats.Unobserved += p.unseen.Load()
	if len(report.Abandoned) > 0 && p.logger != nil {
		p.logger.Warn("duly: a shutdown abandoned tasks", "pool", p.name, "abandoned", report.Abandoned, "stuck", report.Stuck)
	}
	if !report.Drained {
		if err := ctx.Err(); err != nil {
			return report, err
		}
		return report, fmt.Errorf("duly: pool %s: the drain of %v was over: %w", p.name, drain, ErrAbandoned)
	}
	return report, nil
}

// close: from now on tasks may end as abandoned.
func (p *core) close() {
	p.shut()
	p.closing.Store(true)
	p.each(func(t *task) {
		t.mu.Lock()
		if t.wanted && t.state.Load() != settled {
			t.watchLocked()
		}
		t.mu.Unlock()
	})
}

// shut: no task is accepted from now on.
func (p *core) shut() {
	p.shutOnce.Do(func() { close(p.isShut) })
}

// closed is closed with the pool.
func (p *core) closed() <-chan struct{} { return p.isShut }

func (p *core) each(look func(*task)) {
	live.each(func(t *task) {
		if t.pool == p {
			look(t)
		}
	})
}

func (t *task) isGone() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.gone
}

// gone: libduly has ended the pool. Every task of it has its outcome, which is read here, and nothing of the pool is on the
// board any more.
func (p *core) gone() {
	p.once.Do(func() {
		passBoard()
		p.each((*task).look)
		p.tokens.end()
		leaveBoard(p)
	})
}

// drop: the last handle is forgotten. The pool drains in the background.
func (p *core) drop() {
	p.close()
	p.mu.Lock()
	p.released = true
	p.mu.Unlock()
	C.duly_go_pool_release(p.handle)
	p.mu.Lock()
	p.dropped = true
	idle := p.workers == 0
	p.mu.Unlock()
	if idle {
		go p.leave()
	}
}

// leave: a forgotten pool has no workers. It may still get some, for what it has accepted; the last of those comes here, too.
func (p *core) leave() {
	for {
		var left *task
		p.each(func(t *task) { left = t })
		if left == nil {
			break
		}
		<-left.Released()
		<-left.Done()
		runtime.Gosched()
	}
	p.mu.Lock()
	idle := p.workers == 0
	p.mu.Unlock()
	if idle {
		p.gone()
	}
}

// Stats are the counters of a pool. At rest the books balance: Submitted is the sum of the outcomes, Queued and Running.
type Stats struct {
	Submitted, Succeeded, Failed, Panicked, Cancelled, DeadlineExceeded, Shed, Abandoned, Queued, Running uint64
	// Refused submits made no task. Late callbacks returned after their task had its outcome; Overdue ones still run.
	Refused, Late, Overdue, Replaced, Stalled, Unobserved, BlockedProducers, Workers uint64
}

// Stats are the counters now.
func (p *Pool) Stats() Stats {
	defer runtime.KeepAlive(p)
	stats := readStats(C.duly_go_stats(p.handle))
	stats.Unobserved += p.unseen.Load()
	return stats
}

func readStats(s C.duly_stats) Stats {
	return Stats{
		Submitted: uint64(s.submitted), Succeeded: uint64(s.succeeded), Failed: uint64(s.failed), Panicked: uint64(s.panicked),
		Cancelled: uint64(s.cancelled), DeadlineExceeded: uint64(s.deadline_exceeded), Shed: uint64(s.shed),
		Abandoned: uint64(s.abandoned), Queued: uint64(s.queued), Running: uint64(s.running), Refused: uint64(s.refused),
		Late: uint64(s.late), Overdue: uint64(s.overdue), Replaced: uint64(s.replaced), Stalled: uint64(s.stalled),
		Unobserved: uint64(s.unobserved), BlockedProducers: uint64(s.blocked_producers), Workers: uint64(s.workers),
	}
}

func readReport(handle C.uintptr_t) Report {
	defer C.duly_go_report_release(handle)
	read := C.duly_go_read_report(handle)
	report := Report{
		Drained:     read.drained != 0,
		WorkersLeft: int(read.threads_left),
		Elapsed:     time.Duration(read.elapsed_ns),
		Stats:       readStats(C.duly_go_report_stats(handle)),
		text:        C.GoString(read.text),
	}
	for i := 0; i < int(read.abandoned); i++ {
		report.Abandoned = append(report.Abandoned, C.GoString(C.duly_go_report_label(handle, C.size_t(i), 0)))
	}
	for i := 0; i < int(read.stuck); i++ {
		report.Stuck = append(report.Stuck, C.GoString(C.duly_go_report_label(handle, C.size_t(i), 1)))
	}
	return report
}
