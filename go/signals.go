//go:build cgo

package duly

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"time"
)

// ErrSignal is the cause of what a signal has cancelled.
var ErrSignal = errors.New("signal")

// ShutdownOn binds the pool to signals: the first closes it and begins its drain, the next one abandons what is left. After the
// first the pool has come to its end, and the process is ready to exit, within the grace period. What stop gives back is the
// signals; call it if the pool is shut down in another way.
func (p *Pool) ShutdownOn(grace time.Duration, signals ...os.Signal) (stop func()) {
	heard, ended := make(chan os.Signal, 2), make(chan struct{})
	signal.Notify(heard, signals...)
	var once sync.Once
	stop = func() {
		once.Do(func() {
			signal.Stop(heard)
			close(ended)
		})
	}
	go func() {
		select {
		case <-heard:
		case <-ended:
			return
		}
		// Some of the time is for those whose tasks are abandoned.
		ctx, cancel := context.WithTimeout(context.Background(), grace-min(grace/4, time.Second))
		defer cancel()
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			_, _ = p.Shutdown(ctx)
		}()
		select {
		case <-heard:
			cancel()
			<-drained
		case <-drained:
		case <-ended:
			<-drained
		}
		stop()
	}()
	return stop
}

// SignalContext is a context that signals cancel, with a cause that is ErrSignal: what is submitted under it is cancelled. stop
// gives the signals back.
func SignalContext(parent context.Context, signals ...os.Signal) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, signals...)
	go func() {
		select {
		case which := <-heard:
			cancel(fmt.Errorf("%w %v", ErrSignal, which))
		case <-ctx.Done():
		}
		signal.Stop(heard)
	}()
	return ctx, func() { cancel(nil) }
}
