package duly

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var errOwn = errors.New("the callback's own")

const long = 20 * time.Second

func newPool(t testing.TB, options ...Option) *Pool {
	t.Helper()
	pool, err := New(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), long)
		defer cancel()
		report, err := pool.Shutdown(ctx)
		if err != nil && !errors.Is(err, ErrAbandoned) {
			t.Errorf("shutdown: %v %v", report, err)
		}
		s := report.Stats
		if sum := s.Succeeded + s.Failed + s.Panicked + s.Cancelled + s.DeadlineExceeded + s.Shed + s.Abandoned; sum != s.Submitted || s.Queued+s.Running != 0 {
			t.Errorf("the books: %+v", s)
		}
	})
	return pool
}

func value[T any](v T) func(context.Context) (T, error) {
	return func(context.Context) (T, error) { return v, nil }
}

// blocked submits a callback that waits for the gate, and waits until it runs.
func blocked(t testing.TB, pool *Pool, gate <-chan struct{}, options ...TaskOption) *Task[int] {
	t.Helper()
	started := make(chan struct{})
	task, err := Submit(context.Background(), pool, func(context.Context) (int, error) {
		close(started)
		<-gate
		return 1, nil
	}, options...)
	if err != nil {
		t.Fatal(err)
	}
	within(t, started, "the callback starts")
	return task
}

func within(t testing.TB, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(long):
		buffer := make([]byte, 1<<20)
		t.Fatalf("never happened: %s\n%s", what, buffer[:runtime.Stack(buffer, true)])
	}
}

func TestP01OneAnswer(t *testing.T) {
	pool := newPool(t, Workers(2))
	ctx := context.Background()
	task, err := Submit(ctx, pool, value("answer"), Label("one"))
	if err != nil {
		t.Fatal(err)
	}
	var waiters sync.WaitGroup
	for i := 0; i < 8; i++ {
		waiters.Add(1)
		go func() {
			defer waiters.Done()
			if got, err := task.Wait(ctx); got != "answer" || err != nil {
				t.Errorf("%q %v", got, err)
			}
		}()
	}
	waiters.Wait()
	within(t, task.Released(), "released")
	if task.Outcome() != Succeeded || task.Label() != "one" {
		t.Error(task.Outcome(), task.Label())
	}
	if task.Cancel(nil) {
		t.Error("cancelled after its end")
	}
}

func TestP01AMillionlessMany(t *testing.T) {
	pool := newPool(t, Workers(3), Capacity(64))
	var ran atomic.Int64
	var producers sync.WaitGroup
	for p := 0; p < 4; p++ {
		producers.Add(1)
		go func() {
			defer producers.Done()
			for i := 0; i < 2000; i++ {
				i := i
				task, err := Submit(context.Background(), pool, func(context.Context) (int, error) { ran.Add(1); return i, nil })
				if err != nil {
					t.Error(err)
					return
				}
				if i%7 == 0 {
					if got, err := task.Wait(context.Background()); got != i || err != nil {
						t.Errorf("%d %d %v", i, got, err)
					}
				}
			}
		}()
	}
	producers.Wait()
	eventually(t, "all ran", func() bool { return ran.Load() == 8000 })
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(long); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

func TestP01TheCallbacksOwnErrorComesBackUntouched(t *testing.T) {
	pool := newPool(t, Workers(1))
	_, err := Run(context.Background(), pool, func(context.Context) (int, error) { return 7, errOwn })
	if err != errOwn {
		t.Fatal(err)
	}
}

func TestP02AnswersAtTheDeadlineWhileTheCallbackSleeps(t *testing.T) {
	pool := newPool(t, Workers(1))
	gate, began := make(chan struct{}), make(chan struct{})
	defer close(gate)
	// On a busy machine the callback may not begin in time: then it has twice as long.
	for timeout := 50 * time.Millisecond; ; timeout *= 2 {
		start := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		task, err := Submit(ctx, pool, func(context.Context) (int, error) { close(began); <-gate; return 0, nil })
		if errors.Is(err, context.DeadlineExceeded) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		_, err = task.Wait(context.Background())
		took := time.Since(start)
		if !errors.Is(err, context.DeadlineExceeded) || task.Outcome() != DeadlineExceeded {
			t.Fatal(err)
		}
		if took < timeout || took > timeout+long/2 {
			t.Error(took)
		}
		select {
		case <-task.Released():
			select {
			case <-began:
				t.Error("released while its callback runs")
			default:
				continue
			}
		case <-began:
		}
		return
	}
}

func TestP02ATimeoutOfItsOwn(t *testing.T) {
	pool := newPool(t, Workers(1), DefaultTimeout(time.Hour))
	gate := make(chan struct{})
	defer close(gate)
	task, err := Submit(context.Background(), pool, func(ctx context.Context) (error, error) {
		<-ctx.Done()
		return ctx.Err(), nil
	}, Timeout(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := task.Wait(context.Background()); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	within(t, task.Released(), "the callback sees the deadline")
}

func TestP02ADoneContextCancelsWhatIsQueuedAndWhatRuns(t *testing.T) {
	pool := newPool(t, Workers(1), MaxReplacements(0))
	cause := errors.New("the client left")
	ctx, cancel := context.WithCancelCause(context.Background())
	began, seen, gate := make(chan struct{}), make(chan error, 1), make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	defer open()
	running, err := Submit(ctx, pool, func(ctx context.Context) (int, error) {
		close(began)
		<-ctx.Done()
		seen <- ctx.Err()
		// The worker is not to be free before both are cancelled, which happens one after the other.
		<-gate
		return 0, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var ran atomic.Bool
	queued, err := Submit(ctx, pool, func(context.Context) (int, error) { ran.Store(true); return 0, nil })
	if err != nil {
		t.Fatal(err)
	}
	within(t, began, "it runs")
	cancel(cause)
	for _, task := range []*Task[int]{running, queued} {
		if _, err := task.Wait(context.Background()); !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
			t.Fatal(err)
		}
	}
	open()
	for _, task := range []*Task[int]{running, queued} {
		within(t, task.Released(), "released")
	}
	if err := <-seen; err != context.Canceled {
		t.Error(err)
	}
	if ran.Load() {
		t.Error("a cancelled task was run")
	}
	if _, err := Submit(ctx, pool, value(1)); !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
		t.Error(err)
	}
}

func TestP02CancelAnswersAtOnce(t *testing.T) {
	pool := newPool(t, Workers(1))
	gate := make(chan struct{})
	task := blocked(t, pool, gate)
	if !task.Cancel(errOwn) || task.Outcome() != Cancelled || task.Cancel(nil) {
		t.Error("cancel")
	}
	_, err := task.Wait(context.Background())
	var ended *TaskError
	if !errors.As(err, &ended) || ended.Outcome != Cancelled || !errors.Is(err, errOwn) {
		t.Error(err)
	}
	close(gate)
	within(t, task.Released(), "released")
}

func TestP04RunIsCancelledWhenItsCallerLeaves(t *testing.T) {
	pool := newPool(t, Workers(1))
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	_, err := Run(ctx, pool, func(ctx context.Context) (int, error) {
		cancel()
		<-ctx.Done()
		close(stopped)
		return 0, nil
	})
	if !errors.Is(err, context.Canceled) || !errors.Is(err, ErrCallerLeft) {
		t.Error(err)
	}
	within(t, stopped, "the callback sees it")
}

func TestP04ASubmitThatWaitsForRoomLeavesWithItsContext(t *testing.T) {
	pool := newPool(t, Workers(1), Capacity(1))
	gate := make(chan struct{})
	blocked(t, pool, gate)
	if _, err := Submit(context.Background(), pool, value(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := TrySubmit(context.Background(), pool, value(1)); !errors.Is(err, ErrQueueFull) {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := Submit(ctx, pool, value(1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if _, err := Submit(context.Background(), pool, value(1), SubmitTimeout(10*time.Millisecond)); !errors.Is(err, ErrSubmitTimedOut) {
		t.Error(err)
	}
	left, leave := context.WithCancel(context.Background())
	go func() { time.Sleep(10 * time.Millisecond); leave() }()
	if _, err := Submit(left, pool, value(1)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := Submit(context.Background(), pool, value(1)); err != nil {
			t.Error(err)
		}
	}()
	eventually(t, "a producer waits", func() bool { return pool.Stats().BlockedProducers == 1 })
	close(gate)
	within(t, done, "there is room")
}

func TestP05OverflowPolicies(t *testing.T) {
	for _, policy := range []Overflow{Reject, DropNewest, DropOldest, CallerRuns} {
		t.Run(fmt.Sprint(policy), func(t *testing.T) {
			pool := newPool(t, Workers(1), Capacity(1), OnOverflow(policy))
			gate := make(chan struct{})
			blocked(t, pool, gate)
			first, err := Submit(context.Background(), pool, value(1))
			if err != nil {
				t.Fatal(err)
			}
			second, err := Submit(context.Background(), pool, value(2))
			switch policy {
			case Reject:
				if !errors.Is(err, ErrQueueFull) {
					t.Error(err)
				}
			case DropNewest:
				if _, err := second.Wait(context.Background()); !errors.Is(err, ErrShed) {
					t.Error(err)
				}
			case DropOldest:
				if _, err := first.Wait(context.Background()); !errors.Is(err, ErrShed) {
					t.Error(err)
				}
			case CallerRuns:
				if got, err := second.Wait(context.Background()); got != 2 || err != nil {
					t.Error(got, err)
				}
			}
			close(gate)
		})
	}
}

func TestP05WhenFull(t *testing.T) {
	for _, own := range []Overflow{Block, Reject, DropNewest, DropOldest, CallerRuns} {
		pool := newPool(t, Workers(1), Capacity(1), OnOverflow(own))
		gate := make(chan struct{})
		blocked(t, pool, gate)
		first, err := Submit(context.Background(), pool, value(1))
		if err != nil {
			t.Fatal(err)
		}
		for _, refused := range []Overflow{Block, Reject, CallerRuns} {
			if _, err := TrySubmit(context.Background(), pool, value(2), WhenFull(refused)); !errors.Is(err, ErrQueueFull) {
				t.Error(own, refused, err)
			}
		}
		if _, err := Submit(context.Background(), pool, value(2), WhenFull(Reject)); !errors.Is(err, ErrQueueFull) {
			t.Error(own, err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		if _, err := Submit(ctx, pool, value(2), WhenFull(Block)); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(own, err)
		}
		cancel()
		if got, err := Run(context.Background(), pool, value(3), WhenFull(CallerRuns)); got != 3 || err != nil {
			t.Error(own, got, err)
		}
		if _, err := Run(context.Background(), pool, value(4), WhenFull(DropNewest)); !errors.Is(err, ErrShed) {
			t.Error(own, err)
		}
		last, err := Submit(context.Background(), pool, value(5), WhenFull(DropOldest))
		if err != nil {
			t.Fatal(own, err)
		}
		if _, err := first.Wait(context.Background()); !errors.Is(err, ErrShed) {
			t.Error(own, err)
		}
		close(gate)
		if got, err := last.Wait(context.Background()); got != 5 || err != nil {
			t.Error(own, got, err)
		}
		for _, none := range []Overflow{0, 9, -1} {
			if _, err := Submit(context.Background(), pool, value(6), WhenFull(none)); !errors.Is(err, ErrInvalidArgument) {
				t.Error(none, err)
			}
		}
	}
}

func TestP07PanicsAndGoexitAreOutcomes(t *testing.T) {
	pool := newPool(t, Workers(1))
	_, err := Run(context.Background(), pool, func(context.Context) (int, error) { panic(errOwn) }, Label("bad"))
	var panicked *PanicError
	if !errors.As(err, &panicked) || panicked.Value != errOwn || !errors.Is(err, errOwn) || !strings.Contains(string(panicked.Stack), "duly_test.go") {
		t.Error(err)
	}
	for i := 0; i < 20; i++ {
		_, err = Run(context.Background(), pool, func(context.Context) (int, error) { runtime.Goexit(); return 0, nil })
		if !errors.As(err, &panicked) || !panicked.Goexit {
			t.Error(err)
		}
	}
	if got, err := Run(context.Background(), pool, value(3)); got != 3 || err != nil {
		t.Error(got, err)
	}
	if s := pool.Stats(); s.Panicked != 21 || s.Workers != 1 {
		t.Errorf("%+v", s)
	}
}

func TestP07RepanicByOption(t *testing.T) {
	pool := newPool(t, Workers(1), Repanic())
	defer func() {
		if p, ok := recover().(*PanicError); !ok || p.Value != "bad" {
			t.Error(p)
		}
	}()
	_, _ = Run(context.Background(), pool, func(context.Context) (int, error) { panic("bad") })
	t.Error("no panic")
}

func TestP08StuckWorkersAreReplaced(t *testing.T) {
	pool := newPool(t, Workers(2), ReplaceAfter(20*time.Millisecond))
	gate := make(chan struct{})
	for i := 0; i < 2; i++ {
		blocked(t, pool, gate).Cancel(nil)
	}
	if got, err := Run(context.Background(), pool, value(4), Timeout(long)); got != 4 || err != nil {
		t.Fatal(got, err)
	}
	close(gate)
	eventually(t, "the surplus ends", func() bool { s := pool.Stats(); return s.Workers == 2 && s.Late == 2 && s.Overdue == 0 })
}

func TestP09ShutdownAbandonsAndNames(t *testing.T) {
	pool := newPool(t, Workers(1))
	gate := make(chan struct{})
	running := blocked(t, pool, gate, Label("stuck"))
	queued, err := Submit(context.Background(), pool, value(1), Label("behind"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	report, err := pool.Shutdown(ctx)
	if err == nil || report.Drained || report.WorkersLeft != 1 || len(report.Abandoned) != 2 {
		t.Errorf("%+v %v", report, err)
	}
	for _, task := range []*Task[int]{running, queued} {
		if task.Outcome() != Abandoned {
			t.Error(task.Outcome())
		}
		if _, err := task.Wait(context.Background()); !errors.Is(err, ErrAbandoned) {
			t.Error(err)
		}
	}
	if _, err := Submit(context.Background(), pool, value(1)); !errors.Is(err, ErrShutDown) {
		t.Error(err)
	}
	close(gate)
	within(t, running.Released(), "released")
	within(t, queued.Released(), "released")
}

func TestP09ACancelledShutdownAbandonsAtOnce(t *testing.T) {
	pool := newPool(t, Workers(1))
	gate := make(chan struct{})
	defer close(gate)
	blocked(t, pool, gate)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { time.Sleep(10 * time.Millisecond); cancel() }()
	start := time.Now()
	if _, err := pool.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Error(took)
	}
}

func TestP12NothingIsLeftInTheTable(t *testing.T) {
	pool := newPool(t, Workers(2))
	for i := 0; i < 1000; i++ {
		if _, err := Submit(context.Background(), pool, value(i)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the table is empty", func() bool {
		n := 0
		live.each(func(task *task) {
			if task.pool == pool.core {
				n++
			}
		})
		return n == 0
	})
}

type key struct{}

func TestP13ValuesReachTheCallback(t *testing.T) {
	pool := newPool(t, Workers(1))
	ctx := context.WithValue(context.Background(), key{}, "carried")
	got, err := Run(ctx, pool, func(ctx context.Context) (any, error) { return ctx.Value(key{}), nil })
	if got != "carried" || err != nil {
		t.Error(got, err)
	}
}

func TestP13AContextMadeFromTheCallbacksFollowsIt(t *testing.T) {
	pool := newPool(t, Workers(1))
	began, seen := make(chan struct{}), make(chan error, 1)
	task, err := Submit(context.Background(), pool, func(ctx context.Context) (int, error) {
		child, cancel := context.WithCancel(ctx)
		defer cancel()
		close(began)
		<-child.Done()
		seen <- child.Err()
		return 0, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	within(t, began, "it runs")
	task.Cancel(nil)
	if err := <-seen; err != context.Canceled {
		t.Error(err)
	}
}

func TestP16BadArguments(t *testing.T) {
	for _, option := range []Option{Workers(0), Workers(-1), Workers(1 << 20), Capacity(0), MaxBlockedProducers(-1), OnOverflow(9), DefaultTimeout(0), ReplaceAfter(-1)} {
		if pool, err := New(option); !errors.Is(err, ErrInvalidArgument) {
			t.Error(pool, err)
		}
	}
	pool := newPool(t, Workers(1))
	if _, err := Submit[int](context.Background(), pool, nil); !errors.Is(err, ErrInvalidArgument) {
		t.Error(err)
	}
	if _, err := Submit(context.Background(), nil, value(1)); !errors.Is(err, ErrInvalidArgument) {
		t.Error(err)
	}
	if _, err := Submit(context.Background(), pool, value(1), Timeout(-1)); !errors.Is(err, ErrInvalidArgument) {
		t.Error(err)
	}
}

func TestP10ACallbackThatWaitsLendsItsPlace(t *testing.T) {
	pool := newPool(t, Workers(1))
	got, err := Run(context.Background(), pool, func(ctx context.Context) (int, error) {
		inner, err := Submit(ctx, pool, value(5))
		if err != nil {
			return 0, err
		}
		return inner.Wait(ctx)
	}, Timeout(long))
	if got != 5 || err != nil {
		t.Error(got, err)
	}
	got, err = Run(context.Background(), pool, func(ctx context.Context) (int, error) {
		limited, cancel := context.WithTimeout(ctx, long)
		defer cancel()
		return Run(limited, pool, value(6))
	}, Timeout(long))
	if got != 6 || err != nil {
		t.Error(got, err)
	}
}

func TestP10PastTheLimitItRunsWhatItWaitsFor(t *testing.T) {
	pool := newPool(t, Workers(1), MaxReplacements(0))
	got, err := Run(context.Background(), pool, func(ctx context.Context) (int, error) {
		inner, err := Submit(ctx, pool, value(5))
		if err != nil {
			return 0, err
		}
		return inner.Wait(ctx)
	})
	if got != 5 || err != nil {
		t.Error(got, err)
	}
}

func TestP10AWaitForOneselfIsRefused(t *testing.T) {
	pool := newPool(t, Workers(1))
	own := make(chan *Task[int], 1)
	task, err := Submit(context.Background(), pool, func(ctx context.Context) (int, error) { return (<-own).Wait(ctx) })
	if err != nil {
		t.Fatal(err)
	}
	own <- task
	if _, err := task.Wait(context.Background()); !errors.Is(err, ErrWouldDeadlock) {
		t.Error(err)
	}
}

func TestP10AShutdownInsideACallbackIsRefused(t *testing.T) {
	pool := newPool(t, Workers(1))
	if _, err := Run(context.Background(), pool, func(ctx context.Context) (int, error) {
		_, err := pool.Shutdown(ctx)
		return 0, err
	}); !errors.Is(err, ErrWouldDeadlock) {
		t.Error(err)
	}
}

func TestP10ACallbackThatWaitsForRoom(t *testing.T) {
	pool := newPool(t, Workers(1), Capacity(1))
	if _, err := Run(context.Background(), pool, func(ctx context.Context) (int, error) {
		for i := 0; i < 20; i++ {
			if _, err := Submit(ctx, pool, value(i)); err != nil {
				return 0, err
			}
		}
		return 0, nil
	}); err != nil {
		t.Error(err)
	}
}

func TestP12ExpvarShowsTheBooks(t *testing.T) {
	pool := newPool(t, Workers(1))
	if _, err := Run(context.Background(), pool, value(1)); err != nil {
		t.Fatal(err)
	}
	if text := pool.Var().String(); !strings.Contains(text, `"Succeeded":1`) || !strings.HasPrefix(text, "{") {
		t.Error(text)
	}
}

func TestP13LabelsOfTheProfilerReachTheCallback(t *testing.T) {
	pool := newPool(t, Workers(1))
	pprof.Do(context.Background(), pprof.Labels("tenant", "seven"), func(ctx context.Context) {
		profile, err := Run(ctx, pool, func(context.Context) (string, error) {
			var text strings.Builder
			err := pprof.Lookup("goroutine").WriteTo(&text, 1)
			return text.String(), err
		})
		if err != nil || !strings.Contains(profile, `"tenant":"seven"`) {
			t.Error(err, profile)
		}
	})
}

func TestP05OneWatcherForAContext(t *testing.T) {
	pool := newPool(t, Workers(1))
	ctx, cancel := context.WithCancel(context.Background())
	gate := make(chan struct{})
	for i := 0; i < 100; i++ {
		if _, err := Submit(context.WithValue(ctx, key{}, i), pool, func(context.Context) (int, error) { <-gate; return 0, nil }); err != nil {
			t.Fatal(err)
		}
	}
	known := func() int {
		pool.tokens.mu.Lock()
		defer pool.tokens.mu.Unlock()
		return len(pool.tokens.known)
	}
	if n := known(); n != 1 {
		t.Error(n)
	}
	cancel()
	eventually(t, "all are cancelled", func() bool { return pool.Stats().Cancelled == 100 })
	close(gate)
	eventually(t, "the token is gone", func() bool { return known() == 0 })
}
