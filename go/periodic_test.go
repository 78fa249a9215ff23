package duly

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

func TestP02APeriodicTaskRunsAgainAndAgainUntilItsContextIsDone(t *testing.T) {
	pool := newPool(t, Workers(1))
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.WithValue(context.Background(), key{}, "carried"))
	var runs atomic.Int64
	periodic, err := Every(ctx, pool, 2*time.Millisecond, func(ctx context.Context) error {
		if ctx.Value(key{}) != "carried" {
			t.Error("no value")
		}
		runs.Add(1)
		return nil
	}, Label("beat"), Delay(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "three runs", func() bool { return runs.Load() >= 3 })
	cancel(cause)
	if err := periodic.Wait(context.Background()); !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
		t.Error(err)
	}
	within(t, periodic.Done(), "done")
	within(t, periodic.Released(), "released")
	eventually(t, "no run is active", func() bool { return periodic.Stats().Active == 0 })
	if s := periodic.Stats(); s.Runs < 3 || s.Failures > 1 || periodic.Label() != "beat" {
		t.Errorf("%+v", s)
	}
	if periodic.Cancel(nil) {
		t.Error("cancelled after its end")
	}
	if _, err := Every(ctx, pool, time.Second, func(context.Context) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestP01FailuresInARowEndAPeriodicTask(t *testing.T) {
	pool := newPool(t, Workers(1))
	periodic, err := Every(context.Background(), pool, time.Millisecond, func(context.Context) error { return errOwn }, MaxFailures(3))
	if err != nil {
		t.Fatal(err)
	}
	err = periodic.Wait(context.Background())
	var ended *TaskError
	if !errors.As(err, &ended) || ended.Outcome != Failed || !errors.Is(err, errOwn) {
		t.Error(err)
	}
	if s := periodic.Stats(); s.Runs != 3 || s.Failures != 3 {
		t.Errorf("%+v", s)
	}
	panics, err := Every(context.Background(), pool, time.Millisecond, func(context.Context) error { panic("bad") }, MaxFailures(1))
	if err != nil {
		t.Fatal(err)
	}
	var panicked *PanicError
	if err := panics.Wait(context.Background()); !errors.As(err, &panicked) || panicked.Value != "bad" {
		t.Error(err)
	}
	// That there are no more runs may be known before the last one is counted.
	eventually(t, "all are counted", func() bool { s := pool.Stats(); return s.Failed == 3 && s.Panicked == 1 && s.Running == 0 })
}

func TestP02ARunOfAPeriodicTaskSeesItsDeadlineAndCancel(t *testing.T) {
	pool := newPool(t, Workers(1))
	seen := make(chan error, 2)
	periodic, err := Every(context.Background(), pool, time.Millisecond, func(ctx context.Context) error {
		if _, bounded := ctx.Deadline(); !bounded {
			t.Error("no deadline")
		}
		<-ctx.Done()
		seen <- Cause(ctx)
		return ctx.Err()
	}, Timeout(10*time.Millisecond), MaxFailures(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := <-seen; !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	within(t, periodic.Released(), "released")
	again, err := Every(context.Background(), pool, time.Millisecond, func(ctx context.Context) error {
		<-ctx.Done()
		seen <- ctx.Err()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it runs", func() bool { return again.Stats().Runs == 1 })
	if !again.Cancel(errOwn) {
		t.Error("not cancelled")
	}
	if err := <-seen; err != context.Canceled {
		t.Error(err)
	}
	within(t, again.Released(), "released")
}

func TestP04AWaitForAPeriodicTaskEnds(t *testing.T) {
	pool := newPool(t, Workers(1))
	periodic, err := Every(context.Background(), pool, time.Hour, func(context.Context) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := periodic.Wait(ctx); err != context.DeadlineExceeded {
		t.Error(err)
	}
	pool.Close()
	if err := periodic.Wait(context.Background()); !errors.Is(err, ErrShutDown) {
		t.Error(err)
	}
	if _, err := Every(context.Background(), pool, time.Hour, func(context.Context) error { return nil }); !errors.Is(err, ErrShutDown) {
		t.Error(err)
	}
}

// With one worker and no replacement too many: a run that waits has to lend its place.
func TestP10ARunOfAPeriodicTaskThatWaitsLendsItsPlace(t *testing.T) {
	pool := newPool(t, Workers(1), Capacity(1))
	done := make(chan struct{})
	var once atomic.Bool
	periodic, err := Every(context.Background(), pool, time.Millisecond, func(ctx context.Context) error {
		if once.Swap(true) {
			return nil
		}
		defer close(done)
		for i := 0; i < 3; i++ {
			// The first may wait for room: another tick may be queued.
			got, err := Run(ctx, pool, value(i))
			if got != i || err != nil {
				t.Error(got, err)
			}
		}
		_, err := pool.Shutdown(ctx)
		if !errors.Is(err, ErrWouldDeadlock) {
			t.Error(err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	within(t, done, "what a run waits for is run")
	periodic.Cancel(nil)
	within(t, periodic.Released(), "released")
}

// The callback runs on the goroutine that submits; it waits for a task of the pool.
func TestP10ACallbackThatItsCallerRunsLends(t *testing.T) {
	pool := newPool(t, Workers(1), Capacity(1), OnOverflow(CallerRuns))
	gate := make(chan struct{})
	blocked(t, pool, gate)
	queued, err := Submit(context.Background(), pool, value(1))
	if err != nil {
		t.Fatal(err)
	}
	task, err := Submit(context.Background(), pool, func(ctx context.Context) (int, error) {
		close(gate)
		return queued.Wait(ctx)
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := task.Wait(context.Background()); got != 1 || err != nil {
		t.Error(got, err)
	}
}

func TestP16PeriodsThatMakeNoSense(t *testing.T) {
	pool := newPool(t, Workers(1))
	nothing := func(context.Context) error { return nil }
	for _, period := range []time.Duration{0, -1} {
		if _, err := Every(context.Background(), pool, period, nothing); !errors.Is(err, ErrInvalidArgument) {
			t.Error(err)
		}
	}
	for _, option := range []TaskOption{MaxFailures(0), Jitter(-1), Jitter(time.Hour), Timeout(-1)} {
		if _, err := Every(context.Background(), pool, time.Second, nothing, option); !errors.Is(err, ErrInvalidArgument) {
			t.Error(err)
		}
	}
	if _, err := Every(context.Background(), pool, time.Second, nil); !errors.Is(err, ErrInvalidArgument) {
		t.Error(err)
	}
	if _, err := Every(context.Background(), nil, time.Second, nothing); !errors.Is(err, ErrInvalidArgument) {
		t.Error(err)
	}
}

func TestP05MissedTicksAndOverlap(t *testing.T) {
	pool := newPool(t, Workers(3))
	gate := make(chan struct{})
	var at atomic.Int64
	periodic, err := Every(context.Background(), pool, time.Millisecond, func(context.Context) error {
		at.Add(1)
		<-gate
		return nil
	}, Overlap(), CatchUp(), Jitter(time.Microsecond))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "two at once", func() bool { return at.Load() >= 2 })
	periodic.Cancel(nil)
	close(gate)
	within(t, periodic.Released(), "released")
}
