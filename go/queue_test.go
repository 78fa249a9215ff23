package duly

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

func addQueue(t testing.TB, pool *Pool, name string, options ...Option) *Queue {
	t.Helper()
	queue, err := pool.AddQueue(name, options...)
	if err != nil {
		t.Fatal(err)
	}
	return queue
}

func TestP05EachQueueHasItsOwnRoomAndPolicy(t *testing.T) {
	pool := newPool(t, Workers(1), Capacity(1))
	gate := make(chan struct{})
	blocked(t, pool, gate)
	mails := addQueue(t, pool, "mails", Capacity(1), OnOverflow(Reject))
	first, err := Submit(context.Background(), pool, value(1), OnQueue(mails))
	if err != nil {
		t.Fatal(err)
	}
	// The queue's policy, and not the pool's, which would wait.
	if _, err := Submit(context.Background(), pool, value(1), OnQueue(mails)); !errors.Is(err, ErrQueueFull) {
		t.Error(err)
	}
	other, err := Submit(context.Background(), pool, value(2), OnQueue(pool.DefaultQueue()))
	if err != nil {
		t.Fatal(err)
	}
	helped := addQueue(t, pool, "helped", Capacity(1), OnOverflow(CallerRuns))
	for i, outcome := range []Outcome{Pending, Succeeded} {
		task, err := Submit(context.Background(), pool, value(i), OnQueue(helped))
		if err != nil || task.Outcome() != outcome {
			t.Error(i, err)
		}
	}
	if s := mails.Stats(); s.Submitted != 1 || s.Queued != 1 || s.Paused || mails.Name() != "mails" {
		t.Errorf("%+v", s)
	}
	close(gate)
	for _, task := range []*Task[int]{first, other} {
		if _, err := task.Wait(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

func TestP05TasksOfAKeyRunOneAfterTheOther(t *testing.T) {
	pool := newPool(t, Workers(4))
	queue := addQueue(t, pool, "orders", KeyLimit(1))
	var mu sync.Mutex
	var order []int
	at := 0
	var tasks []*Task[int]
	for i := 0; i < 50; i++ {
		i := i
		task, err := Submit(context.Background(), pool, func(context.Context) (int, error) {
			mu.Lock()
			at++
			alone := at == 1
			order = append(order, i)
			mu.Unlock()
			time.Sleep(100 * time.Microsecond)
			mu.Lock()
			at--
			mu.Unlock()
			if !alone {
				return 0, errOwn
			}
			return i, nil
		}, OnQueue(queue), Key("customer 7"))
		if err != nil {
			t.Fatal(err)
		}
		tasks = append(tasks, task)
	}
	for i, task := range tasks {
		if got, err := task.Wait(context.Background()); got != i || err != nil {
			t.Error(got, err)
		}
	}
	for i, one := range order {
		if i != one {
			t.Fatal("out of order: ", order)
		}
	}
}

func TestP02APausedQueueStartsNothingAndAnswersEveryone(t *testing.T) {
	pool := newPool(t, Workers(1))
	queue := addQueue(t, pool, "mails")
	for _, pause := range []struct{ pause, resume func() }{{queue.Pause, queue.Resume}, {pool.Pause, pool.Resume}} {
		pause.pause()
		late, err := Submit(context.Background(), pool, value(1), OnQueue(queue), Timeout(20*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		held, err := Submit(context.Background(), pool, value(2), OnQueue(queue))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := late.Wait(context.Background()); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if held.Outcome() != Pending {
			t.Error(held.Outcome())
		}
		pause.resume()
		if got, err := held.Wait(context.Background()); got != 2 || err != nil {
			t.Error(got, err)
		}
	}
}

func TestP05LimitsOfAQueueChange(t *testing.T) {
	pool := newPool(t, Workers(3))
	queue := addQueue(t, pool, "mails", Limit(1), Weight(2))
	gate := make(chan struct{})
	blocked(t, pool, gate, OnQueue(queue))
	second, err := Submit(context.Background(), pool, value(2), OnQueue(queue))
	if err != nil {
		t.Fatal(err)
	}
	if queue.Stats().Running != 1 || second.Outcome() != Pending {
		t.Error("the limit is exceeded")
	}
	for _, err := range []error{queue.SetCapacity(9), queue.SetWeight(5), queue.SetKeyLimit(2), queue.SetKeyLimit(NoLimit), queue.SetKeyCapacity(3), queue.SetLimit(NoLimit)} {
		if err != nil {
			t.Error(err)
		}
	}
	if got, err := second.Wait(context.Background()); got != 2 || err != nil {
		t.Error(got, err)
	}
	close(gate)
}

func TestP16QueueOptionsThatMakeNoSense(t *testing.T) {
	pool, other := newPool(t, Workers(1)), newPool(t, Workers(1))
	for _, option := range []Option{Capacity(0), Weight(0), Limit(0), Limit(-1), KeyLimit(0), KeyCapacity(0), OnOverflow(77), Workers(2), DefaultTimeout(time.Second)} {
		if queue, err := pool.AddQueue("bad", option); !errors.Is(err, ErrInvalidArgument) {
			t.Error(queue, err)
		}
	}
	if _, err := New(Weight(2)); !errors.Is(err, ErrInvalidArgument) {
		t.Error(err)
	}
	queue := addQueue(t, pool, "mails")
	for _, err := range []error{queue.SetCapacity(0), queue.SetWeight(-3), queue.SetLimit(0), queue.SetLimit(-2), queue.SetKeyLimit(0)} {
		if !errors.Is(err, ErrInvalidArgument) {
			t.Error(err)
		}
	}
	if _, err := Submit(context.Background(), other, value(1), OnQueue(queue)); !errors.Is(err, ErrInvalidArgument) {
		t.Error("a queue of another pool: ", err)
	}
	if _, err := Submit(context.Background(), pool, value(1), MaxFailures(2)); !errors.Is(err, ErrInvalidArgument) {
		t.Error("an option of Every: ", err)
	}
}

func TestP08TheNumberOfWorkersChanges(t *testing.T) {
	pool := newPool(t, Workers(1), OnDemand())
	gate := make(chan struct{})
	blocked(t, pool, gate)
	second, err := Submit(context.Background(), pool, value(2))
	if err != nil {
		t.Fatal(err)
	}
	if err := pool.SetWorkers(2); err != nil {
		t.Fatal(err)
	}
	if got, err := second.Wait(context.Background()); got != 2 || err != nil {
		t.Error(got, err)
	}
	close(gate)
	if err := pool.SetWorkers(1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "one worker is left", func() bool { return pool.Stats().Workers == 1 })
	for _, workers := range []int{0, -1, 1 << 20} {
		if err := pool.SetWorkers(workers); !errors.Is(err, ErrInvalidArgument) {
			t.Error(err)
		}
	}
	pool.Close()
	if err := pool.SetWorkers(2); !errors.Is(err, ErrShutDown) || !pool.IsClosed() {
		t.Error(err)
	}
}

func TestP09LeaksNameWhatRunsOn(t *testing.T) {
	pool := newPool(t, Workers(2))
	gate := make(chan struct{})
	stuck := blocked(t, pool, gate, Label("stuck"))
	blocked(t, pool, gate, Label("fine"))
	stuck.Cancel(nil)
	leaks, running := pool.Leaks(), pool.Running()
	if len(leaks) != 1 || leaks[0].Label != "stuck" || leaks[0].Outcome != Cancelled || leaks[0].Worker == "" {
		t.Errorf("%v", leaks)
	}
	if len(running) != 2 {
		t.Errorf("%v", running)
	}
	close(gate)
	eventually(t, "nothing leaks", func() bool { return len(pool.Leaks()) == 0 })
}
