//go:build cgo

package duly

import (
	"sync"
	"sync/atomic"
)

// A slab names live tasks by numbers, which are all that libduly sees of them. A number is never used for two tasks: it
// carries how often its place was used before.
type slab struct {
	chunks atomic.Pointer[[]*[chunkSize]place]

	// The first free place, plus one, and above it how often this has changed: no place is mistaken for what it was before.
	free atomic.Uint64

	mu   sync.Mutex
	used uint32
}

const chunkSize = 1024

type place struct {
	task atomic.Pointer[task]
	uses atomic.Uint32
	next atomic.Uint32
}

func (s *slab) at(index uint32) *place {
	chunks := s.chunks.Load()
	if chunks == nil || int(index/chunkSize) >= len(*chunks) {
		return nil
	}
	return &(*chunks)[index/chunkSize][index%chunkSize]
}

// put names a task.
func (s *slab) put(t *task) uint64 {
	index := s.take()
	place := s.at(index)
	place.task.Store(t)
	return uint64(place.uses.Load())<<32 | uint64(index) + 1
}

// get finds a task; nil if it has left.
func (s *slab) get(tag uint64) *task {
	if uint32(tag) == 0 {
		return nil
	}
	place := s.at(uint32(tag) - 1)
	if place == nil {
		return nil
	}
	t := place.task.Load()
	if t == nil || place.uses.Load() != uint32(tag>>32) {
		return nil
	}
	return t
}

// remove forgets a task, once.
func (s *slab) remove(tag uint64) {
	place := s.at(uint32(tag) - 1)
	place.task.Store(nil)
	place.uses.Add(1)
	for {
		free := s.free.Load()
		place.next.Store(uint32(free))
		if s.free.CompareAndSwap(free, (free>>32+1)<<32|uint64(uint32(tag))) {
			return
		}
	}
}

// take gives a place that nobody has.
func (s *slab) take() uint32 {
	for {
		free := s.free.Load()
		first := uint32(free)
		if first == 0 {
			return s.grow()
		}
		next := s.at(first - 1).next.Load()
		if s.free.CompareAndSwap(free, (free>>32+1)<<32|uint64(next)) {
			return first - 1
		}
	}
}

func (s *slab) grow() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	index := s.used
	s.used++
	if index%chunkSize == 0 {
		var grown []*[chunkSize]place
		if chunks := s.chunks.Load(); chunks != nil {
			grown = append(grown, *chunks...)
		}
		grown = append(grown, new([chunkSize]place))
		s.chunks.Store(&grown)
	}
	return index
}

// each looks at every task.
func (s *slab) each(look func(*task)) {
	chunks := s.chunks.Load()
	if chunks == nil {
		return
	}
	for _, chunk := range *chunks {
		for i := range chunk {
			if t := chunk[i].task.Load(); t != nil {
				look(t)
			}
		}
	}
}

// any: there is a task.
func (s *slab) any() bool {
	found := false
	s.each(func(*task) { found = true })
	return found
}
