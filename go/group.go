//go:build cgo

package duly

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A Group is tasks that belong together: the first that does not succeed cancels the others, and Wait waits for all. All
// methods may be called from any goroutine.
type Group struct {
	pool   *Pool
	ctx    context.Context
	cancel context.CancelCauseFunc
	keepOn bool

	mu      sync.Mutex
	limit   int // 0: none
	members map[*task]struct{}
	waiting int // submits under way, which are members, too
	change  chan struct{}
	errs    []*MemberError
	stopped int
}

// A MemberError is how a member of a group ended that did not succeed.
type MemberError struct {
	// Label is the member's.
	Label string
	// Err is what its Task's Wait gives.
	Err error
}

func (e *MemberError) Error() string { return named(e.Label) + ": " + e.Err.Error() }

// Unwrap gives Err.
func (e *MemberError) Unwrap() error { return e.Err }

// NewGroup makes a group, and a context for what is not a member but belongs to it: it is done when a member has not
// succeeded, with its error as the cause, or when Wait has returned.
func NewGroup(ctx context.Context, pool *Pool) (*Group, context.Context) {
	g := &Group{pool: pool, members: map[*task]struct{}{}, change: make(chan struct{})}
	g.ctx, g.cancel = context.WithCancelCause(ctx)
	return g, g.ctx
}

// KeepOn has the others go on when a member does not succeed. Call it before the first Go.
func (g *Group) KeepOn() { g.keepOn = true }

// SetLimit has at most that many members in flight, queued or running; 0 or less: as many as there are. It may be changed at
// any time.
func (g *Group) SetLimit(limit int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit = max(limit, 0)
	g.changedLocked()
}

func (g *Group) changedLocked() {
	close(g.change)
	g.change = make(chan struct{})
}

// Go submits fn as a member, and waits while the group is at its limit or the queue is full. A refused submit counts as a
// member that did not succeed; after the group was cancelled every submit is.
func (g *Group) Go(fn func(context.Context) error, options ...TaskOption) {
	run := nothing(fn)
	err := g.enter(options)
	if err == nil {
		_, err = member(g, run, options, true)
	}
	g.refused(err)
}

// enter waits until there may be one more member, or why there will be none.
func (g *Group) enter(options []TaskOption) error {
	var how taskOptions
	for _, option := range options {
		option(&how)
	}
	ctx, cancel := g.ctx, func() {}
	var timer <-chan time.Time
	if how.hasSubmit {
		timer = time.After(how.submitTimeout)
	}
	if how.hasTimeout {
		ctx, cancel = context.WithTimeout(ctx, how.timeout)
	}
	defer cancel()
	var back func()
	refuse := func(err error) error {
		return &SubmitError{Label: how.label, Pool: g.pool.name, err: err}
	}
	for {
		g.mu.Lock()
		if g.limit == 0 || len(g.members)+g.waiting < g.limit || g.ctx.Err() != nil {
			g.waiting++
			g.mu.Unlock()
			return nil
		}
		change := g.change
		g.mu.Unlock()
		if back == nil {
			back = func() {}
			if at := inside(g.ctx); at != nil {
				back = at.lend()
			}
			defer func() { back() }()
		}
		select {
		case <-change:
		case <-timer:
			return refuse(ErrSubmitTimedOut)
		case <-g.pool.closed():
			return refuse(ErrShutDown)
		case <-ctx.Done():
			if g.ctx.Err() == nil {
				return refuse(context.DeadlineExceeded)
			}
		}
	}
}

// SubmitTo is Submit of a member. Why it was refused is told to the caller, and not to the group.
func SubmitTo[T any](g *Group, fn func(context.Context) (T, error), options ...TaskOption) (*Task[T], error) {
	if err := g.enter(options); err != nil {
		return nil, err
	}
	return member(g, fn, options, true)
}

// TrySubmitTo is SubmitTo that never waits: ErrQueueFull if the group is at its limit or the queue is full.
func TrySubmitTo[T any](g *Group, fn func(context.Context) (T, error), options ...TaskOption) (*Task[T], error) {
	if !g.tryEnter() {
		return nil, &SubmitError{Pool: g.pool.name, err: ErrQueueFull, cause: errors.New("the group is at its limit")}
	}
	return member(g, fn, options, false)
}

func (g *Group) tryEnter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	free := g.limit == 0 || len(g.members)+g.waiting < g.limit
	if free {
		g.waiting++
	}
	return free
}

// TryGo is Go that never waits: false if the group is at its limit or the queue is full, and fn will not be run.
func (g *Group) TryGo(fn func(context.Context) error, options ...TaskOption) bool {
	run := nothing(fn)
	if !g.tryEnter() {
		return false
	}
	_, err := member(g, run, options, false)
	if errors.Is(err, ErrQueueFull) {
		return false
	}
	g.refused(err)
	return true
}

type none struct{}

func nothing(fn func(context.Context) error) func(context.Context) (none, error) {
	if fn == nil {
		panic("duly: Group.Go(nil)")
	}
	return func(ctx context.Context) (none, error) { return none{}, fn(ctx) }
}

func member[T any](g *Group, fn func(context.Context) (T, error), options []TaskOption, wait bool) (*Task[T], error) {
	t := newTask(g.ctx, g.pool, fn)
	accepted := false
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.waiting--
		// It may have ended by now, and Wait must not return before that was counted.
		if accepted && !t.more.told {
			g.members[&t.task] = struct{}{}
		}
		g.changedLocked()
	}()
	if fn == nil {
		return nil, t.refused(ErrInvalidArgument, errNil(false, true))
	}
	t.wanted = true
	t.have().ended = func() { g.ended(&t.task) }
	if err := t.start(options, wait, true); err != nil {
		return nil, err
	}
	accepted = true
	return t, nil
}

// ended is told by a member that it is settled.
func (g *Group) ended(t *task) {
	cancelled := isCancelled(t.err)
	g.mu.Lock()
	defer g.mu.Unlock()
	t.have().told = true
	delete(g.members, t)
	if t.err != nil {
		t.observe()
		g.failedLocked(t.label, t.err, cancelled)
	}
	g.changedLocked()
}

// refused counts a submit of which nobody else is told.
func (g *Group) refused(err error) {
	var refused *SubmitError
	if errors.As(err, &refused) {
		cancelled := isCancelled(err)
		g.mu.Lock()
		defer g.mu.Unlock()
		g.failedLocked(refused.Label, err, cancelled)
	}
}

func (g *Group) failedLocked(label string, err error, cancelled bool) {
	if cancelled && g.ctx.Err() != nil {
		g.stopped++
		return
	}
	g.errs = append(g.errs, &MemberError{label, err})
	if !g.keepOn {
		// Watchers of the context are goroutines of their own: nothing of a user runs under the lock.
		g.cancel(err)
	}
}

// Wait waits until no member is in flight, and gives the error of the first that did not succeed, untouched; nil if all did. If
// ctx is done first, Wait gives its error; the members go on.
func (g *Group) Wait(ctx context.Context) error {
	for {
		g.mu.Lock()
		if len(g.members)+g.waiting == 0 {
			err := context.Cause(g.ctx)
			if len(g.errs) > 0 {
				err = g.errs[0].Err
			} else if g.stopped == 0 {
				err = nil
			}
			g.mu.Unlock()
			g.cancel(nil)
			return err
		}
		change := g.change
		var member *task
		for member = range g.members {
			break
		}
		g.mu.Unlock()
		if member != nil && inside(ctx) != nil {
			if err := member.wait(ctx); err != nil {
				return err
			}
			select {
			case <-change:
			case <-ctx.Done():
			}
			continue
		}
		g.await(change, ctx)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// await waits for a change of the group, or for ctx.
func (g *Group) await(change <-chan struct{}, ctx context.Context) {
	if at := inside(ctx); at != nil {
		defer at.lend()()
	}
	select {
	case <-change:
	case <-ctx.Done():
	}
}

// Errors are the members that did not succeed so far, in the order in which they ended; not those that the group cancelled.
func (g *Group) Errors() []*MemberError {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]*MemberError(nil), g.errs...)
}

// Cancelled is how many members the group has cancelled so far.
func (g *Group) Cancelled() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stopped
}

// Cancel cancels every member, and those to come. Members have their outcome when it returns.
func (g *Group) Cancel(cause error) {
	g.cancel(cause)
	g.mu.Lock()
	members := make([]*task, 0, len(g.members))
	for member := range g.members {
		members = append(members, member)
	}
	g.mu.Unlock()
	for _, member := range members {
		member.Cancel(cause)
	}
}
