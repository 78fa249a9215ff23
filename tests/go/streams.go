// Steps about streams and single flight.
package tests

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"duly"
)

type oneStream struct {
	stream *duly.Stream[int64]
	pulled *atomic.Int64
}

func (w *world) makeStream(f fields) {
	poolName := take(f, "pool", "pool")
	pool, name, ctx := find(w, w.pools, "pool", poolName), take(f, "stream", ""), context.Background()
	if f.has("token") {
		ctx = find(w, w.tokens, "token", take(f, "token", "")).ctx
	}
	items, window, ordered := take(f, "items", int64(1<<62)), take(f, "window", int64(0)), take(f, "ordered", true)
	blocks, fails, gate := f.texts("blocks"), f.texts("fails"), take(f, "gate", "")
	r, pulled := w.newRecord(name), new(atomic.Int64)
	held := r.captured()
	stream := duly.NewStream(ctx, pool, func() (int64, bool) {
		item := pulled.Load()
		if item >= items {
			return 0, false
		}
		pulled.Add(1)
		return item, true
	}, func(_ context.Context, item int64) (int64, error) {
		defer held.here()
		number := fmt.Sprint(item)
		w.begins(name, r)
		if slices.Contains(blocks, "all") || slices.Contains(blocks, number) {
			<-w.gate(gate).c
		}
		if slices.Contains(fails, number) {
			return 0, &failure{item + 1, "failed"}
		}
		return item, nil
	}, w.common(poolName, f)...)
	if window > 0 {
		stream.Window(int(window))
	}
	if !ordered {
		stream.Unordered()
	}
	w.mu.Lock()
	w.streams[name] = oneStream{stream, pulled}
	w.mu.Unlock()
}

func (w *world) next(f fields) {
	one := find(w, w.streams, "stream", take(f, "stream", ""))
	ctx, cancel := context.WithTimeout(context.Background(), f.ms("timeout_ms", 10_000))
	defer cancel()
	value, more, err := one.stream.Next(ctx)
	item, answer := int64(-1), ""
	var refused *duly.SubmitError
	var failed *failure
	switch {
	case !more:
		answer = "end"
	case err == nil:
		answer, item = "succeeded", value
	case err == ctx.Err():
		answer = "timed_out"
	case errors.As(err, &refused):
		answer = refusal(err)
	default:
		answer, _ = answerOf(err)
		if errors.As(err, &failed) {
			item = failed.code - 1
		}
	}
	same("the answer", answer, take(f, "expect", ""))
	if f.has("item") {
		same("the item", item, take(f, "item", int64(0)))
	}
}

func (w *world) pulled(f fields) {
	pulled := find(w, w.streams, "stream", take(f, "stream", "")).pulled.Load()
	if pulled < take(f, "at_least", pulled) || pulled > take(f, "at_most", pulled) {
		wrong("%d items were pulled", pulled)
	}
}

func (w *world) dropStream(name string) {
	one := find(w, w.streams, "stream", name)
	w.mu.Lock()
	delete(w.streams, name)
	w.mu.Unlock()
	one.stream.Close()
}

type caller struct {
	caller *duly.Caller[string, int64]
	ctx    context.Context
	free   context.CancelFunc
	gone   bool
}

func (w *world) makeFlight(f fields) {
	pool, name := find(w, w.pools, "pool", take(f, "pool", "pool")), take(f, "flight", "")
	var options []duly.FlightOption
	if f.has("handovers") {
		options = append(options, duly.Handovers(int(take(f, "handovers", int64(0)))))
	}
	if take(f, "retry_failed", false) {
		options = append(options, duly.RetryFailed())
	}
	if f.has("timeout_ms") {
		options = append(options, duly.Runs(duly.Timeout(f.ms("timeout_ms", 0))))
	}
	flight := duly.NewSingleFlight[string, int64](pool, options...)
	w.mu.Lock()
	w.flights[name] = flight
	w.mu.Unlock()
}

func (w *world) call(f fields) {
	flight, name, ctx := find(w, w.flights, "flight", take(f, "flight", "")), take(f, "caller", ""), context.Background()
	if f.has("token") {
		ctx = find(w, w.tokens, "token", take(f, "token", "")).ctx
	}
	ctx, free := context.WithCancel(ctx)
	if f.has("timeout_ms") {
		ctx, free = context.WithTimeout(ctx, f.ms("timeout_ms", 0))
	}
	key, r := take(f, "key", ""), w.newRecord(name)
	joined := flight.Join(ctx, key, w.counted(name, r, w.callback(nil, f)))
	w.mu.Lock()
	w.callers[name] = &caller{caller: joined, ctx: ctx, free: free}
	w.mu.Unlock()
}

func (w *world) answer(f fields) {
	c := find(w, w.callers, "caller", take(f, "caller", ""))
	ctx, cancel := context.WithTimeout(context.Background(), f.ms("timeout_ms", 10_000))
	defer cancel()
	value, err := c.caller.Wait(ctx)
	answer, what := answerOf(err)
	var refused *duly.SubmitError
	switch {
	case err == nil:
	case errors.As(err, &refused):
		answer = refusal(err)
	case err == context.Canceled:
		answer = "cancelled"
	case err == context.DeadlineExceeded && c.ctx.Err() != nil:
		answer = "deadline_exceeded"
	case err == context.DeadlineExceeded:
		answer = "timed_out"
	}
	same("the answer", answer, take(f, "expect", ""))
	expectations(value, what, f)
}

func (w *world) leave(name string) {
	c := find(w, w.callers, "caller", name)
	c.gone = true
	c.caller.Leave()
	c.free()
}
