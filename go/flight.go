//go:build cgo

package duly

import (
	"context"
	"errors"
	"sync"
)

// A SingleFlight runs one callback a key at a time, for all who ask meanwhile. All methods may be called from any goroutine.
//
// A run that panics, is cancelled, shed, or runs into its deadline is followed by another, with the callback of a caller that is
// still there; a run that fails is an answer. If the pool does not accept the run, the caller that would have started it is told, and
// another tries. Nothing is kept of a key once its answer is there.
type SingleFlight[K comparable, V any] struct {
	pool *Pool
	how  flightOptions
	mu   sync.Mutex
	runs map[K]*flight[K, V]
}

// A FlightOption changes how a SingleFlight is made.
type FlightOption func(*flightOptions)

type flightOptions struct {
	handovers   int
	retryFailed bool
	runs        []TaskOption
}

// Handovers is how often a run that ended badly is followed by another. Default: 3.
func Handovers(times int) FlightOption { return func(o *flightOptions) { o.handovers = times } }

// RetryFailed has a run that fails followed by another as well, instead of its error being the answer.
func RetryFailed() FlightOption { return func(o *flightOptions) { o.retryFailed = true } }

// Runs are the options of each run.
func Runs(options ...TaskOption) FlightOption {
	return func(o *flightOptions) { o.runs = append(o.runs, options...) }
}

// flight is a key's. Its fields are under the SingleFlight's lock.
type flight[K comparable, V any] struct {
	callers []*Caller[K, V]
	// The run: submitted, or about to be.
	task    *Task[V]
	last    *Task[V]
	cancel  context.CancelCauseFunc
	leading bool
	handed  int
	over    bool
	// Closed and made anew with each change.
	change chan struct{}
	// Closed when task holds the answer.
	done chan struct{}
}

// A Caller waits for a key's answer: see [SingleFlight.Join].
type Caller[K comparable, V any] struct {
	flights *SingleFlight[K, V]
	flight  *flight[K, V]
	key     K
	ctx     context.Context
	fn      func(context.Context) (V, error)
	options []TaskOption
	shared  bool
	stop    func() bool
	// Closed when it has left, for why.
	left chan struct{}
	why  error
}

// NewSingleFlight makes one over a pool.
func NewSingleFlight[K comparable, V any](pool *Pool, options ...FlightOption) *SingleFlight[K, V] {
	s := &SingleFlight[K, V]{pool: pool, how: flightOptions{handovers: 3}, runs: map[K]*flight[K, V]{}}
	for _, option := range options {
		option(&s.how)
	}
	return s
}

// Do gives what fn gives for the key: of this call, or of one that is in flight (then shared is true). A run has the values of
// its caller's context, but not its end: it is cancelled when the last caller has left.
func (s *SingleFlight[K, V]) Do(ctx context.Context, key K, fn func(context.Context) (V, error), options ...TaskOption) (value V, shared bool, err error) {
	c := s.Join(ctx, key, fn, options...)
	defer c.Leave()
	value, err = c.Wait(ctx)
	return value, c.shared, err
}

// Join is Do that does not wait for the answer: the caller has joined the key's run, or its own is submitted. When ctx is done,
// the caller leaves. Call Leave when the answer is not wanted any more.
func (s *SingleFlight[K, V]) Join(ctx context.Context, key K, fn func(context.Context) (V, error), options ...TaskOption) *Caller[K, V] {
	c := &Caller[K, V]{flights: s, key: key, ctx: ctx, fn: fn, options: options, left: make(chan struct{})}
	s.mu.Lock()
	f := s.runs[key]
	c.shared = f != nil
	if f == nil {
		f = &flight[K, V]{change: make(chan struct{}), done: make(chan struct{})}
		s.runs[key] = f
	}
	c.flight = f
	f.callers = append(f.callers, c)
	lead := !f.leading && f.task == nil
	f.leading = f.leading || lead
	s.mu.Unlock()
	c.stop = context.AfterFunc(ctx, func() { c.leave(ctx.Err()) })
	if lead {
		s.start(f, c)
	}
	return c
}

// start submits a run for the flight, whose leader is c.
func (s *SingleFlight[K, V]) start(f *flight[K, V], c *Caller[K, V]) {
	s.mu.Lock()
	if c.fn == nil {
		// It has left meanwhile.
		s.nextLocked(f)
		s.mu.Unlock()
		return
	}
	run, cancel := context.WithCancelCause(context.WithoutCancel(c.ctx))
	fn := c.fn
	c.fn, f.cancel = nil, cancel
	s.mu.Unlock()
	// A leader that leaves while its submit waits for room leaves it to another.
	stop := context.AfterFunc(c.ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if f.leading {
			cancel(ErrCallerLeft)
		}
	})
	t := newTask(run, s.pool, fn)
	t.wanted = true
	t.have().ended = func() {
		// Nobody needs it any more, and its token goes with it.
		cancel(nil)
		s.ended(f, t)
	}
	err := t.start(append(append([]TaskOption(nil), s.how.runs...), c.options...), true, true)
	stop()
	if err != nil {
		cancel(err)
		c.leave(err)
		s.mu.Lock()
		s.nextLocked(f)
		s.mu.Unlock()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f.task, f.leading = t, false
	if t.state.Load() == settled {
		// Its end came first.
		s.endedLocked(f, t)
	}
	f.changedLocked()
}

// nextLocked has another caller start a run. If none can, those who are there get the answer of the last one.
func (s *SingleFlight[K, V]) nextLocked(f *flight[K, V]) {
	if f.over {
		return
	}
	f.task = nil
	for _, c := range f.callers {
		if c.fn != nil {
			f.leading = true
			// Whoever tells of the end of a run does not wait for room.
			go s.start(f, c)
			return
		}
	}
	f.leading = false
	if f.last != nil {
		s.answerLocked(f, f.last)
	}
}

func (s *SingleFlight[K, V]) answerLocked(f *flight[K, V], t *Task[V]) {
	f.task = t
	f.over = true
	for _, c := range f.callers {
		c.fn = nil
		if s.runs[c.key] == f {
			delete(s.runs, c.key)
		}
	}
	close(f.done)
	f.changedLocked()
}

func (f *flight[K, V]) changedLocked() {
	close(f.change)
	f.change = make(chan struct{})
}

func (s *SingleFlight[K, V]) ended(f *flight[K, V], t *Task[V]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Otherwise its submit has not come back, and looks then.
	if f.task == t {
		s.endedLocked(f, t)
	}
}

func (s *SingleFlight[K, V]) endedLocked(f *flight[K, V], t *Task[V]) {
	if f.over || f.task != t {
		return
	}
	t.observe()
	bad := false
	switch t.outcome {
	case Panicked, Cancelled, Shed, DeadlineExceeded:
		bad = true
	case Failed:
		bad = s.how.retryFailed
	}
	if f.last = t; bad && f.handed < s.how.handovers {
		f.handed++
		s.nextLocked(f)
		f.changedLocked()
		return
	}
	s.answerLocked(f, t)
}

// Shared is whether the caller joined a run of another.
func (c *Caller[K, V]) Shared() bool { return c.shared }

// Wait waits for the answer: the run's value or error, why the run was refused, or the error of the context of Join, if that was
// done first. If ctx is done before, Wait gives its error, and the caller stays.
func (c *Caller[K, V]) Wait(ctx context.Context) (value V, err error) {
	f, s := c.flight, c.flights
	at := inside(ctx)
	for {
		select {
		case <-c.left:
			return value, c.why
		default:
		}
		select {
		case <-f.done:
			return f.task.Wait(context.Background())
		default:
		}
		if err := ctx.Err(); err != nil {
			return value, err
		}
		s.mu.Lock()
		change, t := f.change, f.task
		s.mu.Unlock()
		if at != nil && t != nil && t.state.Load() != settled {
			// libduly knows what is waited for.
			err := at.waitFor(&t.task, ctx)
			if errors.Is(err, ErrWouldDeadlock) {
				return value, err
			}
			continue
		}
		c.await(at, change, ctx)
	}
}

func (c *Caller[K, V]) await(at *spot, change <-chan struct{}, ctx context.Context) {
	if at != nil {
		defer at.lend()()
	}
	select {
	case <-change:
	case <-c.left:
	case <-c.flight.done:
	case <-ctx.Done():
	}
}

// Leave: the caller wants no answer any more. If it was the last, the run is cancelled.
func (c *Caller[K, V]) Leave() {
	c.stop()
	c.leave(ErrCallerLeft)
}

func (c *Caller[K, V]) leave(why error) {
	f, s := c.flight, c.flights
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, one := range f.callers {
		if one != c {
			continue
		}
		f.callers = append(f.callers[:i:i], f.callers[i+1:]...)
		c.fn = nil
		if !f.over {
			c.why = why
			close(c.left)
		}
		if len(f.callers) == 0 && !f.over {
			f.over = true
			if s.runs[c.key] == f {
				delete(s.runs, c.key)
			}
			if f.cancel != nil {
				// Watchers of the context are goroutines of their own: nothing of a user runs under the lock.
				f.cancel(ErrCallerLeft)
			}
		}
		return
	}
}

// Forget has the next Do of the key run its callback, whatever is in flight.
func (s *SingleFlight[K, V]) Forget(key K) {
	s.mu.Lock()
	delete(s.runs, key)
	s.mu.Unlock()
}
