// Pools in Go side by side: package duly, ants, pond, and N goroutines on a channel. W1 keeps a window of 1024 handles, W2 waits
// for each task before it submits the next.
//
// Kept true: every peer has as many workers and as much room, gives an answer for each task to whoever submitted it, and
// peers take turns, so that what else the machine does hits all alike. Prints one line a row and peer: the median, the
// fastest and the slowest of the runs, and the ratio to ants.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	"duly"

	"github.com/alitto/pond/v2"
	"github.com/panjf2000/ants/v2"
)

// A peer submits a callback and gives what waits for its answer.
type peer struct {
	name   string
	submit func(func() uint64) func() uint64
	stop   func()
}

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

var background = context.Background()

func open(name string, workers, capacity int) peer {
	switch name {
	case "duly":
		pool := must(duly.New(duly.Workers(workers), duly.Capacity(capacity)))
		return peer{name, func(callback func() uint64) func() uint64 {
			task := must(duly.Submit(background, pool, func(context.Context) (uint64, error) { return callback(), nil }))
			return func() uint64 { return must(task.Wait(background)) }
		}, func() { must(pool.Shutdown(background)) }}
	case "ants":
		pool := must(ants.NewPool(workers))
		return peer{name, func(callback func() uint64) func() uint64 {
			answer := make(chan uint64, 1)
			if err := pool.Submit(func() { answer <- callback() }); err != nil {
				panic(err)
			}
			return func() uint64 { return <-answer }
		}, pool.Release}
	case "pond":
		pool := pond.NewResultPool[uint64](workers, pond.WithQueueSize(capacity))
		return peer{name, func(callback func() uint64) func() uint64 {
			task := pool.Submit(callback)
			return func() uint64 { return must(task.Wait()) }
		}, pool.StopAndWait}
	case "chan":
		jobs := make(chan func(), capacity)
		for i := 0; i < workers; i++ {
			go func() {
				for job := range jobs {
					job()
				}
			}()
		}
		return peer{name, func(callback func() uint64) func() uint64 {
			answer := make(chan uint64, 1)
			jobs <- func() { answer <- callback() }
			return func() uint64 { return <-answer }
		}, func() { close(jobs) }}
	}
	fmt.Fprintln(os.Stderr, "no peer", name)
	os.Exit(2)
	return peer{}
}

func one() uint64 { return 1 }

// windowed submits n no-ops and keeps at most window handles; waits for the oldest first.
func windowed(p peer, n, window int) time.Duration {
	handles := make([]func() uint64, window)
	start := time.Now()
	var sum uint64
	for i := 0; i < n; i++ {
		if wait := handles[i%window]; wait != nil {
			sum += wait()
		}
		handles[i%window] = p.submit(one)
	}
	for _, wait := range handles {
		if wait != nil {
			sum += wait()
		}
	}
	took := time.Since(start)
	if sum != uint64(n) {
		panic(fmt.Sprint(p.name, ": ", sum, " answers of ", n))
	}
	return took
}

func main() {
	workers := flag.Int("workers", 2, "")
	runs := flag.Int("runs", 7, "")
	n := flag.Int("n", 200_000, "tasks of a run of W1; W2 has a tenth")
	peers := flag.String("peers", "duly,ants,pond,chan", "")
	flag.Parse()
	names := strings.Split(*peers, ",")
	for _, row := range []struct {
		name      string
		n, window int
	}{{"W1", *n, 1024}, {"W2", *n / 10, 1}} {
		took := map[string][]float64{}
		for run := 0; run < *runs; run++ {
			for _, name := range names {
				p := open(name, *workers, 1024)
				windowed(p, 4096, row.window)
				took[name] = append(took[name], float64(windowed(p, row.n, row.window).Nanoseconds())/float64(row.n))
				p.stop()
			}
		}
		for _, name := range names {
			sort.Float64s(took[name])
		}
		for _, name := range names {
			t := took[name]
			ratio := ""
			if ants := took["ants"]; len(ants) > 0 {
				ratio = fmt.Sprintf("  %.2fx ants", t[len(t)/2]/ants[len(ants)/2])
			}
			fmt.Printf("%s %-5s %7.0f ns a task (%.0f to %.0f)%s\n", row.name, name, t[len(t)/2], t[0], t[len(t)-1], ratio)
		}
		if mine, ants := took["duly"], took["ants"]; len(mine) > 0 && len(ants) > 0 {
			verdict, by := "missed", mine[len(mine)/2]/ants[len(ants)/2]
			if by <= 1 {
				verdict = "met"
			}
			fmt.Printf("%s goal: at most 1.0x ants: %.2fx, %s\n", row.name, by, verdict)
		}
	}
}
