//go:build cgo

package duly

// #include "shim.h"
import "C"

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
)

// A seat is where a callback runs: waits and submits inside of it are done so that libduly knows who waits (P10).
//
// Either the callback's goroutine is a worker, or it is one of its own, and a thread of libduly sits in C until the callback has
// returned and does what is sent to it.
type seat struct {
	// Of the goroutine that the callback is on.
	goroutine atomic.Uint64
	worker    C.uintptr_t
	thread    chan func()
}

// A spot is a callback that the calling goroutine is inside of.
type spot struct {
	*seat
	pool *core
	// Nil in a run of a periodic task.
	task *task
}

// goroutine is the number of the calling goroutine. It takes a microsecond, and is asked only by who is about to wait.
func goroutine() (number uint64) {
	var buffer [32]byte
	for _, c := range buffer[len("goroutine "):runtime.Stack(buffer[:], false)] {
		if c < '0' || c > '9' {
			break
		}
		number = number*10 + uint64(c-'0')
	}
	return number
}

// inside is where this goroutine is, if ctx was made by the callback that it runs.
func inside(ctx context.Context) *spot {
	switch own := ctx.Value(ownTask{}).(type) {
	case *task:
		if own.seat != nil && !own.isGone() && own.seat.goroutine.Load() == goroutine() {
			return &spot{own.seat, own.pool, own}
		}
	case *run:
		if !own.over.Load() && own.seat.goroutine.Load() == goroutine() {
			return &spot{&own.seat, own.pool, nil}
		}
	}
	return nil
}

// serve does what is sent to the thread, until the callback has returned.
func (s *seat) serve(returned <-chan struct{}) {
	for {
		select {
		case do := <-s.thread:
			do()
		case <-returned:
			return
		}
	}
}

// on has the seat's thread do something, and waits for that.
func (s *seat) on(do func()) {
	done := make(chan struct{})
	s.thread <- func() {
		defer close(done)
		do()
	}
	<-done
}

// lend has another worker stand in, until what it gives is called.
func (at *spot) lend() (back func()) {
	if w := at.worker; w != 0 {
		C.duly_go_away(w)
		return func() { C.duly_go_back(w) }
	}
	bell := at.pool.bell()
	if bell == 0 {
		// The pool is closed, or forgotten.
		return func() {}
	}
	done := make(chan struct{})
	at.thread <- func() {
		defer close(done)
		C.duly_go_bell_wait(bell)
	}
	return func() {
		C.duly_go_bell_ring(bell)
		<-done
		C.duly_go_bell_release(bell)
	}
}

// bell is something to wait for until it is rung; 0 if the pool gives none any more. A callback does not keep its pool.
func (p *core) bell() C.uintptr_t {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released {
		return 0
	}
	return C.duly_go_bell(p.handle)
}

// waitFor waits, inside a callback, for a task, or for ctx.
func (at *spot) waitFor(other *task, ctx context.Context) error {
	if own := at.task; at.worker != 0 && ctx.Done() == own.Done() {
		// Nothing ends this wait but one of the two tasks. libduly runs the other here if need be, or says that it cannot end.
		mine, its := own.reference(ctx), other.reference(ctx)
		if mine != 0 && its != 0 {
			status := C.duly_go_wait_inside(at.worker, mine, its)
			if status == C.DULY_STATUS_WOULD_DEADLOCK {
				return fmt.Errorf("duly: %s of pool %s waits for %s: %w", named(own.label), own.pool.name, named(other.label), ErrWouldDeadlock)
			}
			own.look()
			if own.state.Load() == settled && other.Outcome() == Pending {
				return (*callbackContext)(own).Err()
			}
		} else {
			C.duly_go_release(mine, 0)
			C.duly_go_release(its, 0)
		}
	}
	defer at.lend()()
	return other.await(ctx)
}

// submit has libduly wait for room inside this callback.
func (at *spot) submit(t *task, asked C.duly_go_task) (made C.duly_go_made) {
	if at.worker != 0 {
		return C.duly_go_submit_inside(at.worker, board.handle, t.pool.handle, C.uint64_t(t.tag), asked)
	}
	at.on(func() {
		made = C.duly_go_submit(board.handle, t.pool.handle, C.uint64_t(t.tag), asked, C.DULY_GO_WAIT)
	})
	return made
}

// reference is one of the caller's own to what libduly has; 0 if the task is settled, or about to be, or ctx is done first. The
// task has been accepted; its callback may run before the one who submitted it has come back with the handle, which is waited
// for.
func (t *task) reference(ctx context.Context) C.uintptr_t {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.handle == 0 && !t.claimed && t.state.Load() != settled {
		m := t.have()
		if m.kept == nil {
			m.kept = make(chan struct{})
		}
		kept := m.kept
		t.mu.Unlock()
		select {
		case <-kept:
			t.mu.Lock()
		case <-ctx.Done():
			t.mu.Lock()
			return 0
		}
	}
	if t.handle == 0 {
		return 0
	}
	return C.duly_go_retain(t.handle)
}
