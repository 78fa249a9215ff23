//go:build cgo

package duly

// #include "shim.h"
import "C"

import (
	"fmt"
	"time"
)

// EventKind says what a pool tells of.
type EventKind int32

// What a pool tells of.
const (
	// EventWorkerStart, EventWorkerStop: a worker begins, has run its last task. Number is the worker's.
	EventWorkerStart EventKind = 1 + iota
	EventWorkerStop
	// EventLate: a callback returned after its task had its outcome: Label, Outcome, Callback, Ran.
	EventLate
	// EventStalled: every worker is stuck in a callback whose task has its outcome, and no replacement is left. Number is how many
	// tasks wait behind them; Text names the callbacks.
	EventStalled
	// EventUnobserved: a task failed or panicked, and everybody let go of it before they asked how it ended: Label, Outcome, Text. It
	// is told when the collector finds that out.
	EventUnobserved
)

var eventKinds = [...]string{"no event", "worker_start", "worker_stop", "late", "stalled", "unobserved"}

// String is the event's name.
func (k EventKind) String() string {
	if k < 0 || int(k) >= len(eventKinds) {
		return fmt.Sprintf("EventKind(%d)", int32(k))
	}
	return eventKinds[k]
}

// An Event is what happened in a pool. What its kind does not name is zero.
type Event struct {
	Kind EventKind
	// Pool is the pool's name.
	Pool string
	// Label is the task's.
	Label string
	Text  string
	// Outcome is the task's; Callback is what the callback of a late one came to.
	Outcome, Callback Outcome
	// Ran is for how long the callback of a late task ran, to a few milliseconds.
	Ran    time.Duration
	Number uint64
}

// OnEvent has the pool tell of what happens in it. It is called on whatever goroutine finds it out, several at once; a panic
// of it is dropped. Default: none.
func OnEvent(told func(Event)) Option {
	return func(o *poolOptions) { o.told = told; o.set("OnEvent") }
}

//export dulyGoEvent
func dulyGoEvent(tag C.uint64_t, event *C.duly_event) {
	board.mu.Lock()
	p := board.pools[uint64(tag)]
	board.mu.Unlock()
	if p == nil {
		return
	}
	p.tell(Event{
		Kind: EventKind(event.kind), Pool: p.name, Label: C.GoString(event.label), Text: C.GoString(event.text),
		Outcome: Outcome(event.outcome), Callback: Outcome(event.callback), Ran: time.Duration(event.ran_ns),
		Number: uint64(event.number),
	})
}

func (p *core) tell(event Event) {
	defer func() { _ = recover() }()
	if log := p.logger; log != nil {
		switch event.Kind {
		case EventStalled:
			log.Error("duly: every worker is stuck, and no replacement is left",
				"pool", p.name, "queued", event.Number, "stuck", event.Text)
		case EventUnobserved:
			log.Error("duly: a failure that nobody looked at",
				"pool", p.name, "label", event.Label, "outcome", event.Outcome, "error", event.Text)
		case EventLate:
			log.Warn("duly: a callback returned after its task had its outcome",
				"pool", p.name, "label", event.Label, "outcome", event.Outcome, "callback", event.Callback, "ran", event.Ran)
		}
	}
	if p.told != nil {
		p.told(event)
	}
}

// unobserved: nobody can look at this failure any more.
func (t *task) unobserved() {
	if t.observed.Load() {
		return
	}
	t.pool.unseen.Add(1)
	if t.pool.logger != nil || t.pool.told != nil {
		event := Event{Kind: EventUnobserved, Pool: t.pool.name, Label: t.label, Outcome: t.outcome, Text: errorText(t.err)}
		// The goroutine of the collector's finalizers is not for code of users.
		go t.pool.tell(event)
	}
}
