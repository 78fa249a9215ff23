// Children: a case that forks before it has named anything is as well served by a new process, which this program starts of
// itself. (A Go program does not fork without exec.)
//
// Keeps true: a child does its steps in order and exits at once, with 0 or the number of the step that was not as expected.
package tests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"duly"
)

// childOf names the case and the child that a process is.
const childOf = "DULY_CONFORMANCE_CHILD"

var signals = map[string]os.Signal{"user1": syscall.SIGUSR1, "user2": syscall.SIGUSR2}

// needsFork: the child would have to inherit something.
func needsFork(c oneCase) bool {
	return c.Pool != nil || len(c.Steps) == 0 || c.Steps[0]["do"] != "fork"
}

func (w *world) fork(child string) {
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), childOf+"="+w.name+"/"+child)
	var out strings.Builder
	command.Stdout, command.Stderr = &out, &out
	if err := command.Start(); err != nil {
		wrong("no child: %v", err)
	}
	late := time.AfterFunc(joining, func() { _ = command.Process.Kill() })
	ended := make(chan any, 1)
	go func() {
		err := command.Wait()
		late.Stop()
		var exit *exec.ExitError
		switch {
		case err == nil:
			ended <- nil
		case errors.As(err, &exit) && exit.ExitCode() > 0:
			ended <- notAsExpected(fmt.Sprintf("step %d of the child %q: %s", exit.ExitCode(), child, out.String()))
		default:
			ended <- notAsExpected(fmt.Sprintf("the child %q: %v: %s", child, err, out.String()))
		}
	}()
	w.threads[child] = ended
}

// child does the steps of a child, in a process of its own, and gives its exit code.
func child(c oneCase, name string) int {
	w := newWorld(c.Name)
	for i, step := range c.Steps {
		if step["child"] != name || step["do"] == "fork" || step["do"] == "join" {
			continue
		}
		copied := fields{}
		for key, value := range step {
			if key != "child" {
				copied[key] = value
			}
		}
		if what := caught(func() { w.step(copied) }); what != nil {
			fmt.Println(what)
			return i + 1
		}
	}
	return 0
}

func named(f fields) (which []os.Signal) {
	for _, name := range f.texts("signals") {
		which = append(which, signals[name])
	}
	return which
}

func (w *world) raise(name string) {
	which := signals[name]
	// One that nobody has asked for would end this process.
	if signal.Ignored(which) {
		wrong("the signal %s is ignored", name)
	}
	if err := syscall.Kill(os.Getpid(), which.(syscall.Signal)); err != nil {
		wrong("raise: %v", err)
	}
}

func (w *world) cancelOn(name string, which []os.Signal) {
	ctx, stop := duly.SignalContext(context.Background(), which...)
	ctx, cancel := context.WithCancelCause(ctx)
	w.mu.Lock()
	w.tokens[name] = token{ctx, cancel, stop}
	w.mu.Unlock()
}

func (w *world) closed(pool *duly.Pool, expect string) {
	is := func() string {
		if pool.IsClosed() {
			return "yes"
		}
		return "no"
	}
	if expect == "yes" {
		settle(func() { same("closed", is(), "yes") })
		return
	}
	same("closed", is(), expect)
}
