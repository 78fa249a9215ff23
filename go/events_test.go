package duly

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// heard collects events.
type heard struct {
	mu     sync.Mutex
	events []Event
}

func (h *heard) hear(event Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, event)
}

func (h *heard) of(kind EventKind) (events []Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, event := range h.events {
		if event.Kind == kind {
			events = append(events, event)
		}
	}
	return events
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) has(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.b.String(), text)
}

func TestP08LateAndStalledAreTold(t *testing.T) {
	var h heard
	var lines safeBuffer
	pool := newPool(t, Workers(1), MaxReplacements(0), ReplaceAfter(5*time.Millisecond), OnEvent(h.hear), Logger(slog.New(slog.NewTextHandler(&lines, nil))))
	gate := make(chan struct{})
	stuck := blocked(t, pool, gate, Label("stuck"))
	waiting, err := Submit(context.Background(), pool, value(1))
	if err != nil {
		t.Fatal(err)
	}
	stuck.Cancel(nil)
	eventually(t, "it is stalled", func() bool { return len(h.of(EventStalled)) == 1 })
	close(gate)
	if _, err := waiting.Wait(context.Background()); err != nil {
		t.Error(err)
	}
	eventually(t, "it is late", func() bool { return len(h.of(EventLate)) == 1 })
	late, stalled := h.of(EventLate)[0], h.of(EventStalled)[0]
	if late.Label != "stuck" || late.Outcome != Cancelled || late.Callback != Succeeded || late.Pool != "duly" {
		t.Errorf("%+v", late)
	}
	if stalled.Number != 1 || !strings.Contains(stalled.Text, "stuck") {
		t.Errorf("%+v", stalled)
	}
	if !lines.has("stuck") || !lines.has("returned after its task had its outcome") {
		t.Error("no line")
	}
}

func TestP09StartAndStopComeInPairs(t *testing.T) {
	var h heard
	pool, err := New(Workers(2), OnEvent(h.hear))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), pool, value(1)); err != nil {
		t.Error(err)
	}
	if _, err := pool.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	// A worker whose goroutine gets no turn for a second is not waited for.
	eventually(t, "as many stop as start", func() bool { return len(h.of(EventWorkerStart)) == len(h.of(EventWorkerStop)) })
	if start := h.of(EventWorkerStart); len(start) < 1 || len(start) > 2 {
		t.Error(start)
	}
}

func TestP12AFailureNobodyLookedAtIsTold(t *testing.T) {
	var h heard
	var lines safeBuffer
	pool := newPool(t, Workers(1), OnEvent(h.hear), Logger(slog.New(slog.NewTextHandler(&lines, nil))))
	fails := func(context.Context) (int, error) { return 0, errOwn }
	if _, err := Submit(context.Background(), pool, fails, Label("forgotten")); err != nil {
		t.Fatal(err)
	}
	// Those somebody looks at are not told.
	seen, err := Submit(context.Background(), pool, fails, Label("seen"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := seen.Wait(context.Background()); err != errOwn {
		t.Error(err)
	}
	if _, err := Run(context.Background(), pool, fails); err != errOwn {
		t.Error(err)
	}
	group, _ := NewGroup(context.Background(), pool)
	group.Go(func(context.Context) error { return errOwn })
	if err := group.Wait(context.Background()); err != errOwn {
		t.Error(err)
	}
	seen = nil
	eventually(t, "it is told", func() bool {
		runtime.GC()
		return len(h.of(EventUnobserved)) > 0
	})
	for i := 0; i < 5; i++ {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	told := h.of(EventUnobserved)
	if len(told) != 1 || told[0].Label != "forgotten" || told[0].Outcome != Failed || told[0].Text != errOwn.Error() {
		t.Errorf("%+v", told)
	}
	if n := pool.Stats().Unobserved; n != 1 {
		t.Error(n)
	}
	if !lines.has("forgotten") {
		t.Error("no line")
	}
}

func TestP07AHookThatPanicsHurtsNobody(t *testing.T) {
	pool := newPool(t, Workers(1), OnEvent(func(Event) { panic("bad") }))
	if got, err := Run(context.Background(), pool, value(1)); got != 1 || err != nil {
		t.Error(got, err)
	}
}

func raise(t *testing.T, which syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(os.Getpid(), which); err != nil {
		t.Fatal(err)
	}
}

func TestP14ASignalStartsTheDrainAndASecondAbandons(t *testing.T) {
	pool := newPool(t, Workers(1))
	gate := make(chan struct{})
	defer close(gate)
	task := blocked(t, pool, gate)
	stop := pool.ShutdownOn(time.Minute, syscall.SIGUSR1)
	defer stop()
	raise(t, syscall.SIGUSR1)
	eventually(t, "it is closed", pool.IsClosed)
	if task.Outcome() != Pending {
		t.Error(task.Outcome())
	}
	raise(t, syscall.SIGUSR1)
	within(t, task.Done(), "it is abandoned")
	if task.Outcome() != Abandoned {
		t.Error(task.Outcome())
	}
}

func TestP14ASignalCancelsAContext(t *testing.T) {
	pool := newPool(t, Workers(1))
	ctx, stop := SignalContext(context.Background(), syscall.SIGUSR2)
	defer stop()
	_, err := Run(ctx, pool, func(ctx context.Context) (int, error) {
		raise(t, syscall.SIGUSR2)
		<-ctx.Done()
		return 0, nil
	})
	if err == nil || !strings.Contains(err.Error(), "signal") {
		t.Error(err)
	}
}
