//go:build cgo

package duly

import (
	"context"
	"time"
)

// callbackContext is what a callback gets: the submitter's context, which is done when the task has its outcome.
//
// Nothing is made for it until somebody asks.
type callbackContext task

type ownTask struct{}

// taskOf is the task in whose callback ctx was made, if any.
func taskOf(ctx context.Context) *task {
	t, _ := ctx.Value(ownTask{}).(*task)
	return t
}

// insideOf: ctx is that of a callback of the pool which has not returned, on whatever goroutine.
func insideOf(ctx context.Context, p *core) bool {
	switch own := ctx.Value(ownTask{}).(type) {
	case *task:
		return own.pool == p && !own.isGone()
	case *run:
		return own.pool == p && !own.over.Load()
	}
	return false
}

func (c *callbackContext) Deadline() (time.Time, bool) {
	return c.deadline, !c.deadline.IsZero()
}

func (c *callbackContext) Done() <-chan struct{} { return (*task)(c).Done() }

func (c *callbackContext) Err() error {
	t := (*task)(c)
	if t.state.Load() != settled {
		t.mu.Lock()
		if t.state.Load() != settled {
			t.watchLocked()
			t.mu.Unlock()
			return nil
		}
		t.mu.Unlock()
	}
	if t.outcome == DeadlineExceeded {
		return context.DeadlineExceeded
	}
	return context.Canceled
}

func (c *callbackContext) Value(key any) any {
	if _, ok := key.(ownTask); ok {
		return (*task)(c)
	}
	return c.ctx.Value(key)
}

// String is what a context is shown as.
func (c *callbackContext) String() string { return "duly.callback(" + c.label + ")" }

type after struct{ call func() }

// AfterFunc lets contexts that are made from this one follow it without a goroutine each.
func (c *callbackContext) AfterFunc(call func()) (stop func() bool) {
	t := (*task)(c)
	made := &after{call}
	t.mu.Lock()
	if t.state.Load() == settled {
		t.mu.Unlock()
		go call()
		return func() bool { return false }
	}
	m := t.have()
	if m.afters == nil {
		m.afters = map[*after]struct{}{}
	}
	m.afters[made] = struct{}{}
	t.watchLocked()
	t.mu.Unlock()
	return func() bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		_, there := m.afters[made]
		delete(m.afters, made)
		return there
	}
}

// Cause is why ctx is done: of a callback's context, how its task ended, such as a *TaskError that is ErrAbandoned; otherwise
// context.Cause. Nil while it is not.
func Cause(ctx context.Context) error {
	if t := taskOf(ctx); t != nil && ctx.Done() == t.Done() {
		if t.state.Load() == settled && t.err != nil {
			return t.err
		}
		return ctx.Err()
	}
	return context.Cause(ctx)
}
