package duly

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// What is kept, for how long: pools while a call of theirs is under way, tokens, the numbers of tasks.

// collect runs the collector until the finalizers of what was found have run.
func collect() {
	for i := 0; i < 3; i++ {
		ran := make(chan struct{})
		func() { runtime.SetFinalizer(new([64]byte), func(*[64]byte) { close(ran) }) }()
		runtime.GC()
		select {
		case <-ran:
		case <-time.After(long):
		}
	}
}

func isDropped(p *core) bool { return p.closing.Load() }

func TestP09APoolIsKeptWhileACallThatWasGivenItIsUnderWay(t *testing.T) {
	ctx := context.Background()
	kept := func(ctx context.Context) (int, error) {
		collect()
		if isDropped(taskOf(ctx).pool) {
			t.Error("the pool was dropped under a call that was given it")
		}
		return 1, nil
	}
	t.Run("Run", func(t *testing.T) {
		pool, err := New(Workers(1))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Run(ctx, pool, kept); got != 1 || err != nil {
			t.Error(got, err)
		}
	})
	t.Run("Submit that runs the callback", func(t *testing.T) {
		pool, err := New(Workers(1), Capacity(1), OnOverflow(CallerRuns))
		if err != nil {
			t.Fatal(err)
		}
		gate := make(chan struct{})
		defer close(gate)
		blocked(t, pool, gate)
		if _, err := Submit(ctx, pool, value(1)); err != nil {
			t.Fatal(err)
		}
		task, err := Submit(ctx, pool, kept)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := task.Wait(ctx); got != 1 || err != nil {
			t.Error(got, err)
		}
	})
}

func TestP09AForgottenPoolStartsWhatItHasAccepted(t *testing.T) {
	for i := 0; i < 100; i++ {
		pool, err := New(Workers(2), OnDemand(), DropDrain(long))
		if err != nil {
			t.Fatal(err)
		}
		task, err := Submit(context.Background(), pool, value(7))
		if err != nil {
			t.Fatal(err)
		}
		// As if the collector had found it: its first worker may not even be on the board.
		runtime.SetFinalizer(pool, nil)
		pool.drop()
		within(t, task.Done(), "its task")
		if got, err := task.Wait(context.Background()); got != 7 || err != nil {
			t.Fatal(i, got, err)
		}
		eventually(t, "the pool is gone", func() bool {
			board.mu.Lock()
			defer board.mu.Unlock()
			return board.pools[pool.id] == nil
		})
	}
}

func TestP09ACallbackOfAForgottenPoolThatWaitsAsksItForNothing(t *testing.T) {
	other := newPool(t, Workers(1))
	gate, began, goOn, waited := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan error, 1)
	slow := blocked(t, other, gate)
	p := func() *core {
		pool, err := New(Workers(1))
		if err != nil {
			t.Fatal(err)
		}
		_, err = Every(context.Background(), pool, time.Millisecond, func(ctx context.Context) error {
			select {
			case <-began:
				return nil
			default:
			}
			close(began)
			<-goOn
			_, err := slow.Wait(context.WithoutCancel(ctx))
			waited <- err
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		within(t, began, "its run")
		return pool.core
	}()
	eventually(t, "the pool is let go of", func() bool {
		collect()
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.released
	})
	if p.bell() != 0 {
		t.Error("it is asked for a bell")
	}
	close(goOn)
	close(gate)
	select {
	case err := <-waited:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(long):
		t.Fatal("the wait never ended")
	}
}

func TestP05ASingleFlightLeavesNoToken(t *testing.T) {
	pool := newPool(t, Workers(2))
	flight := NewSingleFlight[int, int](pool)
	for i := 0; i < 100; i++ {
		if got, _, err := flight.Do(context.Background(), i, value(i)); got != i || err != nil {
			t.Fatal(got, err)
		}
	}
	eventually(t, "no token is left", func() bool {
		pool.tokens.mu.Lock()
		defer pool.tokens.mu.Unlock()
		return len(pool.tokens.known) == 0
	})
}

func TestP05ATaskThatEndedBeforeItsCallbackReturnedInsideAnotherIsForgotten(t *testing.T) {
	pool := newPool(t, Workers(1), MaxReplacements(0))
	began, gate := make(chan struct{}), make(chan struct{})
	inner := make(chan *Task[int], 1)
	outer, err := Submit(context.Background(), pool, func(ctx context.Context) (int, error) {
		task, err := Submit(context.WithoutCancel(ctx), pool, func(context.Context) (int, error) {
			close(began)
			<-gate
			return 1, nil
		})
		if err != nil {
			return 0, err
		}
		inner <- task
		_, err = task.Wait(ctx)
		return 1, err
	})
	if err != nil {
		t.Fatal(err)
	}
	within(t, began, "it runs inside the wait for it")
	task := <-inner
	if !task.Cancel(nil) {
		t.Error("not cancelled")
	}
	close(gate)
	within(t, task.Released(), "its callback returned")
	if _, err := outer.Wait(context.Background()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	eventually(t, "its number is free", func() bool { return live.get(task.tag) == nil })
}

// hidden is a context that does not tell its deadline.
type hidden struct{ context.Context }

func (hidden) Deadline() (time.Time, bool) { return time.Time{}, false }

func TestP02AContextThatKeepsItsDeadlineToItselfEndsItsTasks(t *testing.T) {
	pool := newPool(t, Workers(2))
	bounded, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	gate := make(chan struct{})
	defer close(gate)
	callback := func(context.Context) (int, error) { <-gate; return 1, nil }
	// Both have the same Done.
	for _, ctx := range []context.Context{bounded, hidden{bounded}} {
		task, err := Submit(ctx, pool, callback)
		if errors.Is(err, context.DeadlineExceeded) {
			t.Skip("on this machine it was over before anything was submitted")
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			within(t, task.Done(), "it ends with its context")
			if _, err := task.Wait(context.Background()); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		}()
	}
}

func TestP04AGroupThatWasGivenNothingToRunIsWaitedFor(t *testing.T) {
	pool := newPool(t, Workers(1))
	group, _ := NewGroup(context.Background(), pool)
	for _, submit := range []func(){func() { group.Go(nil) }, func() { group.TryGo(nil) }} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			submit()
		}()
	}
	if _, err := SubmitTo[int](group, nil); !errors.Is(err, ErrInvalidArgument) {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	if err := group.Wait(ctx); err != nil {
		t.Error(err)
	}
}

func TestP02RunEndsWithAContextThatKeepsItsDeadlineToItself(t *testing.T) {
	pool := newPool(t, Workers(1))
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	gate := make(chan struct{})
	defer close(gate)
	came := make(chan error, 1)
	go func() {
		_, err := Run(hidden{ctx}, pool, func(context.Context) (int, error) { <-gate; return 1, nil }, Timeout(time.Hour))
		came <- err
	}()
	select {
	case err := <-came:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	case <-time.After(long):
		t.Error("it waits for the Timeout")
	}
}

// is is an error that asks its group how it goes while the group asks what it is.
type is struct{ group *Group }

func (is) Error() string { return "is" }

func (e is) Is(error) bool {
	e.group.Errors()
	panic("nor does it say so")
}

func TestP07AnErrorThatIsNotToBeAskedHurtsNoGroup(t *testing.T) {
	pool := newPool(t, Workers(1))
	group, _ := NewGroup(context.Background(), pool)
	group.Cancel(nil)
	group.KeepOn()
	// A member that failed after the group was cancelled.
	group.ended(&task{err: is{group}})
	if got := group.Errors(); len(got) != 1 {
		t.Error(got)
	}
}

// nosy is a context that looks around when it is asked for a value.
type nosy struct {
	context.Context
	look func()
}

func (n nosy) Value(key any) any { n.look(); return n.Context.Value(key) }

func TestP13AContextIsAskedUnderNoLockOfItsPool(t *testing.T) {
	pool := newPool(t, Workers(1))
	inner, cancel := context.WithCancel(context.Background())
	defer cancel()
	var asked atomic.Bool
	ctx := nosy{inner, func() {
		asked.Store(true)
		// Another goroutine may hold it for a moment; one that asks under it never lets go.
		for end := time.Now().Add(5 * time.Second); !pool.tokens.mu.TryLock(); runtime.Gosched() {
			if time.Now().After(end) {
				t.Error("under the lock of tokens")
				return
			}
		}
		pool.tokens.mu.Unlock()
	}}
	task, err := Submit(ctx, pool, value(1))
	if err != nil {
		t.Fatal(err)
	}
	within(t, task.Done(), "it ends")
	if !asked.Load() {
		t.Error("it was not asked")
	}
}
