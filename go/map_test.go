//go:build go1.23

package duly

import (
	"context"
	"errors"
	"slices"
	"testing"
)

func TestP05AMapKeepsTheOrderAndItsWindow(t *testing.T) {
	pool := newPool(t, Workers(2))
	var got []int
	for square, err := range Map(context.Background(), pool, slices.Values([]int{1, 2, 3, 4, 5, 6, 7, 8, 9}), func(_ context.Context, n int) (int, error) {
		if n == 5 {
			return 0, errOwn
		}
		return n * n, nil
	}) {
		if err != nil && !errors.Is(err, errOwn) {
			t.Error(err)
		}
		got = append(got, square)
	}
	if !slices.Equal(got, []int{1, 4, 9, 16, 0, 36, 49, 64, 81}) {
		t.Error(got)
	}
}

func TestP02LeavingAMapCancelsWhatIsInFlight(t *testing.T) {
	pool := newPool(t, Workers(2))
	endless := func(yield func(int) bool) {
		for i := 0; yield(i); i++ {
		}
	}
	for range Map(context.Background(), pool, endless, func(ctx context.Context, n int) (int, error) {
		if n > 0 {
			<-ctx.Done()
		}
		return n, nil
	}) {
		break
	}
	eventually(t, "nothing runs", func() bool { s := pool.Stats(); return s.Running+s.Queued+s.Overdue == 0 })
}
