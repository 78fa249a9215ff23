//go:build cgo

package duly

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// A worker of libduly, for a goroutine. With nothing to do it waits in Go, where whoever submits in Go hands its turn over.
type worker struct {
	seat
	number uint64
	wake   chan struct{}
	// What a callback came to that has ended its goroutine.
	came end
}

// roster numbers the workers, for those who wake them. It is copied when it changes.
var roster struct {
	mu      sync.Mutex
	workers atomic.Pointer[[]*worker]
	free    []uint64
}

func enlist(w *worker) {
	roster.mu.Lock()
	defer roster.mu.Unlock()
	var workers []*worker
	if now := roster.workers.Load(); now != nil {
		workers = append(workers, *now...)
	}
	if last := len(roster.free); last > 0 {
		w.number = roster.free[last-1]
		roster.free = roster.free[:last-1]
		workers[w.number-1] = w
	} else {
		workers = append(workers, w)
		w.number = uint64(len(workers))
	}
	roster.workers.Store(&workers)
}

func delist(w *worker) {
	roster.mu.Lock()
	defer roster.mu.Unlock()
	workers := append([]*worker(nil), *roster.workers.Load()...)
	workers[w.number-1] = nil
	roster.free = append(roster.free, w.number)
	if len(roster.free) == len(workers) {
		workers, roster.free = nil, nil
	}
	roster.workers.Store(&workers)
}

// wake has the worker go on that libduly says has something to do; 0 is none. A worker is woken once for each time it dozes.
func wake(number C.uint64_t) {
	if number == 0 {
		return
	}
	(*roster.workers.Load())[number-1].wake <- struct{}{}
}

// An end is what a callback came to.
type end struct {
	outcome Outcome
	err     error
}

func (e end) message() *C.char {
	switch err := e.err.(type) {
	case nil:
		return nil
	case *PanicError:
		return C.CString(err.message())
	default:
		return C.CString(errorText(err))
	}
}

// errorText is what an error says, whatever its Error method does.
func errorText(err error) (text string) {
	defer func() {
		if recover() != nil {
			text = "an error whose Error method panics"
		}
	}()
	return err.Error()
}

// begin has a goroutine work for the pool.
func (p *core) begin(handle C.uintptr_t) {
	w := &worker{wake: make(chan struct{}, 1)}
	w.worker = handle
	enlist(w)
	C.duly_go_wake_with(handle, board.handle, C.uint64_t(w.number))
	p.mu.Lock()
	p.workers++
	p.mu.Unlock()
	go p.work(w, nil)
}

// How often a worker that has run out of work looks again, with a turn for others in between, before it dozes.
const mostLooks = 8

// work is the life of a worker's goroutine: it says how the callback before ended and asks for the next, in one call.
// It takes a callback only when it can start it at once.
//
// resumed is a task whose callback ended its goroutine by runtime.Goexit; this one goes on in its place.
func (p *core) work(w *worker, resumed *task) {
	w.goroutine.Store(goroutine())
	current, came := resumed, end{}
	if resumed != nil {
		came = w.came
	}
	way, looks := C.int(C.DULY_GO_TELL), 0
	for {
		stepped := w.step(current, came, way)
		way = C.DULY_GO_TELL
		wake(stepped.woken)
		if current != nil {
			looks = 0
			current.returned(stepped, came)
			current, came = nil, end{}
		}
		switch stepped.what {
		case C.DULY_STEP_END:
			C.duly_go_leave(w.worker)
			delist(w)
			p.done()
			return
		case C.DULY_STEP_RUN:
			current = live.get(uint64(stepped.tag))
			came = p.call(w, current)
		case C.DULY_STEP_OTHER:
			// The next step runs a callback of another language, which may take long: who is woken is told at once.
			way, looks = 0, 0
		case C.DULY_STEP_NOTHING:
			// Whoever waits for what has just ended may have the next one: this costs less than to be woken.
			if looks++; looks >= mostLooks {
				way |= C.DULY_GO_DOZE
			}
			runtime.Gosched()
		case C.DULY_STEP_DOZE:
			<-w.wake
			looks = 0
		}
	}
}

func (w *worker) step(current *task, came end, way C.int) C.duly_go_stepped {
	if current == nil {
		return C.duly_go_step(w.worker, 0, 0, 0, nil, way, 0)
	}
	var message *C.char
	if came.err != nil {
		message = came.message()
		defer C.free(unsafe.Pointer(message))
	}
	return C.duly_go_step(w.worker, C.uint64_t(current.tag), C.int32_t(came.outcome), 1, message, way, current.claim())
}

// call runs a callback on the worker's goroutine. If that ends within, another takes the worker over.
func (p *core) call(w *worker, t *task) (came end) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if value := recover(); value != nil {
			came = t.panicked(value)
			return
		}
		// runtime.Goexit: this goroutine is about to end.
		w.came = t.exited()
		go p.work(w, t)
	}()
	t.seat = &w.seat
	came = t.run()
	returned = true
	return came
}

// dulyGoRun runs a callback on a thread that is none of this package's workers: one that submits or waits, or a worker of a
// pool made in another language. The callback gets a goroutine of its own, which it may end.
//
//export dulyGoRun
func dulyGoRun(tag C.uint64_t, call C.uintptr_t) C.int32_t {
	var came end
	if p := periodicOf(uint64(tag)); p != nil {
		came = p.tick(call)
	} else {
		t := live.get(uint64(tag))
		t.seat = &seat{thread: make(chan func())}
		came = apart(t.seat, t.label, t.run)
		t.elsewhere(came)
	}
	if came.err != nil {
		text := came.message()
		C.duly_go_message(call, text)
		C.free(unsafe.Pointer(text))
	}
	switch came.outcome {
	case Failed:
		return 1
	case Panicked:
		return C.DULY_RUN_PANICKED
	}
	return 0
}

// apart runs a callback on a goroutine of its own, and does what its seat is asked for meanwhile.
func apart(at *seat, label string, run func() end) (came end) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		returned := false
		defer func() {
			if returned {
				return
			}
			if value := recover(); value != nil {
				came = panicked(label, value)
			} else {
				came = exited(label)
			}
		}()
		at.goroutine.Store(goroutine())
		came = run()
		returned = true
	}()
	at.serve(done)
	return came
}

// done counts a goroutine that worked for the pool no more.
func (p *core) done() {
	p.mu.Lock()
	p.workers--
	p.left.Broadcast()
	last := p.workers == 0 && p.dropped
	p.mu.Unlock()
	if last {
		p.leave()
	} else {
		nudgeBoard()
	}
}

// joinWorkers waits until no more than `left` goroutines work for the pool, and gives how many do.
func (p *core) joinWorkers(left int, limit time.Duration) int {
	timer := time.AfterFunc(limit, func() {
		p.mu.Lock()
		p.late = true
		p.left.Broadcast()
		p.mu.Unlock()
	})
	defer timer.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.workers > left && !p.late {
		p.left.Wait()
	}
	return p.workers
}
