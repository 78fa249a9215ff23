//go:build cgo

package duly

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"context"
	"errors"
	"sync"
	"unsafe"
)

// tokens are the cancellation tokens of a pool: one for each distinct context that something was submitted under, with one
// watcher, however many tasks there are.
//
// A token stays until its context is done, or the pool is gone. Under mu no method of a context is called.
type tokens struct {
	mu    sync.Mutex
	known map[source]*token
	over  bool
}

// A source is what a token follows: what is done, and whether whatever is submitted under it knows when.
type source struct {
	done    <-chan struct{}
	bounded bool
}

type token struct {
	handle C.uintptr_t
	source source
	// Ends the watcher; under the lock. Whoever is second of the one who sets it and the one who ends the pool calls it.
	stop func() bool
	// Submits that use the handle now, one for being known, and one for the watcher. Under the lock.
	uses int
}

// of gives the context's token; leave gives it back.
func (s *tokens) of(ctx context.Context) *token {
	_, bounded := ctx.Deadline()
	from := source{ctx.Done(), bounded}
	s.mu.Lock()
	if k := s.known[from]; k != nil {
		k.uses++
		s.mu.Unlock()
		return k
	}
	k := &token{handle: C.duly_go_token().handle, source: from, uses: 1}
	if s.over {
		s.mu.Unlock()
		return k
	}
	if s.known == nil {
		s.known = map[source]*token{}
	}
	k.uses += 2
	s.known[from] = k
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { s.cancel(k, ctx) })
	s.mu.Lock()
	k.stop = stop
	over := s.over
	s.mu.Unlock()
	if over && stop() {
		s.leave(k)
	}
	return k
}

func (s *tokens) leave(k *token) {
	s.mu.Lock()
	k.uses--
	last := k.uses == 0
	s.mu.Unlock()
	if last {
		C.duly_go_token_release(k.handle)
	}
}

// cancel: the context is done.
func (s *tokens) cancel(k *token, ctx context.Context) {
	// What was submitted under a deadline that it was told has that deadline itself.
	if !k.source.bounded || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		text := C.CString(errorText(context.Cause(ctx)))
		C.duly_go_token_cancel(k.handle, text)
		C.free(unsafe.Pointer(text))
	}
	s.forget(k)
	s.leave(k)
}

func (s *tokens) forget(k *token) {
	s.mu.Lock()
	there := s.known[k.source] == k
	if there {
		delete(s.known, k.source)
	}
	s.mu.Unlock()
	if there {
		s.leave(k)
	}
}

// end: the pool is gone, and so are its watchers.
func (s *tokens) end() {
	s.mu.Lock()
	s.over = true
	stops := make(map[*token]func() bool, len(s.known))
	for _, k := range s.known {
		stops[k] = k.stop
	}
	s.known = nil
	s.mu.Unlock()
	for k, stop := range stops {
		// A watcher that runs already has a use of its own.
		if stop != nil && stop() {
			s.leave(k)
		}
		s.leave(k)
	}
}
