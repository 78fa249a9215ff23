//go:build cgo && go1.23

package duly

import (
	"context"
	"iter"
)

// Map gives fn of each item of in, in their order, with never more than a window of them in flight: twice the parallelism of
// this process. Items are taken from in as there is room, on the goroutine that ranges.
//
// An error is given beside its item's zero value, and the range goes on; leaving the range cancels what is in flight. For
// another window, or answers as they complete, see [NewStream] and [Stream.All].
func Map[In, Out any](ctx context.Context, pool *Pool, in iter.Seq[In], fn func(context.Context, In) (Out, error), options ...TaskOption) iter.Seq2[Out, error] {
	return func(yield func(Out, error) bool) {
		next, stop := iter.Pull(in)
		defer stop()
		NewStream(ctx, pool, next, fn, options...).All(ctx)(yield)
	}
}

// All gives the answers that are left as an iterator, once; it ends with an error when ctx is done. Leaving the range closes the
// stream.
func (s *Stream[Out]) All(ctx context.Context) iter.Seq2[Out, error] {
	return func(yield func(Out, error) bool) {
		defer s.Close()
		for {
			value, more, err := s.Next(ctx)
			if !more || !yield(value, err) || err != nil && ctx.Err() != nil {
				return
			}
		}
	}
}
