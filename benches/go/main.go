// Peer "go": N goroutines on a bounded channel, and a channel of one place a task for the answer.
//
// Kept true: the same workloads, windows, capacity and checks as src/workload.rs; one JSON line on stdout.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type pool struct {
	jobs    chan func()
	workers sync.WaitGroup
}

func start(workers, capacity int) *pool {
	p := &pool{jobs: make(chan func(), capacity)}
	p.workers.Add(workers)
	for i := 0; i < workers; i++ {
		go func() {
			defer p.workers.Done()
			for job := range p.jobs {
				job()
			}
		}()
	}
	return p
}

func (p *pool) submit(callback func() uint64) chan uint64 {
	answer := make(chan uint64, 1)
	p.jobs <- func() { answer <- callback() }
	return answer
}

func (p *pool) fire(callback func()) { p.jobs <- callback }

// A timer a task, started when it is submitted; whoever waits looks at both.
type withTimer struct {
	answer chan uint64
	timer  *time.Timer
}

func (p *pool) submitWithin(timeout time.Duration, callback func() uint64) withTimer {
	return withTimer{timer: time.NewTimer(timeout), answer: p.submit(callback)}
}

func (t withTimer) wait() (answer, expired uint64) {
	defer t.timer.Stop()
	select {
	case answer = <-t.answer:
		return answer, 0
	case <-t.timer.C:
		return 0, 1
	}
}

func (p *pool) stop() {
	close(p.jobs)
	p.workers.Wait()
}

func noop() uint64 { return 1 }

// Submits n no-ops, keeps at most window handles, waits for the oldest first; the sum of the answers.
func windowed(p *pool, n, window int) uint64 {
	window = min(window, n)
	handles := make([]chan uint64, window)
	var sum uint64
	for i := 0; i < n; i++ {
		slot := i % window
		if i >= window {
			sum += <-handles[slot]
		}
		handles[slot] = p.submit(noop)
	}
	for i := n; i < n+window; i++ {
		sum += <-handles[i%window]
	}
	return sum
}

// As windowed, each task with a deadline; how many were answered, and how many were late.
func deadlines(p *pool, n, window int, timeout time.Duration) (answered, expired uint64) {
	window = min(window, n)
	handles := make([]withTimer, window)
	wait := func(slot int) {
		a, e := handles[slot].wait()
		answered, expired = answered+a, expired+e
	}
	for i := 0; i < n; i++ {
		if i >= window {
			wait(i % window)
		}
		handles[i%window] = p.submitWithin(timeout, noop)
	}
	for i := n; i < n+window; i++ {
		wait(i % window)
	}
	return answered, expired
}

// Told to the worker every 256 tasks, as in src/workload.rs.
var submitted struct {
	_     [128]byte
	count atomic.Int64
	_     [128]byte
}

// ns a task while at least `queued` tasks stand in the queue; see src/workload.rs, standing.
func standing(p *pool, n, window, queued int) (sum uint64, ns float64) {
	fill, places := queued+4*window, queued+window
	handles := make([]chan uint64, places)
	var began time.Time
	for i := 0; i < fill+n; i++ {
		if i == fill {
			began = time.Now()
		}
		if i >= places {
			sum += <-handles[i%places]
		}
		turn := int64(i + queued)
		handles[i%places] = p.submit(func() uint64 {
			for looks := 0; submitted.count.Load() < turn; looks++ {
				if looks >= 1000 {
					runtime.Gosched()
				}
			}
			return 1
		})
		if i%256 == 0 {
			submitted.count.Store(int64(i))
		}
	}
	ns = float64(time.Since(began)) / float64(n)
	submitted.count.Store(math.MaxInt64)
	for i := fill + n; i < fill+n+places; i++ {
		sum += <-handles[i%places]
	}
	return sum - uint64(fill), ns
}

// Resident bytes a queued task, every worker stuck; tasks carry a number, as in src/workload.rs.
func queued(p *pool, n, workers int, handles bool) (sum uint64, bytes float64) {
	kept := make([]chan uint64, n)
	for i := range kept {
		kept[i] = nil // there before the first look
	}
	gate, entered := make(chan struct{}), make(chan struct{}, workers)
	before := statusKiB("VmRSS:")
	for i := 0; i < workers; i++ {
		p.fire(func() { entered <- struct{}{}; <-gate })
	}
	for i := 0; i < workers; i++ {
		<-entered
	}
	var ran atomic.Uint64
	for i := 0; i < n; i++ {
		one := uint64(1 + i - i)
		if handles {
			kept[i] = p.submit(func() uint64 { return one })
		} else {
			p.fire(func() { ran.Add(one) })
		}
	}
	bytes = (statusKiB("VmRSS:") - before) * 1024 / float64(n)
	close(gate)
	if handles {
		for _, handle := range kept {
			sum += <-handle
		}
		return sum, bytes
	}
	for ran.Load() < uint64(n) {
		time.Sleep(time.Millisecond)
	}
	return ran.Load(), bytes
}

var left atomic.Int64
var allRan = make(chan struct{}, 1)

func counted() {
	if left.Add(-1) == 0 {
		allRan <- struct{}{}
	}
}

var captured uint64 // what a capturing callback compares its number with; never equal

func fireAll(p *pool, n int, captures bool) uint64 {
	captured = uint64(n)
	left.Store(int64(n))
	for i := 0; i < n; i++ {
		if number := uint64(i); captures {
			p.fire(func() {
				if number == captured {
					panic("a number that was not given")
				}
				counted()
			})
		} else {
			p.fire(counted)
		}
	}
	<-allRan
	return uint64(n)
}

func producers(p *pool, n, count, window int) uint64 {
	var sum atomic.Uint64
	var done sync.WaitGroup
	done.Add(count)
	for i := 0; i < count; i++ {
		go func() {
			defer done.Done()
			sum.Add(windowed(p, n/count, window))
		}()
	}
	done.Wait()
	return sum.Load()
}

// Latencies of n submits with a wait each; pause between them. One clock read on each side (time.Since of a fixed
// point reads the monotonic clock only; time.Now would read two).
func closedLoop(p *pool, n int, pause time.Duration) (sum uint64, p50, p99 float64) {
	base := time.Now()
	spans := make([]int64, n)
	for i := range spans {
		if pause > 0 {
			time.Sleep(pause)
		}
		before := time.Since(base)
		sum += <-p.submit(noop)
		spans[i] = int64(time.Since(base) - before)
	}
	sort.Slice(spans, func(i, j int) bool { return spans[i] < spans[j] })
	return sum, float64(spans[n/2]), float64(spans[n*99/100])
}

func peakMB() float64 { return statusKiB("VmHWM:") * 1024 / 1e6 }

func statusKiB(name string) float64 {
	text, err := os.ReadFile("/proc/self/status")
	check(err)
	for _, line := range strings.Split(string(text), "\n") {
		if rest, found := strings.CutPrefix(line, name); found {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			check(err)
			return kib
		}
	}
	panic("no " + name)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "duly-bench-go:", err)
		os.Exit(1)
	}
}

func main() {
	row := flag.String("row", "", "the workload")
	peer := flag.String("peer", "go", "what the row calls this program")
	kind := flag.String("kind", "", "windowed, fire, producers, loop, all, deadlines, queued, standing or mixed")
	workers := flag.Int("workers", 2, "goroutines of the pool")
	n := flag.Int("n", 1000000, "tasks")
	capacity := flag.Int("capacity", 1024, "places of the channel")
	window := flag.Int("window", 1024, "handles kept, over all producers")
	count := flag.Int("producers", 4, "goroutines that submit (kind producers)")
	captures := flag.Int("captures", 0, "1: callbacks capture a number (kind fire)")
	pause := flag.Int("pause-us", 0, "rest between two tasks (kind loop)")
	timeout := flag.Int("timeout-ms", 100, "deadline of each task (kind deadlines)")
	stand := flag.Int("queued", 0, "tasks that stand in the queue (kind standing)")
	handles := flag.Int("handles", 0, "1: keep the handles (kind queued)")
	warmUp := flag.Int("warm-up", 4096, "tasks before the clock starts")
	settle := flag.Int("settle-ms", 0, "rest before the clock starts")
	flag.Parse()

	places := *capacity
	if *kind == "queued" {
		places = *n + *workers
	}
	p := start(*workers, places)
	figures := map[string]float64{}
	if *kind != "queued" {
		windowed(p, *warmUp, *window)
		time.Sleep(time.Duration(*settle) * time.Millisecond)
	}
	var sum uint64
	began := time.Now()
	switch *kind {
	case "windowed":
		sum = windowed(p, *n, *window)
		figures["ns_per_task"] = float64(time.Since(began)) / float64(*n)
	case "fire":
		sum = fireAll(p, *n, *captures != 0)
		figures["ns_per_task"] = float64(time.Since(began)) / float64(*n)
	case "producers":
		sum = producers(p, *n, *count, *window / *count)
		figures["ns_per_task"] = float64(time.Since(began)) / float64(*n)
	case "loop":
		sum, figures["p50_ns"], figures["p99_ns"] = closedLoop(p, *n, time.Duration(*pause)*time.Microsecond)
	case "all":
		sum = windowed(p, *n, *n)
		took := time.Since(began)
		figures["seconds"], figures["ns_per_task"] = took.Seconds(), float64(took)/float64(*n)
		figures["peak_mb"] = peakMB()
	case "deadlines":
		answered, expired := deadlines(p, *n, *window, time.Duration(*timeout)*time.Millisecond)
		figures["ns_per_task"] = float64(time.Since(began)) / float64(*n)
		figures["expired"] = float64(expired)
		sum = answered + expired
	case "queued":
		sum, figures["bytes"] = queued(p, *n, *workers, *handles != 0)
	case "standing":
		sum, figures["ns_per_task"] = standing(p, *n, *window, *stand)
	case "mixed":
		sum = uint64(*n)
		mixed(p, *n, figures)
	default:
		check(fmt.Errorf("unknown kind %q", *kind))
	}
	p.stop()
	if sum != uint64(*n) {
		check(fmt.Errorf("%s: the answers sum to %d, not %d", *row, sum, *n))
	}
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"row": *row, "peer": *peer, "workers": *workers, "n": *n, "figures": figures, "version": runtime.Version(),
	}))
}
