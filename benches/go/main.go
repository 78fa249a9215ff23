// Peer "go": N goroutines on a bounded channel, and a channel of one place a task for the answer.
//
// Kept true: the same workloads, windows, capacity and checks as src/workload.rs; one JSON line on stdout.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
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

func (p *pool) stop() {
	close(p.jobs)
	p.workers.Wait()
}

func noop() uint64 { return 1 }

// Submits n no-ops, keeps at most window handles, waits for the oldest first; the sum of the answers.
func windowed(p *pool, n, window int) uint64 {
	if window > n {
		window = n
	}
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

func peakMB() float64 {
	text, err := os.ReadFile("/proc/self/status")
	check(err)
	for _, line := range strings.Split(string(text), "\n") {
		if rest, found := strings.CutPrefix(line, "VmHWM:"); found {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			check(err)
			return kib * 1024 / 1e6
		}
	}
	panic("no VmHWM")
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "duly-bench-go:", err)
		os.Exit(1)
	}
}

func main() {
	row := flag.String("row", "", "the workload")
	kind := flag.String("kind", "", "windowed, fire, producers, loop or all")
	workers := flag.Int("workers", 2, "goroutines of the pool")
	n := flag.Int("n", 1000000, "tasks")
	capacity := flag.Int("capacity", 1024, "places of the channel")
	window := flag.Int("window", 1024, "handles kept, over all producers")
	count := flag.Int("producers", 4, "goroutines that submit (kind producers)")
	captures := flag.Bool("captures", false, "callbacks capture a number (kind fire)")
	pause := flag.Duration("pause", 0, "rest between two tasks (kind loop)")
	warmUp := flag.Int("warm-up", 4096, "tasks before the clock starts")
	settle := flag.Duration("settle", 0, "rest before the clock starts")
	flag.Parse()

	p := start(*workers, *capacity)
	figures := map[string]float64{}
	windowed(p, *warmUp, *window)
	time.Sleep(*settle)
	var sum uint64
	began := time.Now()
	switch *kind {
	case "windowed":
		sum = windowed(p, *n, *window)
		figures["ns_per_task"] = float64(time.Since(began)) / float64(*n)
	case "fire":
		sum = fireAll(p, *n, *captures)
		figures["ns_per_task"] = float64(time.Since(began)) / float64(*n)
	case "producers":
		sum = producers(p, *n, *count, *window / *count)
		figures["ns_per_task"] = float64(time.Since(began)) / float64(*n)
	case "loop":
		sum, figures["p50_ns"], figures["p99_ns"] = closedLoop(p, *n, *pause)
	case "all":
		sum = windowed(p, *n, *n)
		took := time.Since(began)
		figures["seconds"], figures["ns_per_task"] = took.Seconds(), float64(took)/float64(*n)
		figures["peak_mb"] = peakMB()
	default:
		check(fmt.Errorf("unknown kind %q", *kind))
	}
	p.stop()
	if sum != uint64(*n) {
		check(fmt.Errorf("%s: the answers sum to %d, not %d", *row, sum, *n))
	}
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"row": *row, "peer": "go", "workers": *workers, "n": *n, "figures": figures, "version": runtime.Version(),
	}))
}
