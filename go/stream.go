//go:build cgo

package duly

import (
	"context"
	"errors"
	"runtime"
)

// A Stream gives fn of each item of an input, with never more than a window of them under way: see [NewStream]. It is used by one
// goroutine at a time.
type Stream[Out any] struct {
	window  int
	ordered bool
	ctx     context.Context
	cancel  context.CancelCauseFunc
	// Submits the next item; false: there are no more. With a context it waits for room until that is done; a full queue is
	// ErrQueueFull otherwise.
	next func(wait context.Context) (more bool, err error)
	// Under way, or waiting to be taken; an item that was refused has an error instead.
	flying []*flying[Out]
	ended  chan *flying[Out]
	dry    bool
	// Why the input was not taken to its end.
	why error
}

type flying[Out any] struct {
	task *Task[Out]
	err  error
}

// NewStream makes a stream over an input: next gives an item, or false when there are no more. It is called by Next, as there is
// room in the window: twice the parallelism of this process, or Window. Answers come in the order of the items, unless
// Unordered. The options are those of each item's task. When ctx is done, everything is cancelled, and the last answer is why.
//
// Call Close if not every answer is taken.
func NewStream[In, Out any](ctx context.Context, pool *Pool, next func() (In, bool), fn func(context.Context, In) (Out, error), options ...TaskOption) *Stream[Out] {
	s := &Stream[Out]{window: 2 * runtime.GOMAXPROCS(0), ordered: true}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	var held *In
	s.next = func(wait context.Context) (bool, error) {
		if held == nil {
			item, more := next()
			if !more {
				return false, nil
			}
			held = &item
		}
		item := *held
		f := &flying[Out]{}
		t := newTask(s.ctx, pool, func(ctx context.Context) (Out, error) { return fn(ctx, item) })
		if wait != nil {
			t.have().patience = wait
		}
		f.task = t
		if !s.ordered {
			t.wanted = true
			t.have().ended = func() { s.ended <- f }
		}
		err := t.start(options, wait != nil, true)
		if wait == nil && errors.Is(err, ErrQueueFull) || wait != nil && wait.Err() != nil && err != nil {
			// It is held until there is room.
			return true, err
		}
		held = nil
		if err != nil {
			f.task, f.err = nil, err
			if !s.ordered {
				s.ended <- f
			}
		}
		s.flying = append(s.flying, f)
		return true, nil
	}
	return s
}

// Window has at most so many items under way or waiting to be taken, 1 and more. Call it before the first Next.
func (s *Stream[Out]) Window(window int) *Stream[Out] {
	s.window = max(window, 1)
	return s
}

// Unordered has answers come as they complete. Call it before the first Next.
func (s *Stream[Out]) Unordered() *Stream[Out] {
	s.ordered = false
	return s
}

// Next waits for the next answer: the value for an item, or its error. False: there are no more. If ctx is done first, Next gives
// its error and true; nothing is lost.
func (s *Stream[Out]) Next(ctx context.Context) (value Out, more bool, err error) {
	if s.ended == nil {
		s.ended = make(chan *flying[Out], s.window)
	}
	for !s.dry && len(s.flying) < s.window {
		if s.ctx.Err() != nil {
			s.dry, s.why = true, context.Cause(s.ctx)
			break
		}
		var wait context.Context
		if len(s.flying) == 0 {
			// There is nothing else to wait for than room.
			wait = ctx
		}
		more, err := s.next(wait)
		if err != nil {
			if wait != nil && wait.Err() != nil {
				return value, true, wait.Err()
			}
			break
		}
		s.dry = !more
	}
	if len(s.flying) == 0 {
		if err, s.why = s.why, nil; err != nil {
			return value, true, err
		}
		s.cancel(nil)
		return value, false, nil
	}
	var f *flying[Out]
	if s.ordered {
		f = s.flying[0]
		if f.task != nil {
			if err := f.task.wait(ctx); err != nil {
				return value, true, err
			}
		}
		s.flying[0] = nil
		s.flying = s.flying[1:]
	} else {
		if f, err = s.first(ctx); err != nil {
			return value, true, err
		}
		for i, one := range s.flying {
			if one == f {
				s.flying = append(s.flying[:i], s.flying[i+1:]...)
				break
			}
		}
	}
	if f.task == nil {
		return value, true, f.err
	}
	if err := f.task.result(); err != nil {
		return value, true, err
	}
	return f.task.value, true, nil
}

// first waits for one that has ended.
func (s *Stream[Out]) first(ctx context.Context) (*flying[Out], error) {
	select {
	case f := <-s.ended:
		return f, nil
	default:
	}
	if at := inside(ctx); at != nil {
		defer at.lend()()
	}
	select {
	case f := <-s.ended:
		return f, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close cancels what is under way; no more items are taken.
func (s *Stream[Out]) Close() {
	s.cancel(ErrCallerLeft)
	s.flying, s.dry = nil, true
}
