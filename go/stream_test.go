package duly

import (
	"context"
	"errors"
	"testing"
	"time"
)

// count gives 0, 1, … and how many it has given.
func count0(most int) (next func() (int, bool), given *int) {
	n := 0
	return func() (int, bool) {
		if n == most {
			return 0, false
		}
		n++
		return n - 1, true
	}, &n
}

func square(_ context.Context, n int) (int, error) {
	if n == 3 {
		return 0, errOwn
	}
	return n * n, nil
}

func TestP01AStreamAnswersInOrder(t *testing.T) {
	pool := newPool(t, Workers(2), Capacity(2), OnOverflow(Reject))
	next, given := count0(20)
	stream := NewStream(context.Background(), pool, next, square).Window(4)
	if *given != 0 {
		t.Error("pulled before anybody asked")
	}
	for i := 0; i < 20; i++ {
		got, more, err := stream.Next(context.Background())
		if i == 3 && err != errOwn || i != 3 && (got != i*i || err != nil) || !more {
			t.Error(i, got, more, err)
		}
		if *given > i+4+1 {
			t.Error("pulled ", *given, " after ", i)
		}
	}
	for i := 0; i < 2; i++ {
		if _, more, err := stream.Next(context.Background()); more || err != nil {
			t.Error(more, err)
		}
	}
}

func TestP01AnUnorderedStreamAnswersAsItemsComplete(t *testing.T) {
	pool := newPool(t, Workers(2))
	gate := make(chan struct{})
	next, _ := count0(3)
	stream := NewStream(context.Background(), pool, next, func(_ context.Context, n int) (int, error) {
		if n == 0 {
			<-gate
		}
		return n, nil
	}).Unordered()
	for _, expected := range []int{1, 2} {
		if got, _, err := stream.Next(context.Background()); got != expected || err != nil {
			t.Error(got, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, more, err := stream.Next(ctx); !more || err != context.DeadlineExceeded {
		t.Error(more, err)
	}
	close(gate)
	if got, _, err := stream.Next(context.Background()); got != 0 || err != nil {
		t.Error(got, err)
	}
	if _, more, _ := stream.Next(context.Background()); more {
		t.Error("more")
	}
}

func TestP04AStreamThatWaitsForRoomLeavesWithTheContext(t *testing.T) {
	pool := newPool(t, Workers(1), Capacity(1))
	gate := make(chan struct{})
	blocked(t, pool, gate)
	if _, err := Submit(context.Background(), pool, value(1)); err != nil {
		t.Fatal(err)
	}
	next, given := count0(1)
	stream := NewStream(context.Background(), pool, next, square)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, more, err := stream.Next(ctx); !more || err != context.DeadlineExceeded {
		t.Error(more, err)
	}
	close(gate)
	// The item is held, and not lost.
	if got, more, err := stream.Next(context.Background()); got != 0 || !more || err != nil || *given != 1 {
		t.Error(got, more, err, *given)
	}
}

func TestP02AStreamEndsWithItsContext(t *testing.T) {
	pool := newPool(t, Workers(1))
	ctx, cancel := context.WithCancelCause(context.Background())
	next, _ := count0(-1)
	stream := NewStream(ctx, pool, next, square).Window(2)
	if _, _, err := stream.Next(context.Background()); err != nil {
		t.Error(err)
	}
	cancel(errOwn)
	for {
		_, more, err := stream.Next(context.Background())
		if !more {
			t.Fatal("it ended without a word")
		}
		if errors.Is(err, errOwn) {
			break
		}
	}
	eventually(t, "nothing is left", func() bool { s := pool.Stats(); return s.Queued+s.Running == 0 })
}

func TestP06AStreamThatIsClosedCancels(t *testing.T) {
	pool := newPool(t, Workers(1))
	gate := make(chan struct{})
	next, _ := count0(-1)
	stream := NewStream(context.Background(), pool, next, func(context.Context, int) (int, error) { <-gate; return 0, nil }).Window(3)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, _, err := stream.Next(ctx); err != context.DeadlineExceeded {
		t.Error(err)
	}
	stream.Close()
	eventually(t, "all are cancelled", func() bool { return pool.Stats().Cancelled == 3 })
	if _, more, _ := stream.Next(context.Background()); more {
		t.Error("more")
	}
	close(gate)
}

func TestP10AStreamInsideACallbackLends(t *testing.T) {
	pool := newPool(t, Workers(1))
	for _, unordered := range []bool{false, true} {
		sum, err := Run(context.Background(), pool, func(ctx context.Context) (int, error) {
			next, _ := count0(3)
			stream := NewStream(ctx, pool, next, func(_ context.Context, n int) (int, error) { return n, nil })
			if unordered {
				stream.Unordered()
			}
			sum := 0
			for {
				got, more, err := stream.Next(ctx)
				if !more || err != nil {
					return sum, err
				}
				sum += got
			}
		}, Timeout(long))
		if sum != 3 || err != nil {
			t.Error(sum, err)
		}
	}
}

func TestP04AStreamInsideACallbackThatWaitsForRoomLeavesWithTheContext(t *testing.T) {
	pool, other := newPool(t, Workers(1)), newPool(t, Workers(1), Capacity(1))
	other.Pause()
	if _, err := Submit(context.Background(), other, value(1)); err != nil {
		t.Fatal(err)
	}
	next, given := count0(1)
	got, err := Run(context.Background(), pool, func(ctx context.Context) (int, error) {
		stream := NewStream(ctx, other, next, square)
		limited, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		begin := time.Now()
		if _, more, err := stream.Next(limited); !more || err != context.DeadlineExceeded {
			t.Error(more, err)
		}
		if took := time.Since(begin); took > long/2 {
			t.Error("it waited for room, and not for its context: ", took)
		}
		other.Resume()
		got, _, err := stream.Next(ctx)
		return got, err
	}, Timeout(long))
	if got != 0 || err != nil || *given != 1 {
		t.Error(got, err, *given)
	}
}
