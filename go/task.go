//go:build cgo

package duly

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// A Task is one accepted callback: it has exactly one outcome, sooner or later, which every waiter sees. All methods may be
// called from any goroutine. Forgetting a Task cancels nothing.
type Task[T any] struct {
	task
	fn    func(context.Context) (T, error)
	value T
}

// call is the callback's run, on a goroutine of its own for as long.
func (t *Task[T]) call(ctx context.Context) error {
	fn := t.fn
	t.fn = nil
	value, err := fn(ctx)
	if err == nil {
		t.value = value
	}
	return err
}

// drop lets go of what the callback captured, or of the value of a late one.
func (t *Task[T]) drop() {
	var none T
	t.fn, t.value = nil, none
}

// Wait waits for the outcome: the callback's value or its own error, a *PanicError, or a *TaskError. If ctx is done first,
// Wait returns the context's error, and the task goes on.
//
// With the context of a callback of the same pool, another worker takes its place while it waits; a wait that nobody could
// end is refused with ErrWouldDeadlock.
func (t *Task[T]) Wait(ctx context.Context) (T, error) {
	var none T
	if err := t.wait(ctx); err != nil {
		return none, err
	}
	if err := t.result(); err != nil {
		return none, err
	}
	return t.value, nil
}

// callback is a Task without its type.
type callback interface {
	call(context.Context) error
	drop()
}

// task is what is alike in all Tasks.
//
// Keeps true:
//  1. It is settled once, with the outcome that libduly has, under mu; what it publishes is written before state.
//  2. handle is there from the submit until it is settled, or claimed by the worker that says how the callback ended.
//  3. It is in live until it is settled and its callback has returned, or never will run.
//  4. Nobody but its own goroutine touches fn and value until it is released; a value is read only of one that succeeded.
//
// mu is a leaf: under it nothing but libduly is called, and only what never blocks.
type task struct {
	pool *core
	tag  uint64
	body callback
	ctx  context.Context // the submitter's

	mu       sync.Mutex
	state    atomic.Uint32
	observed atomic.Bool // somebody asked how it ended
	handle   C.uintptr_t
	watch    C.uintptr_t
	// A wait that nothing else can end.
	plain sync.WaitGroup
	done  chan struct{}
	err   error

	label    string
	deadline time.Time
	seat     *seat
	more     *more

	outcome Outcome
	wanted  bool // somebody has to know its end soon
	under   bool // it stands under a token
	unknown bool // it was ended elsewhere, before the handle was there
	claimed bool // its worker is about to say how it ended
	gone    bool // its callback has returned or never will run
	removed bool
}

// more is what few tasks need. Under mu, but for what is there before the submit.
type more struct {
	cause    error
	freed    chan struct{}
	afters   map[*after]struct{}
	room     chan struct{}
	patience context.Context // ends a submit that waits for room, too
	kept     chan struct{}   // closed when the handle is there, if somebody waits for that
	queue    *Queue
	// Told once it is settled; code of this package.
	ended func()
	// It was; under its group's lock.
	told bool
	// Ends what it stands under, if that is its own; once it is settled or refused.
	over context.CancelFunc
	// What the callback came to, of a run that is none of a worker's.
	ran *end
}

func (t *task) have() *more {
	if t.more == nil {
		t.more = &more{}
	}
	return t.more
}

const settled = 1

var closedChan = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// Outcome is how the task ended, or Pending. Never blocks.
func (t *task) Outcome() Outcome {
	if t.state.Load() != settled {
		t.look()
		if t.state.Load() != settled {
			return Pending
		}
	}
	t.observe()
	return t.outcome
}

// observe: a failure is known to somebody.
func (t *task) observe() {
	if t.outcome != Succeeded && !t.observed.Load() {
		t.observed.Store(true)
	}
}

// Label is what it was submitted as.
func (t *task) Label() string { return t.label }

// Done is closed when the task has its outcome.
func (t *task) Done() <-chan struct{} {
	if t.state.Load() == settled {
		return closedChan
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state.Load() == settled {
		return closedChan
	}
	if t.done == nil {
		t.done = make(chan struct{})
	}
	t.watchLocked()
	return t.done
}

// Released is closed when the callback has returned, or never will run: what it captured is free then.
func (t *task) Released() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone {
		return closedChan
	}
	m := t.have()
	if m.freed == nil {
		m.freed = make(chan struct{})
	}
	return m.freed
}

// Cancel cancels the task with a cause (nil: context.Canceled), which errors.Is finds in its error. Queued or running, it
// has its outcome when Cancel returns. True if this call decided it.
func (t *task) Cancel(cause error) bool {
	if cause == nil {
		cause = context.Canceled
	}
	text := C.CString(errorText(cause))
	defer C.free(unsafe.Pointer(text))
	t.mu.Lock()
	if t.state.Load() == settled {
		t.mu.Unlock()
		return false
	}
	if t.handle == 0 {
		t.mu.Unlock()
		// Its callback has returned: the outcome is about to be known.
		<-t.Done()
		return false
	}
	decided := C.duly_go_cancel(t.handle, text) != 0
	if decided {
		t.have().cause = cause
	}
	t.mu.Unlock()
	t.look()
	return decided
}

// watchLocked sees to it that the end is known soon. The board tells of it, if somebody else than its worker or this package
// may end it. Under mu.
func (t *task) watchLocked() {
	t.wanted = true
	others := t.under || t.more != nil && t.more.ran != nil || t.gone || !t.deadline.IsZero() || t.pool.closing.Load()
	if others && t.handle != 0 && t.watch == 0 {
		t.watch = C.duly_go_watch(board.handle, t.handle, C.uint64_t(t.tag)).handle
	}
}

// keep stores the handle that a submit gave.
func (t *task) keep(handle C.uintptr_t) {
	t.mu.Lock()
	t.keptLocked()
	if t.state.Load() == settled || t.claimed {
		t.mu.Unlock()
		C.duly_go_release(handle, 0)
		return
	}
	t.handle = handle
	if t.wanted {
		t.watchLocked()
	}
	unknown := t.unknown
	t.mu.Unlock()
	if unknown {
		t.look()
		// Perhaps its pool is gone, and this was the last to come.
		nudgeBoard()
	}
}

func (t *task) keptLocked() {
	if m := t.more; m != nil && m.kept != nil {
		close(m.kept)
		m.kept = nil
	}
}

// look settles the task if it was ended by somebody else than its callback.
func (t *task) look() {
	t.mu.Lock()
	if t.state.Load() == settled {
		t.mu.Unlock()
		return
	}
	if t.handle == 0 {
		t.unknown = true
		t.mu.Unlock()
		return
	}
	outcome := Outcome(C.duly_go_outcome(t.handle))
	switch outcome {
	case Pending:
		if t.gone {
			t.watchLocked()
		}
		t.mu.Unlock()
	case Succeeded, Failed, Panicked:
		if t.more == nil || t.more.ran == nil {
			// Its worker is about to say so.
			t.mu.Unlock()
			return
		}
		t.settleLocked(outcome, t.more.ran.err)
	default:
		t.settleLocked(outcome, t.taskErrorLocked(outcome))
	}
}

func (t *task) taskErrorLocked(outcome Outcome) error {
	err := &TaskError{Outcome: outcome, Label: t.label, Pool: t.pool.name}
	if outcome == Cancelled {
		if t.more != nil {
			err.Cause = t.more.cause
		}
		if err.Cause == nil {
			err.Cause = context.Cause(t.ctx)
		}
	}
	return err
}

// settleLocked publishes the outcome. Takes mu locked and leaves it unlocked.
func (t *task) settleLocked(outcome Outcome, err error) {
	var afters map[*after]struct{}
	var ended, over func()
	if m := t.more; m != nil {
		ended, over, afters = m.ended, m.over, m.afters
		m.afters = nil
	}
	t.outcome, t.err = outcome, err
	if (outcome == Failed || outcome == Panicked) && ended == nil {
		runtime.SetFinalizer(t, (*task).unobserved)
	}
	t.keptLocked()
	handle, watch := t.handle, t.watch
	t.handle, t.watch = 0, 0
	t.state.Store(settled)
	t.plain.Done()
	if t.done != nil {
		close(t.done)
	}
	remove := t.gone && !t.removed
	t.removed = t.removed || remove
	t.mu.Unlock()
	if handle != 0 || watch != 0 {
		C.duly_go_release(handle, watch)
	}
	for after := range afters {
		go after.call()
	}
	if over != nil {
		over()
	}
	if ended != nil {
		ended()
	}
	if remove {
		live.remove(t.tag)
	}
}

// release says that the callback is over. What it captured is let go of, and the value if it is late.
func (t *task) release() {
	t.mu.Lock()
	if t.gone {
		t.mu.Unlock()
		return
	}
	t.gone = true
	t.freedLocked()
	remove := t.state.Load() == settled && !t.removed
	t.removed = t.removed || remove
	t.mu.Unlock()
	if remove {
		live.remove(t.tag)
	}
}

// neverRun: libduly will not run the callback.
func (t *task) neverRun() {
	t.body.drop()
	t.release()
	t.look()
}

// claim hands the handle to the worker that is about to say how the callback ended, which releases it.
func (t *task) claim() C.uintptr_t {
	t.mu.Lock()
	handle := t.handle
	t.handle = 0
	t.claimed = handle != 0
	t.mu.Unlock()
	return handle
}

// returned: its worker has said how the callback ended.
func (t *task) returned(stepped C.duly_go_stepped, came end) {
	t.mu.Lock()
	if t.state.Load() != settled {
		switch {
		case stepped.decided != 0:
			t.settleLocked(came.outcome, came.err)
			t.release()
			return
		case stepped.outcome != 0:
			outcome := Outcome(stepped.outcome)
			t.settleLocked(outcome, t.taskErrorLocked(outcome))
			t.body.drop()
			t.release()
			return
		}
		// Ended elsewhere while its submitter had not got the handle yet.
		t.unknown = true
	}
	t.mu.Unlock()
	t.body.drop()
	t.release()
	t.look()
}

// elsewhere: its callback has run on a thread of another's.
func (t *task) elsewhere(came end) {
	t.mu.Lock()
	t.have().ran = &came
	t.watchLocked()
	late := t.state.Load() == settled
	t.mu.Unlock()
	if late {
		t.body.drop()
	}
	t.release()
}

func (t *task) freedLocked() {
	if t.more != nil && t.more.freed != nil {
		close(t.more.freed)
	}
}

// run calls the callback.
func (t *task) run() end {
	labelled := t.ctx != context.Background()
	if labelled {
		pprof.SetGoroutineLabels(t.ctx)
		defer pprof.SetGoroutineLabels(context.Background())
	}
	if err := t.body.call((*callbackContext)(t)); err != nil {
		return end{Failed, err}
	}
	return end{Succeeded, nil}
}

func (t *task) panicked(value any) end { return panicked(t.label, value) }
func (t *task) exited() end            { return exited(t.label) }

func panicked(label string, value any) end {
	return end{Panicked, &PanicError{Value: value, Stack: debug.Stack(), Label: label}}
}

func exited(label string) end {
	return end{Panicked, &PanicError{Goexit: true, Stack: debug.Stack(), Label: label}}
}

// wait waits for the outcome, or for ctx.
func (t *task) wait(ctx context.Context) error {
	if t.state.Load() == settled {
		return nil
	}
	if at := inside(ctx); at != nil {
		return at.waitFor(t, ctx)
	}
	return t.await(ctx)
}

func (t *task) await(ctx context.Context) error {
	if ctx.Done() == nil {
		t.mu.Lock()
		if t.state.Load() != settled {
			t.watchLocked()
		}
		t.mu.Unlock()
		t.plain.Wait()
		return nil
	}
	select {
	case <-t.Done():
		return nil
	case <-ctx.Done():
		if t.state.Load() == settled {
			return nil
		}
		return ctx.Err()
	}
}

// result is the error of a settled task.
func (t *task) result() error {
	t.observe()
	var panicked *PanicError
	if t.pool.repanic && t.outcome == Panicked && errors.As(t.err, &panicked) {
		panic(panicked)
	}
	return t.err
}
