package tests

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"duly"
)

type behaviour func(ctx context.Context, r *record) (int64, error)

// counted is the callback of a task. Callbacks are noted in the order in which they start.
func (w *world) counted(name string, r *record, behave behaviour) func(context.Context) (int64, error) {
	h := r.captured()
	return func(ctx context.Context) (int64, error) {
		defer h.here()
		w.begins(name, r)
		return behave(ctx, r)
	}
}

// awaited is the handle of a task that another step makes.
func (w *world) awaited(name string) *duly.Task[int64] {
	var task *duly.Task[int64]
	poll(patience, func() bool { return caught(func() { task = w.task(name) }) == nil })
	return task
}

// callback is what `run` names; nil for no callback at all.
func (w *world) callback(pool *duly.Pool, f fields) behaviour {
	value := func() int64 { return take(f, "value", int64(0)) }
	switch run := take(f, "run", ""); run {
	case "null":
		return nil
	case "return":
		v := value()
		return func(context.Context, *record) (int64, error) { return v, nil }
	case "fail":
		err := &failure{take(f, "code", int64(1)), take(f, "message", "failed")}
		return func(context.Context, *record) (int64, error) { return 0, err }
	case "panic":
		message := take(f, "message", "panicked")
		return func(context.Context, *record) (int64, error) { panic(message) }
	case "sleep":
		v, span := value(), f.ms("ms", 0)
		return func(context.Context, *record) (int64, error) { time.Sleep(span); return v, nil }
	case "block":
		v, gate := value(), w.gate(take(f, "gate", ""))
		return func(context.Context, *record) (int64, error) { <-gate.c; return v, nil }
	case "hook":
		v, gate := value(), w.gate(take(f, "gate", ""))
		return func(ctx context.Context, _ *record) (int64, error) {
			context.AfterFunc(ctx, gate.open)
			<-gate.c
			return v, nil
		}
	case "poll":
		v := value()
		return func(ctx context.Context, r *record) (int64, error) {
			if !poll(30*time.Second, func() bool { return ctx.Err() != nil }) {
				return 0, &failure{99, "nobody cancelled it"}
			}
			var ended *duly.TaskError
			if errors.As(duly.Cause(ctx), &ended) {
				r.cause.Store(ended.Outcome.String())
			}
			return v, nil
		}
	case "time_left":
		return func(ctx context.Context, _ *record) (int64, error) {
			deadline, ok := ctx.Deadline()
			if !ok {
				return math.MaxInt32, nil
			}
			return min(time.Until(deadline).Milliseconds(), math.MaxInt32), nil
		}
	case "submit":
		inner, detached := take(f, "inner", ""), take(f, "inner_detached", false)
		f["run"] = take(f, "inner_run", "return")
		behave := w.callback(pool, f)
		return func(ctx context.Context, _ *record) (int64, error) {
			if detached {
				ctx = context.WithoutCancel(ctx)
			}
			r := &record{drops: new(atomic.Int64)}
			task, err := duly.Submit(ctx, pool, w.counted(inner, r, behave))
			if err != nil {
				return 0, &failure{2, err.Error()}
			}
			r.task = task
			w.mu.Lock()
			w.records[inner] = r
			w.mu.Unlock()
			return 0, nil
		}
	case "wait":
		target := take(f, "target", "")
		return func(ctx context.Context, _ *record) (int64, error) {
			task := w.awaited(target)
			if task == nil {
				return 0, &failure{3, "there is no such task"}
			}
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			got, err := task.Wait(ctx)
			if err != nil {
				return 0, &failure{3, err.Error()}
			}
			return got, nil
		}
	case "cancel":
		target := take(f, "target", "")
		return func(context.Context, *record) (int64, error) {
			if w.awaited(target).Cancel(nil) {
				return 1, nil
			}
			return 0, nil
		}
	case "close":
		return func(context.Context, *record) (int64, error) { pool.Close(); return 0, nil }
	case "shutdown":
		drain := f.ms("ms", 1000)
		return func(ctx context.Context, _ *record) (int64, error) {
			ctx, cancel := context.WithTimeout(ctx, drain)
			defer cancel()
			if _, err := pool.Shutdown(ctx); errors.Is(err, duly.ErrWouldDeadlock) {
				return 1, nil
			}
			return 0, nil
		}
	case "stats":
		return func(context.Context, *record) (int64, error) { return int64(pool.Stats().Running), nil }
	default:
		panic(fmt.Sprintf("there is no callback %q", run))
	}
}
