package duly

import (
	"context"
	"errors"
	"testing"
	"time"
)

// full is a pool whose worker is busy until the gate is open and whose queue is full; room is made by cancelling queued.
func full(t *testing.T, gate <-chan struct{}) (pool *Pool, queued *Task[int]) {
	t.Helper()
	pool = newPool(t, Workers(1), Capacity(1), MaxBlockedProducers(8))
	blocked(t, pool, gate)
	queued, err := Submit(context.Background(), pool, value(1))
	if err != nil {
		t.Fatal(err)
	}
	return pool, queued
}

// The leader's submit waits for room, which there is only if the callback of the follower lends its place.
func TestP10AFollowerInsideACallbackLendsWhileItsLeaderWaitsForRoom(t *testing.T) {
	pool := newPool(t, Workers(1), Capacity(1))
	flight := NewSingleFlight[string, int](pool)
	started, goOn := make(chan struct{}), make(chan struct{})
	follower, err := Submit(context.Background(), pool, func(ctx context.Context) (int, error) {
		close(started)
		<-goOn
		got, shared, err := flight.Do(ctx, "key", value(2))
		if !shared {
			t.Error("it is no follower")
		}
		return got, err
	})
	if err != nil {
		t.Fatal(err)
	}
	within(t, started, "it runs")
	if _, err := Submit(context.Background(), pool, value(1)); err != nil {
		t.Fatal(err)
	}
	led := make(chan struct{})
	go func() {
		defer close(led)
		if got, _, err := flight.Do(context.Background(), "key", value(7)); got != 7 || err != nil {
			t.Error(got, err)
		}
	}()
	eventually(t, "the leader waits for room", func() bool { return pool.Stats().BlockedProducers == 1 })
	close(goOn)
	within(t, follower.Done(), "the follower has its answer")
	if got, err := follower.Wait(context.Background()); got != 7 || err != nil {
		t.Error(got, err)
	}
	within(t, led, "the leader has its answer")
}

func TestP04ALeaderThatLeavesWhileItWaitsForRoomLeavesTheRunToAnother(t *testing.T) {
	gate := make(chan struct{})
	pool, _ := full(t, gate)
	flight := NewSingleFlight[string, int](pool)
	ctx, cancel := context.WithCancel(context.Background())
	left := make(chan error, 1)
	go func() {
		_, _, err := flight.Do(ctx, "key", value(1))
		left <- err
	}()
	eventually(t, "the leader waits for room", func() bool { return pool.Stats().BlockedProducers == 1 })
	second := flight.Join(context.Background(), "key", value(2))
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(gate)
	if got, err := second.Wait(context.Background()); got != 2 || err != nil || !second.Shared() {
		t.Error(got, err)
	}
	second.Leave()
}

func TestP01ARefusedLeaderIsToldAndAnotherTries(t *testing.T) {
	gate := make(chan struct{})
	pool, queued := full(t, gate)
	flight := NewSingleFlight[string, int](pool, Runs(SubmitTimeout(3*time.Second)))
	led := make(chan error, 1)
	go func() {
		_, _, err := flight.Do(context.Background(), "key", value(1))
		led <- err
	}()
	eventually(t, "the leader waits for room", func() bool { return pool.Stats().BlockedProducers == 1 })
	joined := make(chan *Caller[string, int], 1)
	// It joins, or leads if the leader has given up by then, and waits for room itself.
	go func() { joined <- flight.Join(context.Background(), "key", value(2), SubmitTimeout(long)) }()
	if err := <-led; !errors.Is(err, ErrSubmitTimedOut) {
		t.Error(err)
	}
	queued.Cancel(nil)
	close(gate)
	second := <-joined
	if got, err := second.Wait(context.Background()); got != 2 || err != nil {
		t.Error(got, err)
	}
	second.Leave()
}

func TestP04AWaitOfACallerEnds(t *testing.T) {
	pool := newPool(t, Workers(1))
	flight := NewSingleFlight[string, int](pool)
	gate := make(chan struct{})
	caller := flight.Join(context.Background(), "key", func(context.Context) (int, error) { <-gate; return 3, nil })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := caller.Wait(ctx); err != context.DeadlineExceeded {
		t.Error(err)
	}
	close(gate)
	if got, err := caller.Wait(context.Background()); got != 3 || err != nil {
		t.Error(got, err)
	}
	caller.Leave()
}
