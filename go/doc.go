// Package duly is a bounded worker pool in which every task gets exactly one outcome, in time: when its callback returns,
// at its deadline, when its context is done, or when the pool's drain is over, whichever is first. It does not depend on
// the callback being polite. Go code shares a pool with the C, C++, Rust and Python code of its process.
//
//	pool, err := duly.New(duly.Workers(4), duly.DefaultTimeout(2*time.Second))
//	…
//	sum, err := duly.Run(ctx, pool, func(ctx context.Context) (int, error) { return add(ctx, numbers) })
//
// The context given to [Submit] is the cancellation token: when it is done, a queued task is gone and a running one has its
// outcome; its deadline is the task's. The context given to the callback carries its values and pprof labels, and is done
// when the task has its outcome, so a callback that looks at it stops in time. What a callback submits with it stands under
// it; with [context.WithoutCancel] it does not.
//
// A callback runs on one of the pool's workers, which are goroutines. So no more
// callbacks run than the pool has workers, whoever submitted them, in whatever language. A callback that waits inside of
// itself for another task of the pool, with the context it was given, lends its place to another worker meanwhile.
//
// # Errors
//
// [Task.Wait] returns the callback's own error untouched. What ended in another way is a [*PanicError] or a [*TaskError];
// a refused submit is a [*SubmitError]. All answer errors.Is: context.Canceled, context.DeadlineExceeded, [ErrShed],
// [ErrAbandoned], [ErrQueueFull], [ErrShutDown] and so on. A wait whose own context is done returns that context's error;
// the task goes on.
//
// # Building
//
// The package is a thin layer over libduly, by cgo. It links lib/<os>_<arch>/libduly.a of its own folder, or with the build
// tag duly_system the library that pkg-config finds.
package duly
