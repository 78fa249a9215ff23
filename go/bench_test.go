package duly

import (
	"context"
	"testing"
)

func BenchmarkOneAtATime(b *testing.B) {
	pool := newPool(b, Workers(2))
	b.ReportAllocs()
	for i := 0; i < b.N; i++ {
		task, err := Submit(context.Background(), pool, value(1))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := task.Wait(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWindow(b *testing.B) {
	pool := newPool(b, Workers(2))
	b.ReportAllocs()
	var window [1024]*Task[int]
	for i := 0; i < b.N; i++ {
		if task := window[i%1024]; task != nil {
			if _, err := task.Wait(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
		task, err := Submit(context.Background(), pool, value(1))
		if err != nil {
			b.Fatal(err)
		}
		window[i%1024] = task
	}
}
