package duly

import (
	"context"
	"errors"
	"fmt"
)

// Why a submit was refused, and how tasks ended that have no error of their own. For errors.Is.
var (
	// ErrQueueFull: the queue is full, or too many producers wait for room already.
	ErrQueueFull = errors.New("queue_full")
	// ErrSubmitTimedOut: there was no room within SubmitTimeout.
	ErrSubmitTimedOut = errors.New("submit_timed_out")
	// ErrShutDown: the pool is closed.
	ErrShutDown = errors.New("shut_down")
	// ErrWouldDeadlock: the call would wait for itself.
	ErrWouldDeadlock = errors.New("would_deadlock")
	// ErrInvalidArgument: a value is out of its bounds.
	ErrInvalidArgument = errors.New("invalid_argument")
	// ErrShed: the task was dropped by the overflow policy.
	ErrShed = errors.New("shed")
	// ErrAbandoned: the drain was over before the task had ended.
	ErrAbandoned = errors.New("abandoned")
	// ErrCallerLeft is the cause of a task that Run gave up because its context was done.
	ErrCallerLeft = errors.New("caller_left")
)

// Outcome is how a task ended. The zero value is none.
type Outcome int32

// The outcomes. Succeeded is the first; Pending is no outcome.
const (
	Pending Outcome = iota
	Succeeded
	Failed
	Panicked
	Cancelled
	DeadlineExceeded
	Shed
	Abandoned
)

var outcomes = [...]string{"pending", "succeeded", "failed", "panicked", "cancelled", "deadline_exceeded", "shed", "abandoned"}

// String is the outcome as the contract writes it.
func (o Outcome) String() string {
	if o < 0 || int(o) >= len(outcomes) {
		return fmt.Sprintf("Outcome(%d)", int32(o))
	}
	return outcomes[o]
}

// A SubmitError says why no task was made. The callback was not run and never will be.
type SubmitError struct {
	// Label is that of the task there would have been.
	Label string
	// Pool is the pool's name.
	Pool string
	err  error
	// Why the context was done, if that is why.
	cause error
}

func (e *SubmitError) Error() string {
	text := fmt.Sprintf("duly: pool %s refused %s: %v", e.Pool, named(e.Label), word(e.err))
	if e.cause != nil && e.cause != e.err {
		text += ": " + e.cause.Error()
	}
	return text
}

// Unwrap gives what errors.Is finds: one of this package's errors, context.Canceled or context.DeadlineExceeded, and the
// context's cause.
func (e *SubmitError) Unwrap() []error { return both(e.err, e.cause) }

// A TaskError says how a task ended without a result of its callback.
type TaskError struct {
	// Outcome is Cancelled, DeadlineExceeded, Shed or Abandoned.
	Outcome Outcome
	// Label is the task's.
	Label string
	// Pool is the pool's name.
	Pool string
	// Cause is what a cancelled task was cancelled for, if that is known.
	Cause error
}

func (e *TaskError) Error() string {
	text := fmt.Sprintf("duly: %s of pool %s: %v", named(e.Label), e.Pool, e.Outcome)
	if e.Cause != nil && e.Cause != context.Canceled {
		text += ": " + e.Cause.Error()
	}
	return text
}

// Unwrap gives what errors.Is finds: ErrShed, ErrAbandoned, context.Canceled or context.DeadlineExceeded, and the cause.
func (e *TaskError) Unwrap() []error {
	var is error
	switch e.Outcome {
	case Cancelled:
		is = context.Canceled
	case DeadlineExceeded:
		is = context.DeadlineExceeded
	case Shed:
		is = ErrShed
	case Abandoned:
		is = ErrAbandoned
	}
	return both(is, e.Cause)
}

// A PanicError is the outcome of a callback that panicked, or called runtime.Goexit.
type PanicError struct {
	// Value is what it panicked with; nil for Goexit.
	Value any
	// Stack is its stack, as debug.Stack formats it.
	Stack []byte
	// Goexit: it did not panic but ended its goroutine.
	Goexit bool
	// Label is the task's.
	Label string
}

func (e *PanicError) message() string {
	if e.Goexit {
		return "runtime.Goexit was called"
	}
	return fmt.Sprint(e.Value)
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("duly: %s panicked: %s\n%s", named(e.Label), e.message(), e.Stack)
}

// Unwrap gives the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// isCancelled: errors.Is(err, context.Canceled), whatever the methods of somebody's error do. Not under a lock.
func isCancelled(err error) (is bool) {
	defer func() { _ = recover() }()
	return errors.Is(err, context.Canceled)
}

func both(one, other error) []error {
	switch {
	case one == nil && other == nil:
		return nil
	case other == nil || one == other:
		return []error{one}
	case one == nil:
		return []error{other}
	}
	return []error{one, other}
}

func named(label string) string {
	if label == "" {
		return "a task"
	}
	return "task " + label
}

// word is the contract's name for a refusal.
func word(err error) string {
	switch err {
	case context.Canceled:
		return "cancelled"
	case context.DeadlineExceeded:
		return "deadline_exceeded"
	}
	return err.Error()
}
