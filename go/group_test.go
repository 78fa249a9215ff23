package duly

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestP01AGroupGivesTheFirstErrorAndCancelsTheRest(t *testing.T) {
	pool := newPool(t, Workers(2))
	group, ctx := NewGroup(context.Background(), pool)
	group.Go(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	group.Go(func(context.Context) error { return errOwn }, Label("bad"))
	if err := group.Wait(context.Background()); err != errOwn {
		t.Error(err)
	}
	if !errors.Is(context.Cause(ctx), errOwn) {
		t.Error(context.Cause(ctx))
	}
	if errs := group.Errors(); len(errs) != 1 || errs[0].Label != "bad" || group.Cancelled() != 1 {
		t.Error(errs, group.Cancelled())
	}
}

func TestP01AGroupThatSucceeds(t *testing.T) {
	pool := newPool(t, Workers(2))
	group, _ := NewGroup(context.Background(), pool)
	var ran atomic.Int32
	for i := 0; i < 500; i++ {
		group.Go(func(context.Context) error { ran.Add(1); return nil })
	}
	if err := group.Wait(context.Background()); err != nil || ran.Load() != 500 {
		t.Error(err, ran.Load())
	}
}

func TestP04AGroupsWaitEndsWithItsContext(t *testing.T) {
	pool := newPool(t, Workers(1))
	group, _ := NewGroup(context.Background(), pool)
	gate := make(chan struct{})
	group.Go(func(context.Context) error { <-gate; return nil })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := group.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	close(gate)
	if err := group.Wait(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestP05AGroupsLimit(t *testing.T) {
	pool := newPool(t, Workers(4))
	group, _ := NewGroup(context.Background(), pool)
	group.SetLimit(2)
	gate := make(chan struct{})
	var now, most atomic.Int32
	member := func(context.Context) error {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		<-gate
		now.Add(-1)
		return nil
	}
	group.Go(member)
	group.Go(member)
	if group.TryGo(member) {
		t.Error("beyond the limit")
	}
	go close(gate)
	for i := 0; i < 20; i++ {
		group.Go(member)
	}
	if err := group.Wait(context.Background()); err != nil || most.Load() > 2 {
		t.Error(err, most.Load())
	}
}

func TestP10AGroupInsideACallback(t *testing.T) {
	for _, replacements := range []int{0, 1} {
		pool := newPool(t, Workers(1), MaxReplacements(replacements))
		got, err := Run(context.Background(), pool, func(ctx context.Context) (int, error) {
			group, _ := NewGroup(ctx, pool)
			var ran atomic.Int32
			for i := 0; i < 5; i++ {
				group.Go(func(context.Context) error { ran.Add(1); return nil })
			}
			return int(ran.Load()), group.Wait(ctx)
		}, Timeout(long))
		if err != nil {
			t.Error(got, err)
		}
	}
}

func TestP01ASingleFlightRunsOnce(t *testing.T) {
	pool := newPool(t, Workers(2))
	flight := NewSingleFlight[string, int](pool)
	gate := make(chan struct{})
	var runs, joined atomic.Int32
	var callers sync.WaitGroup
	for i := 0; i < 8; i++ {
		callers.Add(1)
		go func() {
			defer callers.Done()
			joined.Add(1)
			got, _, err := flight.Do(context.Background(), "key", func(context.Context) (int, error) {
				runs.Add(1)
				<-gate
				return 7, nil
			})
			if got != 7 || err != nil {
				t.Error(got, err)
			}
		}()
	}
	eventually(t, "all have asked", func() bool {
		flight.mu.Lock()
		defer flight.mu.Unlock()
		return flight.runs["key"] != nil && len(flight.runs["key"].callers) == 8
	})
	close(gate)
	callers.Wait()
	if runs.Load() != 1 {
		t.Error(runs.Load())
	}
	eventually(t, "it is forgotten", func() bool {
		flight.mu.Lock()
		defer flight.mu.Unlock()
		return len(flight.runs) == 0
	})
}

func TestP02ASingleFlightEndsWithItsLastCaller(t *testing.T) {
	pool := newPool(t, Workers(1))
	flight := NewSingleFlight[int, int](pool)
	ctx, cancel := context.WithCancel(context.Background())
	seen := make(chan error, 1)
	if _, _, err := flight.Do(ctx, 1, func(ctx context.Context) (int, error) {
		cancel()
		<-ctx.Done()
		seen <- ctx.Err()
		return 0, nil
	}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := <-seen; err != context.Canceled {
		t.Error(err)
	}
}
