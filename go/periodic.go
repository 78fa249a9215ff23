//go:build cgo

package duly

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// A Periodic is a callback that is run again and again, each run a task: see [Every]. All methods may be called from any
// goroutine. Forgetting it cancels nothing.
type Periodic struct {
	pool   *core
	tag    uint64
	ctx    context.Context
	label  string
	stop   func() bool
	ended  chan struct{}
	over   chan struct{} // no run is left, and none will come
	handle C.uintptr_t

	mu   sync.Mutex
	fn   func(context.Context) error
	last error // of the last run that failed
	why  error
	told bool // its end was read
	gone bool // libduly calls it no more
}

// periodics are those that libduly knows of. Their tags have the highest bit, and four low bits that runs use.
var periodics struct {
	mu   sync.Mutex
	last uint64
	live map[uint64]*Periodic
	runs map[uint64]*run
}

const periodicTag = 1 << 63

func periodicOf(tag uint64) *Periodic {
	if tag&periodicTag == 0 {
		return nil
	}
	periodics.mu.Lock()
	defer periodics.mu.Unlock()
	return periodics.live[tag]
}

func anyPeriodic() bool {
	periodics.mu.Lock()
	defer periodics.mu.Unlock()
	return len(periodics.live) > 0
}

func periodicNumber() uint64 {
	periodics.last++
	return periodicTag | periodics.last<<4
}

// CatchUp has missed ticks made up for as soon as that is possible, one after the other. Of Every.
func CatchUp() TaskOption {
	return func(o *taskOptions) { o.every.flags |= C.DULY_PERIODIC_CATCH_UP; o.periodic = true }
}

// Overlap has runs begin although others are queued or running. Of Every.
func Overlap() TaskOption {
	return func(o *taskOptions) { o.every.flags |= C.DULY_PERIODIC_OVERLAP; o.periodic = true }
}

// MaxFailures ends a periodic task after so many failures in a row, 1 and more. Of Every.
func MaxFailures(failures int) TaskOption {
	return func(o *taskOptions) {
		o.every.max_failures = C.uint64_t(max(failures, 0))
		o.periodic = true
		o.badFailures = failures < 1
	}
}

// Jitter has each run begin up to so much after its tick, at random; less than the period. Of Every.
func Jitter(jitter time.Duration) TaskOption {
	return func(o *taskOptions) {
		o.every.jitter_ns = C.uint64_t(max(jitter, 0))
		o.periodic = true
		o.badJitter = jitter < 0
	}
}

// Every runs fn every period, until ctx is done, it is cancelled, or the pool is closed; the first time after one period, or
// after Delay. Ticks stand on a grid: a run that takes long moves none. A tick whose run cannot be submitted (the one before is not
// done, the queue is full) is missed, or made up for: CatchUp. Timeout, Label, OnQueue and Key are those of each run.
func Every(ctx context.Context, pool *Pool, period time.Duration, fn func(context.Context) error, options ...TaskOption) (*Periodic, error) {
	if pool == nil || fn == nil || ctx == nil {
		return nil, &SubmitError{err: ErrInvalidArgument, cause: errNil(pool == nil, fn == nil)}
	}
	var how taskOptions
	for _, option := range options {
		option(&how)
	}
	// Only its times and its refusals are used.
	probe := &task{pool: pool.core, ctx: context.Background(), label: how.label}
	switch {
	case period <= 0:
		return nil, probe.refused(ErrInvalidArgument, errors.New("the period is not above 0: "+period.String()))
	case how.badFailures:
		return nil, probe.refused(ErrInvalidArgument, errors.New("MaxFailures is below 1"))
	case how.badJitter:
		return nil, probe.refused(ErrInvalidArgument, errors.New("Jitter is negative"))
	case ctx.Err() != nil:
		return nil, probe.refused(ctx.Err(), context.Cause(ctx))
	}
	asked, err := probe.asks(&how)
	defer let(asked)
	if err != nil {
		return nil, err
	}
	how.every.period_ns = C.uint64_t(period)
	p := &Periodic{pool: pool.core, ctx: ctx, label: how.label, fn: fn, ended: make(chan struct{}), over: make(chan struct{})}
	periodics.mu.Lock()
	if periodics.live == nil {
		periodics.live, periodics.runs = map[uint64]*Periodic{}, map[uint64]*run{}
	}
	p.tag = periodicNumber()
	periodics.live[p.tag] = p
	periodics.mu.Unlock()
	// Its end is not read before the handle is there. Under this lock comes that of all, never the other way round.
	p.mu.Lock()
	made := C.duly_go_every(board.handle, pool.handle, C.uint64_t(p.tag), asked, how.every)
	p.handle = made.handle
	p.mu.Unlock()
	runtime.KeepAlive(pool)
	runtime.KeepAlive(how.queue)
	if err := statusError(made.status); err != nil {
		p.forget()
		nudgeBoard()
		return nil, probe.refused(err, nil)
	}
	runtime.SetFinalizer(p, func(p *Periodic) { C.duly_go_every_release(p.handle) })
	stop := context.AfterFunc(ctx, func() { p.Cancel(context.Cause(ctx)) })
	p.mu.Lock()
	p.stop = stop
	told := p.told
	p.mu.Unlock()
	if told {
		stop()
	}
	return p, nil
}

func (p *Periodic) forget() {
	periodics.mu.Lock()
	delete(periodics.live, p.tag)
	periodics.mu.Unlock()
}

// Label is what it was made as.
func (p *Periodic) Label() string { return p.label }

// Cancel ends it with a cause (nil: context.Canceled): a queued run is cancelled, the context of a running one is done. True if
// this call ended it.
func (p *Periodic) Cancel(cause error) bool {
	if cause == nil {
		cause = context.Canceled
	}
	text := C.CString(errorText(cause))
	defer C.free(unsafe.Pointer(text))
	p.mu.Lock()
	defer p.mu.Unlock()
	if C.duly_go_every_cancel(p.handle, text) == 0 {
		return false
	}
	p.endLocked(&TaskError{Outcome: Cancelled, Label: p.label, Pool: p.pool.name, Cause: cause})
	return true
}

func (p *Periodic) endLocked(why error) {
	if p.why == nil {
		p.why = why
		close(p.ended)
	}
}

// Done is closed when no more runs will come. One that was submitted before may still be running.
func (p *Periodic) Done() <-chan struct{} { return p.ended }

// Released is closed when no more runs will come, and the last one has returned.
func (p *Periodic) Released() <-chan struct{} { return p.over }

// Wait waits until no more runs will come, and tells why: a *TaskError that is context.Canceled, and is the cause; one whose
// Outcome is Failed, and is the error of the last run that did, after MaxFailures; or ErrShutDown. If ctx is done first, Wait
// gives its error.
func (p *Periodic) Wait(ctx context.Context) error {
	if at := inside(ctx); at != nil {
		defer at.lend()()
	}
	select {
	case <-p.ended:
	default:
		select {
		case <-p.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.why
}

// PeriodicStats is what a periodic task has done so far.
type PeriodicStats struct {
	// Runs are callbacks that were started; Failures those that gave an error, panicked, or returned after their task had been
	// ended from outside.
	Runs, Failures uint64
	// Missed are ticks without a run. Active runs are queued, or have not returned.
	Missed, Active uint64
}

// Stats is what it has done so far.
func (p *Periodic) Stats() PeriodicStats {
	defer runtime.KeepAlive(p)
	s := C.duly_go_every_stats(p.handle)
	return PeriodicStats{uint64(s.runs), uint64(s.failures), uint64(s.missed), uint64(s.active)}
}

// look reads the end, which the board has told of.
func (p *Periodic) look() {
	cause := context.Cause(p.ctx)
	p.mu.Lock()
	switch C.duly_go_every_end(p.handle) {
	case C.DULY_PERIODIC_CANCELLED:
		p.endLocked(&TaskError{Outcome: Cancelled, Label: p.label, Pool: p.pool.name, Cause: cause})
	case C.DULY_PERIODIC_FAILED:
		p.endLocked(&TaskError{Outcome: Failed, Label: p.label, Pool: p.pool.name, Cause: p.last})
	case C.DULY_PERIODIC_SHUT_DOWN:
		p.endLocked(fmt.Errorf("duly: %s of pool %s: %w", named(p.label), p.pool.name, ErrShutDown))
	}
	stop := p.stop
	p.told = true
	p.closeLocked()
	p.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// neverRun: libduly calls it no more.
func (p *Periodic) neverRun() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fn = nil
	p.gone = true
	close(p.over)
	p.closeLocked()
}

func (p *Periodic) closeLocked() {
	// The two come in any order.
	if p.told && p.gone {
		p.forget()
	}
}

// A run of a periodic task, and its context: it has the values of the one given to Every, and is done when the run has its
// outcome or is over.
type run struct {
	context.Context
	seat
	pool     *core
	label    string
	over     atomic.Bool
	deadline time.Time
	cancel   context.CancelCauseFunc
}

func (r *run) Deadline() (time.Time, bool) { return r.deadline, !r.deadline.IsZero() }

func (r *run) Value(key any) any {
	if _, ok := key.(ownTask); ok {
		return r
	}
	return r.Context.Value(key)
}

func (r *run) Err() error {
	err := r.Context.Err()
	if err != nil && errors.Is(context.Cause(r.Context), context.DeadlineExceeded) {
		return context.DeadlineExceeded
	}
	return err
}

// outside: the run has its outcome, and its callback has not returned.
func (r *run) outside(outcome Outcome) {
	r.cancel(&TaskError{Outcome: outcome, Label: r.label, Pool: r.pool.name})
}

// tick runs the callback once, for a thread that is a worker's.
func (p *Periodic) tick(call C.uintptr_t) end {
	p.mu.Lock()
	fn := p.fn
	p.mu.Unlock()
	r := &run{pool: p.pool, label: p.label}
	r.thread = make(chan func())
	r.Context, r.cancel = context.WithCancelCause(context.WithoutCancel(p.ctx))
	defer r.cancel(nil)
	if left := C.duly_go_time_left(call); left != C.DULY_FOREVER {
		r.deadline = time.Now().Add(time.Duration(left))
	}
	periodics.mu.Lock()
	tag := periodicNumber()
	periodics.runs[tag] = r
	periodics.mu.Unlock()
	C.duly_go_on_cancel(call, board.handle, C.uint64_t(tag))
	came := apart(&r.seat, p.label, func() end {
		pprof.SetGoroutineLabels(p.ctx)
		if err := fn(r); err != nil {
			return end{Failed, err}
		}
		return end{Succeeded, nil}
	})
	r.over.Store(true)
	periodics.mu.Lock()
	delete(periodics.runs, tag)
	periodics.mu.Unlock()
	if came.err != nil {
		p.mu.Lock()
		p.last = came.err
		p.mu.Unlock()
	}
	return came
}

// runEnded: the board tells how a run ended while its callback goes on.
func runEnded(tag uint64) {
	periodics.mu.Lock()
	r := periodics.runs[tag&^15]
	periodics.mu.Unlock()
	if r != nil {
		r.outside(Outcome(tag & 15))
	}
}
