//go:build cgo

package duly

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"fmt"
	"math"
	"runtime"
	"unsafe"
)

// A Queue is one of the queues of a pool, with room, policy, weight and limits of its own: tasks go into it by [OnQueue]. All
// methods may be called from any goroutine. It does not keep its pool.
type Queue struct {
	pool     *core
	handle   C.uintptr_t
	name     string
	overflow Overflow
}

// Weight is how many tasks of a queue are started before it is the next queue's turn, 1 and more. Default: 1. Of AddQueue.
func Weight(weight int) Option {
	return func(o *poolOptions) { o.queue.weight = weight; o.set("Weight") }
}

// Limit is how many callbacks of a queue may run at the same time, 1 and more. Default: as many as there are workers. Of
// AddQueue.
func Limit(limit int) Option {
	return func(o *poolOptions) { o.queue.limit = limit; o.set("Limit") }
}

// KeyLimit is how many callbacks of a queue's tasks with the same Key may run at the same time, 1 and more; with 1 they run one
// after the other, in the order in which they were submitted. Default: no limit; keys still take turns. Of AddQueue.
func KeyLimit(limit int) Option {
	return func(o *poolOptions) { o.queue.keyLimit = limit; o.set("KeyLimit") }
}

// KeyCapacity is how many of a queue's tasks with the same Key may be queued, 1 and more; one more meets the overflow policy.
// Default: as many as there is room. Of AddQueue.
func KeyCapacity(capacity int) Option {
	return func(o *poolOptions) { o.queue.keyCapacity = capacity; o.set("KeyCapacity") }
}

type queueOptions struct{ weight, limit, keyLimit, keyCapacity int }

// Those that are options of a queue, too.
var ofQueues = map[string]bool{"Capacity": true, "MaxBlockedProducers": true, "OnOverflow": true,
	"Weight": true, "Limit": true, "KeyLimit": true, "KeyCapacity": true}

// AddQueue adds a queue to the pool: its options are Capacity, MaxBlockedProducers, OnOverflow, Weight, Limit, KeyLimit and
// KeyCapacity. From then on the pool's queues take turns. It is there as long as the pool; ErrShutDown: the pool is closed.
func (p *Pool) AddQueue(name string, options ...Option) (*Queue, error) {
	defer runtime.KeepAlive(p)
	how := newOptions(name, options)
	for _, option := range how.isSet {
		if !ofQueues[option] {
			return nil, fmt.Errorf("duly: queue %s: %s is an option of a pool: %w", name, option, ErrInvalidArgument)
		}
	}
	if err := how.check("queue"); err != nil {
		return nil, err
	}
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	made := C.duly_go_queue(p.handle, C.duly_go_queue_how{
		name: text, capacity: C.uint32_t(how.capacity), max_blocked: count(how.blocked, how.has("MaxBlockedProducers")),
		overflow: C.int32_t(how.overflow), weight: C.uint32_t(how.queue.weight), limit: C.uint32_t(how.queue.limit),
		key_limit: C.uint32_t(how.queue.keyLimit), key_capacity: C.uint32_t(how.queue.keyCapacity)})
	if err := statusError(made.status); err != nil {
		return nil, fmt.Errorf("duly: pool %s: no queue %s: %w", p.name, name, err)
	}
	return p.keepQueue(name, how.overflow, made.handle), nil
}

// DefaultQueue is the queue of tasks that name none.
func (p *Pool) DefaultQueue() *Queue {
	defer runtime.KeepAlive(p)
	return p.keepQueue("default", p.overflow, C.duly_go_default_queue(p.handle).handle)
}

func (p *core) keepQueue(name string, overflow Overflow, handle C.uintptr_t) *Queue {
	queue := &Queue{pool: p, handle: handle, name: name, overflow: overflow}
	runtime.SetFinalizer(queue, func(queue *Queue) { C.duly_go_queue_release(queue.handle) })
	return queue
}

// statusError is the error that a status of libduly stands for; nil for OK.
func statusError(status C.int32_t) error {
	if status == C.DULY_STATUS_OK {
		return nil
	}
	if err := refusals[int32(status)]; err != nil {
		return err
	}
	return ErrInvalidArgument
}

// Name is the queue's name.
func (q *Queue) Name() string { return q.name }

func (q *Queue) set(what C.int, name string, value int, least int) error {
	defer runtime.KeepAlive(q)
	if value < least || value > math.MaxInt32 {
		return fmt.Errorf("duly: queue %s: %s is %d, not within %d to 2,147,483,647: %w", q.name, name, value, least, ErrInvalidArgument)
	}
	if err := statusError(C.duly_go_queue_set(q.handle, what, C.uint32_t(value))); err != nil {
		return fmt.Errorf("duly: queue %s: %s is %d: %w", q.name, name, value, err)
	}
	return nil
}

// SetCapacity changes Capacity. Tasks that are queued when it is lowered stay.
func (q *Queue) SetCapacity(capacity int) error {
	return q.set(C.DULY_GO_CAPACITY, "SetCapacity", capacity, 1)
}

// SetWeight changes Weight.
func (q *Queue) SetWeight(weight int) error { return q.set(C.DULY_GO_WEIGHT, "SetWeight", weight, 1) }

// SetLimit changes Limit; NoLimit ends it. Callbacks that run when it is lowered run on.
func (q *Queue) SetLimit(limit int) error { return q.limit(C.DULY_GO_LIMIT, "SetLimit", limit) }

// SetKeyLimit changes KeyLimit; NoLimit ends it.
func (q *Queue) SetKeyLimit(limit int) error {
	return q.limit(C.DULY_GO_KEY_LIMIT, "SetKeyLimit", limit)
}

// SetKeyCapacity changes KeyCapacity; NoLimit ends it.
func (q *Queue) SetKeyCapacity(capacity int) error {
	return q.limit(C.DULY_GO_KEY_CAPACITY, "SetKeyCapacity", capacity)
}

// NoLimit ends a limit of a Queue.
const NoLimit = -1

func (q *Queue) limit(what C.int, name string, value int) error {
	if value == NoLimit {
		return q.set(what, name, 0, 0)
	}
	return q.set(what, name, value, 1)
}

// Pause: from when it returns on no task of the queue is started. Its tasks still end by deadline, context and Shutdown, and it
// takes new ones while there is room. Closing the pool lets it go on.
func (q *Queue) Pause() {
	C.duly_go_queue_pause(q.handle, 1)
	runtime.KeepAlive(q)
}

// Resume undoes Pause.
func (q *Queue) Resume() {
	C.duly_go_queue_pause(q.handle, 0)
	runtime.KeepAlive(q)
}

// QueueStats are the numbers of a queue.
type QueueStats struct {
	// Submitted: tasks accepted, ever. Queued: those that wait to be started.
	Submitted, Queued uint64
	// Running: callbacks that have not returned, whether their task has its outcome or not.
	Running uint64
	// BlockedProducers wait for room.
	BlockedProducers uint64
	Paused           bool
}

// Stats are the numbers now.
func (q *Queue) Stats() QueueStats {
	defer runtime.KeepAlive(q)
	s := C.duly_go_queue_stats(q.handle)
	return QueueStats{Submitted: uint64(s.submitted), Queued: uint64(s.queued), Running: uint64(s.running),
		BlockedProducers: uint64(s.blocked_producers), Paused: s.paused != 0}
}
