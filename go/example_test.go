package duly_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"duly"
)

func Example() {
	pool, err := duly.New(duly.Workers(4), duly.DefaultTimeout(2*time.Second))
	if err != nil {
		panic(err)
	}
	answer, err := duly.Run(context.Background(), pool, func(ctx context.Context) (int, error) { return 42, ctx.Err() })
	fmt.Println(answer, err)
	report, err := pool.Shutdown(context.Background())
	fmt.Println(report.Drained, err)
	// Output:
	// 42 <nil>
	// true <nil>
}

func ExampleSubmit() {
	pool, _ := duly.New(duly.Workers(1))
	defer pool.Shutdown(context.Background())
	task, err := duly.Submit(context.Background(), pool, func(ctx context.Context) (string, error) {
		<-ctx.Done() // a callback that looks stops in time
		return "", ctx.Err()
	}, duly.Timeout(20*time.Millisecond))
	if err != nil {
		panic(err)
	}
	_, err = task.Wait(context.Background())
	fmt.Println(task.Outcome(), errors.Is(err, context.DeadlineExceeded))
	// Output: deadline_exceeded true
}

func ExampleGroup() {
	pool, _ := duly.New(duly.Workers(2))
	defer pool.Shutdown(context.Background())
	group, _ := duly.NewGroup(context.Background(), pool)
	group.Go(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	group.Go(func(context.Context) error { return errors.New("no such host") })
	fmt.Println(group.Wait(context.Background()))
	// Output: no such host
}

func ExampleTask_Cancel() {
	pool, _ := duly.New(duly.Workers(1))
	defer pool.Shutdown(context.Background())
	task, _ := duly.Submit(context.Background(), pool, func(ctx context.Context) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	})
	fmt.Println(task.Cancel(errors.New("not needed any more")), task.Outcome())
	// Output: true cancelled
}
