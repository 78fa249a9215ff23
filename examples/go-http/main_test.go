package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"duly"
)

func start(t *testing.T, options ...duly.Option) (url string, end func() (duly.Report, error)) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	type ended struct {
		report duly.Report
		err    error
	}
	done := make(chan ended, 1)
	go func() {
		report, err := serve(ctx, listener, 20*time.Second, options...)
		done <- ended{report, err}
	}()
	return "http://" + listener.Addr().String(), func() (duly.Report, error) {
		stop()
		e := <-done
		return e.report, e.err
	}
}

func stats(t *testing.T, url string) (stats duly.Stats) {
	t.Helper()
	answer, err := http.Get(url + "/stats")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(&stats); err != nil {
		t.Fatal(err)
	}
	return stats
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never happened: ", what)
		}
	}
}

func TestP02AClientThatLeavesTakesItsWorkWithIt(t *testing.T) {
	defer func(before time.Duration) { limit = before }(limit)
	limit = time.Minute
	url, end := start(t, duly.Workers(1))
	ctx, leave := context.WithCancel(context.Background())
	for i := 0; i < 5; i++ {
		go func() {
			request, _ := http.NewRequestWithContext(ctx, http.MethodGet, url+"/hash?ms=60000", nil)
			if answer, err := http.DefaultClient.Do(request); err == nil {
				answer.Body.Close()
			}
		}()
	}
	eventually(t, "one runs and four wait", func() bool { s := stats(t, url); return s.Running == 1 && s.Queued == 4 })
	leave()
	eventually(t, "all are gone", func() bool { s := stats(t, url); return s.Running+s.Queued+s.Overdue == 0 && s.Cancelled == 5 })
	if report, err := end(); err != nil || !report.Drained {
		t.Error(report, err)
	}
}

func TestP04ARequestHasALimit(t *testing.T) {
	url, end := start(t, duly.Workers(1))
	answer, err := http.Get(url + "/hash?ms=60000")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusGatewayTimeout {
		t.Error(answer.Status)
	}
	if report, err := end(); err != nil {
		t.Error(report, err)
	}
}

// The load generator, if the caller names one in DULY_WRK.
func TestP05UnderLoad(t *testing.T) {
	wrk := os.Getenv("DULY_WRK")
	if wrk == "" {
		t.Skip("DULY_WRK names no wrk: see ci/deb")
	}
	url, end := start(t, duly.Workers(2), duly.Capacity(8))
	out, err := exec.Command(wrk, "-t2", "-c64", "-d3s", "--timeout", "5s", url+"/hash?ms=2").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
	s := stats(t, url)
	if s.Succeeded == 0 || s.Refused == 0 {
		t.Errorf("with 64 clients and 10 places: %+v", s)
	}
	eventually(t, "what the clients left is gone", func() bool { s := stats(t, url); return s.Running+s.Queued+s.Overdue == 0 })
	if report, err := end(); err != nil || !report.Drained {
		t.Error(report, err)
	}
}

func TestP14SIGTERMDrains(t *testing.T) {
	program := filepath.Join(t.TempDir(), "server")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	server := exec.Command(program, "-listen", "127.0.0.1:0", "-limit", "20s")
	pipe, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(pipe)
	line, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + strings.TrimSpace(strings.TrimPrefix(line, "listening on "))
	answered := make(chan int, 1)
	go func() {
		answer, err := http.Get(url + "/hash?ms=2500")
		if err != nil {
			answered <- 0
			return
		}
		answer.Body.Close()
		answered <- answer.StatusCode
	}()
	eventually(t, "it runs", func() bool { s := stats(t, url); return s.Running+s.Succeeded == 1 })
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if status := <-answered; status != http.StatusOK {
		t.Error("what ran was not answered: ", status)
	}
	rest, _ := io.ReadAll(lines)
	if err := server.Wait(); err != nil {
		t.Errorf("%v\n%s", err, rest)
	}
}

// Clients come, and every other one leaves before its answer; then the server is told to end while they go on.
func TestP14EndingUnderLoadAnswersWhatWasAccepted(t *testing.T) {
	url, end := start(t, duly.Workers(2), duly.Capacity(8))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	defer client.CloseIdleConnections()
	var ending atomic.Bool
	var counts [6]atomic.Int64 // by hundreds of the status; 0: no answer
	var clients sync.WaitGroup
	for i := 0; i < 24; i++ {
		i := i
		clients.Add(1)
		go func() {
			defer clients.Done()
			for n := 0; ; n++ {
				ctx, leave := context.WithCancel(context.Background())
				if (i+n)%2 == 0 {
					ctx, leave = context.WithTimeout(context.Background(), time.Duration(1+n%7)*time.Millisecond)
				}
				request, _ := http.NewRequestWithContext(ctx, http.MethodGet, url+"/hash?ms=3", nil)
				answer, err := client.Do(request)
				if err != nil {
					counts[0].Add(1)
					if ctx.Err() == nil && !ending.Load() {
						t.Error(err)
					}
				} else {
					_, _ = io.Copy(io.Discard, answer.Body)
					answer.Body.Close()
					counts[answer.StatusCode/100].Add(1)
				}
				leave()
				if ending.Load() && err != nil {
					return
				}
			}
		}()
	}
	eventually(t, "all kinds of answers", func() bool { return counts[0].Load() > 50 && counts[2].Load() > 50 && counts[5].Load() > 0 })
	ending.Store(true)
	report, err := end()
	if err != nil || !report.Drained || len(report.Abandoned) != 0 {
		t.Error(report, err)
	}
	clients.Wait()
	s := report.Stats
	if s.Cancelled == 0 || s.Queued+s.Running+s.Overdue != 0 || s.Succeeded+s.Failed+s.Cancelled+s.DeadlineExceeded != s.Submitted {
		t.Errorf("%+v", s)
	}
	t.Logf("%d without answer, %d answered, %d busy; %+v", counts[0].Load(), counts[2].Load(), counts[5].Load(), s)
}
