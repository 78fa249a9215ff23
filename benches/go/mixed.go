// Row mixed: tasks as a service has them, the same sequence as src/mixed.rs makes.
//
// A cancelled task is a flag the worker looks at before it starts; a deadline is looked at by the worker before it starts
// and by the waiter, with a timer. A queued task that is cancelled or late keeps its place in the channel, and a running
// one is not told.
package main

import (
	"fmt"
	"math"
	"sort"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	longestUS    = 50_000.0
	tail         = 0.75
	sleepsFromUS = 100.0
	stepsPerUS   = 800.0
	biggestBurst = 500.0
	gapUS        = 1200.0
	withDeadline = 0.5
	deadline     = 20 * time.Millisecond
	cancelled    = 0.2
)

type planned struct {
	us                       float64
	hasDeadline, isCancelled bool
}

type burst struct {
	at    time.Duration
	tasks []planned
}

// SplitMix64, as numbers from 0 to 1.
type random uint64

func (r *random) next() float64 {
	*r += 0x9E3779B97F4A7C15
	z := uint64(*r)
	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
	z = (z ^ (z >> 27)) * 0x94D049BB133111EB
	return float64((z^(z>>31))>>11) / (1 << 53)
}

func plan(n int) (bursts []burst) {
	r := random(1)
	atUS := 0.0
	for count := 0; count < n; {
		atUS -= gapUS * math.Log(1-r.next())
		size := min(int(math.Pow(biggestBurst, r.next())), n-count)
		b := burst{at: time.Duration(atUS) * time.Microsecond}
		for i := 0; i < size; i++ {
			us := math.Pow(1-r.next()*(1-math.Pow(longestUS, -tail)), -1/tail)
			b.tasks = append(b.tasks, planned{us, r.next() < withDeadline, r.next() < cancelled})
		}
		bursts = append(bursts, b)
		count += size
	}
	return bursts
}

var result uint64 // keeps the steps from being left out

func work(us float64) {
	if us >= sleepsFromUS {
		// Costs Go less than nanosleep, which would hold a thread, though it may sleep 1 ms too long.
		time.Sleep(time.Duration(us * 1e3))
		return
	}
	x := uint64(1)
	for i := uint64(us * stepsPerUS); i > 0; i-- {
		x = (x ^ x>>32) * 6364136223846793005
	}
	if x == 0 {
		atomic.StoreUint64(&result, x)
	}
}

type served struct {
	answer      chan bool // whether it ran
	cancelled   *atomic.Bool
	deadline    time.Time // the zero time: none
	isCancelled bool
}

type counts struct{ withDeadline, late, cancelled, lost int }

func waitForAll(all chan served, done chan counts) {
	var c counts
	for s := range all {
		var late <-chan time.Time
		var timer *time.Timer
		if !s.deadline.IsZero() {
			c.withDeadline++
			timer = time.NewTimer(time.Until(s.deadline))
			late = timer.C
		}
		select {
		case ran := <-s.answer:
			switch {
			case ran:
			case s.isCancelled && s.cancelled.Load():
				c.cancelled++
			case timer != nil:
				c.late++
			default:
				c.lost++
			}
		case <-late:
			c.late++
		}
		if timer != nil {
			timer.Stop()
		}
	}
	done <- c
}

// CPU time in µs, how often a thread blocked, and how often one was preempted.
func used() (cpu, blocked, preempted float64) {
	var u syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	us := func(t syscall.Timeval) float64 { return float64(t.Sec)*1e6 + float64(t.Usec) }
	return us(u.Utime) + us(u.Stime), float64(u.Nvcsw), float64(u.Nivcsw)
}

func mixed(p *pool, n int, figures map[string]float64) {
	bursts := plan(n)
	waits := make([]int64, n) // ns until each started; 0 if it never did
	picked := make([]bool, 0, n)
	all, done := make(chan served, n), make(chan counts)
	go waitForAll(all, done)
	cpu, blocked, preempted := used()
	began := time.Now()
	var cancels []*atomic.Bool
	plannedUS := 0.0
	for _, b := range bursts {
		time.Sleep(time.Until(began.Add(b.at)))
		arrived := time.Now()
		for _, task := range b.tasks {
			s := served{answer: make(chan bool, 1), cancelled: new(atomic.Bool), isCancelled: task.isCancelled}
			if task.hasDeadline {
				s.deadline = arrived.Add(deadline)
			}
			wait := &waits[len(picked)]
			us := task.us
			plannedUS += us
			p.jobs <- func() {
				if s.cancelled.Load() || (!s.deadline.IsZero() && !time.Now().Before(s.deadline)) {
					s.answer <- false
					return
				}
				atomic.StoreInt64(wait, max(1, int64(time.Since(arrived))))
				work(us)
				s.answer <- true
			}
			if task.isCancelled {
				cancels = append(cancels, s.cancelled)
			}
			all <- s
			picked = append(picked, task.isCancelled)
		}
		for _, flag := range cancels {
			flag.Store(true)
		}
		cancels = cancels[:0]
	}
	close(all)
	c := <-done
	cpu2, blocked2, preempted2 := used()
	if c.lost > 0 {
		check(fmt.Errorf("%d tasks got an answer nobody asked for", c.lost))
	}

	var started []int64
	toCancel, ranAnyway := 0, 0
	for place := range waits {
		wait := atomic.LoadInt64(&waits[place])
		if wait > 0 {
			started = append(started, wait)
		}
		if picked[place] {
			toCancel++
			if wait > 0 {
				ranAnyway++
			}
		}
	}
	sort.Slice(started, func(i, j int) bool { return started[i] < started[j] })
	permille := func(of1000 int) float64 { return float64(started[(len(started)-1)*of1000/1000]) / 1e3 }
	figures["wait_p50_us"], figures["wait_p99_us"], figures["wait_p999_us"] = permille(500), permille(990), permille(999)
	figures["plan_us"] = plannedUS
	figures["cpu_us"] = (cpu2 - cpu) / float64(n)
	figures["switches"] = (blocked2 + preempted2 - blocked - preempted) / float64(n)
	figures["wakeups_per_task"] = (blocked2 - blocked) / float64(n)
	figures["cancelled_ran_percent"] = float64(ranAnyway) / float64(max(1, toCancel)) * 100
	figures["late_percent"] = float64(c.late) / float64(max(1, c.withDeadline)) * 100
}
