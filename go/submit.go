//go:build cgo

package duly

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"time"
	"unsafe"
)

// A TaskOption changes how one task is submitted.
type TaskOption func(*taskOptions)

type taskOptions struct {
	label         string
	timeout       time.Duration
	noDeadline    bool
	submitTimeout time.Duration
	hasTimeout    bool
	hasSubmit     bool
	delay         time.Duration
	queue         *Queue
	key           string
	hasKey        bool
	overflow      Overflow
	hasOverflow   bool
	// Of Every alone.
	periodic, badFailures, badJitter bool
	every                            C.duly_go_every_how
}

// Label names the task in reports and errors.
func Label(label string) TaskOption { return func(o *taskOptions) { o.label = label } }

// Timeout is the span from the submit within which the task has its outcome, waiting for room and in the queue included. The
// context's deadline holds as well. Default: the pool's DefaultTimeout.
func Timeout(timeout time.Duration) TaskOption {
	return func(o *taskOptions) { o.timeout, o.hasTimeout, o.noDeadline = timeout, true, false }
}

// NoTimeout leaves the task without a deadline of its own, whatever the pool's DefaultTimeout.
func NoTimeout() TaskOption { return func(o *taskOptions) { o.noDeadline, o.hasTimeout = true, false } }

// SubmitTimeout is how long Submit may wait for room. Default: until there is room, or the context is done.
func SubmitTimeout(timeout time.Duration) TaskOption {
	return func(o *taskOptions) { o.submitTimeout, o.hasSubmit = timeout, true }
}

// Delay has the task accepted now and started when that has passed, not earlier.
func Delay(delay time.Duration) TaskOption { return func(o *taskOptions) { o.delay = delay } }

// OnQueue has the task go into this queue of the pool. Default: the pool's own, DefaultQueue.
func OnQueue(queue *Queue) TaskOption { return func(o *taskOptions) { o.queue = queue } }

// Key makes the task one of those with this key: of them at most the queue's KeyLimit run at the same time, and keys take
// turns. Default: none.
func Key(key string) TaskOption { return func(o *taskOptions) { o.key, o.hasKey = key, true } }

// WhenFull is what this submit does when the queue is full. Default: as the queue does. TrySubmit never waits, whatever it
// names: under Block and CallerRuns it is ErrQueueFull.
func WhenFull(overflow Overflow) TaskOption {
	return func(o *taskOptions) { o.overflow, o.hasOverflow = overflow, true }
}

// Submit has fn run by a worker of the pool and gives its Task. A full queue is dealt with by WhenFull, or the queue's overflow
// policy; under Block, Submit waits for room, until ctx is done, without a thread.
//
// When ctx is done, the task is cancelled; ctx's deadline is the task's.
func Submit[T any](ctx context.Context, pool *Pool, fn func(context.Context) (T, error), options ...TaskOption) (*Task[T], error) {
	return submit(ctx, pool, fn, options, true, true)
}

// TrySubmit is Submit that never waits for room: a full queue is ErrQueueFull, or what the policy does.
func TrySubmit[T any](ctx context.Context, pool *Pool, fn func(context.Context) (T, error), options ...TaskOption) (*Task[T], error) {
	return submit(ctx, pool, fn, options, false, true)
}

// Run submits and waits in one. If ctx is done first, the task is cancelled, with ErrCallerLeft among its causes.
func Run[T any](ctx context.Context, pool *Pool, fn func(context.Context) (T, error), options ...TaskOption) (T, error) {
	var none T
	// Whoever waits here looks at ctx itself: no token is needed.
	t, err := submit(ctx, pool, fn, options, true, false)
	if err != nil {
		return none, err
	}
	if err := t.wait(ctx); err != nil && !(errors.Is(err, context.DeadlineExceeded) && t.isDue()) {
		t.Cancel(callerLeft(ctx))
	}
	<-t.Done()
	runtime.KeepAlive(pool)
	return t.Wait(context.Background())
}

// isDue: libduly has a deadline for it that has passed, so it ends by itself.
func (t *task) isDue() bool { return !t.deadline.IsZero() && !time.Now().Before(t.deadline) }

func callerLeft(ctx context.Context) error {
	if cause := context.Cause(ctx); cause != nil && cause != context.Canceled {
		return errors.Join(ErrCallerLeft, cause)
	}
	return ErrCallerLeft
}

func submit[T any](ctx context.Context, pool *Pool, fn func(context.Context) (T, error), options []TaskOption, wait, token bool) (*Task[T], error) {
	if pool == nil || fn == nil || ctx == nil {
		return nil, &SubmitError{Pool: "", err: ErrInvalidArgument, cause: errNil(pool == nil, fn == nil)}
	}
	t := newTask(ctx, pool, fn)
	err := t.start(options, wait, token)
	// The task does not keep it; while the call is in C, somebody has to.
	runtime.KeepAlive(pool)
	if err != nil {
		return nil, err
	}
	return t, nil
}

func newTask[T any](ctx context.Context, pool *Pool, fn func(context.Context) (T, error)) *Task[T] {
	t := &Task[T]{fn: fn}
	t.body = t
	t.pool = pool.core
	t.ctx = ctx
	t.plain.Add(1)
	return t
}

func (t *task) start(options []TaskOption, wait, token bool) error {
	var how taskOptions
	for _, option := range options {
		option(&how)
	}
	t.label = how.label
	return t.submit(&how, wait, token)
}

func errNil(pool, fn bool) error {
	switch {
	case pool:
		return errors.New("the pool is nil")
	case fn:
		return errors.New("the callback is nil")
	}
	return errors.New("the context is nil")
}

func (t *task) refused(err, cause error) error {
	return &SubmitError{Label: t.label, Pool: t.pool.name, err: err, cause: cause}
}

// asks checks the options and gives what libduly is asked for; let gives it back.
func (t *task) asks(how *taskOptions) (asked C.duly_go_task, err error) {
	if asked, err = t.times(how); err != nil {
		return asked, err
	}
	if how.hasOverflow {
		if how.overflow < Block || how.overflow > CallerRuns {
			return asked, t.refused(ErrInvalidArgument, fmt.Errorf("WhenFull(%d) is none of the policies", how.overflow))
		}
		asked.overflow = C.int32_t(how.overflow)
	}
	if t.label != "" {
		asked.label = C.CString(t.label)
	}
	if how.hasKey {
		// At least one byte, so that an empty key has a place.
		asked.key, asked.key_size = C.CString(how.key), C.size_t(len(how.key))
	}
	if how.queue != nil {
		asked.queue = how.queue.handle
	}
	return asked, nil
}

func let(asked C.duly_go_task) {
	if asked.label != nil {
		C.free(unsafe.Pointer(asked.label))
	}
	if asked.key != nil {
		C.free(unsafe.Pointer(asked.key))
	}
}

// times checks the options and gives the spans that libduly takes: 0 is none.
func (t *task) times(how *taskOptions) (times C.duly_go_task, err error) {
	negative := func(d time.Duration, what string) error {
		return t.refused(ErrInvalidArgument, errors.New(what+" is negative: "+d.String()))
	}
	span := func(d time.Duration) C.uint64_t {
		if d <= 0 {
			return 1
		}
		return C.uint64_t(d)
	}
	if how.timeout < 0 {
		return times, negative(how.timeout, "Timeout")
	}
	if how.submitTimeout < 0 {
		return times, negative(how.submitTimeout, "SubmitTimeout")
	}
	if how.delay < 0 {
		return times, negative(how.delay, "Delay")
	}
	times.delay_ns = C.uint64_t(how.delay)
	if how.hasSubmit {
		times.submit_timeout_ns = span(how.submitTimeout)
	}
	timeout, bounded := how.timeout, how.hasTimeout
	if !bounded && !how.noDeadline && t.pool.defaultTimeout > 0 {
		timeout, bounded = t.pool.defaultTimeout, true
	}
	if deadline, ok := t.ctx.Deadline(); ok {
		if left := time.Until(deadline); !bounded || left < timeout {
			timeout, bounded = left, true
			t.deadline = deadline
		}
	}
	if bounded {
		times.timeout_ns = span(timeout)
		if t.deadline.IsZero() {
			t.deadline = time.Now().Add(timeout)
		}
	} else if how.noDeadline {
		times.timeout_ns = math.MaxUint64
	}
	return times, nil
}

func (t *task) submit(how *taskOptions, wait, withToken bool) error {
	if how.periodic {
		return t.refused(ErrInvalidArgument, errors.New("CatchUp, Overlap, MaxFailures and Jitter are options of Every"))
	}
	asked, err := t.asks(how)
	if asked.label != nil || asked.key != nil {
		defer let(asked)
	}
	if err != nil {
		return err
	}
	if err := t.ctx.Err(); err != nil {
		return t.refused(err, context.Cause(t.ctx))
	}
	overflow := t.pool.overflow
	if how.queue != nil {
		// It is not given back before the task is.
		t.have().queue = how.queue
		overflow = how.queue.overflow
	}
	if how.hasOverflow {
		overflow = how.overflow
	}
	way := how.way(wait, overflow)
	var at *spot
	if way&^C.DULY_GO_GATHER == C.DULY_GO_OFFER {
		at = inside(t.ctx)
	}
	// Whoever waits for room in C has to hear that the context is done.
	if (withToken || at != nil) && t.ctx.Done() != nil {
		from := t.ctx
		if at != nil && t.more != nil && t.more.patience != nil {
			// It ends the wait for room, and not the task; if both come in the same moment, that is cancelled, which its answer says.
			ctx, leave := context.WithCancel(t.ctx)
			t.more.over = leave
			defer context.AfterFunc(t.more.patience, leave)()
			from = ctx
		}
		under := t.pool.tokens.of(from)
		defer t.pool.tokens.leave(under)
		asked.token = under.handle
		t.under = true
	}
	t.tag = live.put(t)
	if at != nil {
		return t.accepted(at.submit(t, asked))
	}
	made := C.duly_go_submit(board.handle, t.pool.handle, C.uint64_t(t.tag), asked, way)
	if made.status == C.DULY_STATUS_PENDING {
		wake(made.woken)
		return t.stand(made.handle)
	}
	return t.accepted(made)
}

// way is how libduly is first asked. Nobody waits for room in C. Where the callback may be run within, nobody gathers.
func (o *taskOptions) way(wait bool, overflow Overflow) C.int {
	switch {
	case overflow == CallerRuns && wait:
		return C.DULY_GO_WAIT
	case overflow == CallerRuns:
		return C.DULY_GO_TRY
	case wait && overflow == Block:
		return C.DULY_GO_OFFER | C.DULY_GO_GATHER
	}
	return C.DULY_GO_TRY | C.DULY_GO_GATHER
}

// accepted takes what a submit came to.
func (t *task) accepted(made C.duly_go_made) error {
	if made.status == C.DULY_STATUS_OK {
		t.keep(made.handle)
		wake(made.woken)
		return nil
	}
	wake(made.woken)
	t.body.drop()
	if t.more != nil && t.more.over != nil {
		t.more.over()
	}
	live.remove(t.tag)
	nudgeBoard()
	err := refusals[int32(made.status)]
	if err == nil {
		err = ErrInvalidArgument
	}
	var cause error
	if err == context.Canceled {
		cause = context.Cause(t.ctx)
	}
	return t.refused(err, cause)
}

var refusals = map[int32]error{
	C.DULY_STATUS_QUEUE_FULL:        ErrQueueFull,
	C.DULY_STATUS_SUBMIT_TIMED_OUT:  ErrSubmitTimedOut,
	C.DULY_STATUS_DEADLINE_EXCEEDED: context.DeadlineExceeded,
	C.DULY_STATUS_CANCELLED:         context.Canceled,
	C.DULY_STATUS_SHUT_DOWN:         ErrShutDown,
	C.DULY_STATUS_WOULD_DEADLOCK:    ErrWouldDeadlock,
}

// stand waits in line for room. The board tells when to look again; ctx ends it.
func (t *task) stand(offer C.uintptr_t) error {
	defer C.duly_go_offer_release(offer)
	room := make(chan struct{}, 1)
	t.mu.Lock()
	m := t.have()
	m.room = room
	t.mu.Unlock()
	patience := m.patience
	if patience == nil {
		patience = t.ctx
	}
	for {
		made := C.duly_go_again(offer)
		if made.status != C.DULY_STATUS_PENDING {
			return t.accepted(made)
		}
		wake(made.woken)
		left := t.ctx
		select {
		case <-room:
			continue
		case <-t.ctx.Done():
		case <-patience.Done():
			left = patience
		}
		// There may have been room at last.
		if made = C.duly_go_again(offer); made.status != C.DULY_STATUS_PENDING {
			return t.accepted(made)
		}
		wake(made.woken)
		// The tag comes back from the board, and is removed then.
		t.mu.Lock()
		t.state.Store(settled)
		t.mu.Unlock()
		return t.refused(left.Err(), context.Cause(left))
	}
}
