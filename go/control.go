//go:build cgo

package duly

// #include "shim.h"
import "C"

import (
	"fmt"
	"runtime"
	"time"
)

// Pause: from when it returns on no task of any queue is started. Tasks still end by deadline, context and Shutdown, and new ones
// are accepted while there is room. Closing the pool lets it go on.
func (p *Pool) Pause() {
	C.duly_go_pause(p.handle, 1)
	runtime.KeepAlive(p)
}

// Resume undoes Pause.
func (p *Pool) Resume() {
	C.duly_go_pause(p.handle, 0)
	runtime.KeepAlive(p)
}

// SetWorkers changes how many callbacks run at the same time, 1 to 32,767. Those that are too many end when their callbacks
// return. ErrShutDown: the pool is closed.
func (p *Pool) SetWorkers(workers int) error {
	defer runtime.KeepAlive(p)
	err := ErrInvalidArgument
	if workers >= 1 && workers <= 32_767 {
		err = statusError(C.duly_go_set_workers(p.handle, C.uint32_t(workers)))
	}
	if err != nil {
		return fmt.Errorf("duly: pool %s: SetWorkers(%d): %w", p.name, workers, err)
	}
	return nil
}

// IsClosed is whether the pool accepts no more tasks.
func (p *Pool) IsClosed() bool {
	defer runtime.KeepAlive(p)
	return C.duly_go_is_closed(p.handle) != 0
}

// A Callback is one that runs.
type Callback struct {
	// Label is its task's.
	Label string
	// Outcome is that of its task, or Pending.
	Outcome Outcome
	// Age is for how long it has been running, to a few milliseconds.
	Age time.Duration
	// Worker is the name of the worker that it is on.
	Worker string
}

func (c Callback) String() string {
	return fmt.Sprintf("%s (%v) on %s for %v", named(c.Label), c.Outcome, c.Worker, c.Age)
}

// Leaks are the callbacks that run although their task has its outcome: overdue ones, and those that a Shutdown abandoned.
func (p *Pool) Leaks() []Callback { return p.callbacks(0) }

// Running are all callbacks that run, Leaks included.
func (p *Pool) Running() []Callback { return p.callbacks(1) }

func (p *Pool) callbacks(all C.int) (callbacks []Callback) {
	defer runtime.KeepAlive(p)
	made := C.duly_go_leaks(p.handle, all)
	defer C.duly_go_leaks_release(made.handle)
	for i := C.size_t(0); i < C.duly_go_leaks_count(made.handle); i++ {
		callbacks = append(callbacks, Callback{
			Label:   C.GoString(C.duly_go_leaks_label(made.handle, i)),
			Outcome: Outcome(C.duly_go_leaks_outcome(made.handle, i)),
			Age:     time.Duration(C.duly_go_leaks_age(made.handle, i)),
			Worker:  C.GoString(C.duly_go_leaks_worker(made.handle, i)),
		})
	}
	return callbacks
}
