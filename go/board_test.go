package duly

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// The board is read as long as there is anything to read: see board.go.

func TestP04PoolsThatComeAndGoAtTheSameTimeWaitForNobody(t *testing.T) {
	var all sync.WaitGroup
	for i := 0; i < 2; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for i, end := 0, time.Now().Add(15*time.Second); i < 2000 && time.Now().Before(end); i++ {
				pool, err := New(Workers(1))
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := pool.Shutdown(context.Background()); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	gone := make(chan struct{})
	go func() { all.Wait(); close(gone) }()
	select {
	case <-gone:
	case <-time.After(60 * time.Second):
		t.Fatal("a New or a Shutdown hangs")
	}
}

func TestP04ARunThatOutlivesTheLastPoolIsReleasedWhenItReturns(t *testing.T) {
	pool := newPool(t, Workers(1))
	began, gate := make(chan struct{}), make(chan struct{})
	periodic, err := Every(context.Background(), pool, time.Millisecond, func(context.Context) error {
		close(began)
		<-gate
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	within(t, began, "its first run")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if report, err := pool.Shutdown(ctx); !errors.Is(err, context.Canceled) || len(report.Stuck) != 1 {
		t.Error(report, err)
	}
	within(t, periodic.Done(), "no more runs")
	select {
	case <-periodic.Released():
		t.Error("released while it runs")
	default:
	}
	close(gate)
	within(t, periodic.Released(), "the last run is over")
}
