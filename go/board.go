//go:build cgo

package duly

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"sync"
	"unsafe"
)

// The one board of this process, and the goroutine that reads it.
//
// Keeps true:
// 1. The reader runs no callbacks and no hooks, and never blocks but on the board itself. Of users' code it calls at most the methods
// of a context or an error that a task was given or gave.
// 2. There is one reader as long as anything is to be read: a pool is listed, somebody waits in passBoard, a periodic task or a task
// has not come back from libduly, even when its pool is gone. Whether that is over is decided by the reader, under mu, once it
// has read what it took; whoever ends something of that without it nudges it.
// Lock order: board.mu, then periodics.mu.
var board struct {
	once   sync.Once
	handle C.uintptr_t

	mu    sync.Mutex
	pools map[uint64]*core
	last  uint64
	told  map[uint64]chan struct{}
	read  bool
}

// live are the tasks that libduly knows of, of all pools.
var live slab

func theBoard() C.uintptr_t {
	board.once.Do(func() {
		board.handle = C.duly_go_board().handle
		board.pools = map[uint64]*core{}
		board.told = map[uint64]chan struct{}{}
	})
	return board.handle
}

// enterBoard lists a pool, before it is made, and sees to it that the board is read.
func enterBoard(p *core) {
	theBoard()
	board.mu.Lock()
	defer board.mu.Unlock()
	board.last++
	p.id = board.last
	board.pools[p.id] = p
	if !board.read {
		board.read = true
		go readBoard()
	}
}

// leaveBoard takes a pool off; with the last one the board is read no more, unless something is still to come.
func leaveBoard(p *core) {
	board.mu.Lock()
	delete(board.pools, p.id)
	board.mu.Unlock()
	passBoard()
}

// passBoard waits until everything is read that stood on the board when it was called.
func passBoard() {
	board.mu.Lock()
	reading := board.read
	var tag uint64
	passed := make(chan struct{})
	if reading {
		board.last++
		tag = board.last
		board.told[tag] = passed
	}
	board.mu.Unlock()
	if reading {
		C.duly_go_tell(board.handle, C.uint64_t(tag))
		<-passed
	}
}

// nudgeBoard has the reader look whether anything is to come. For whoever has ended what may have been the last without a notice.
func nudgeBoard() {
	board.mu.Lock()
	idle := board.read && len(board.pools) == 0
	board.mu.Unlock()
	if idle {
		C.duly_go_tell(board.handle, 0)
	}
}

func readBoard() {
	const most = 128
	notices := (*[most]C.duly_notice)(C.malloc(most * C.sizeof_duly_notice))
	defer C.free(unsafe.Pointer(notices))
	var passed []chan struct{}
	for goesOn := true; goesOn; {
		for _, notice := range notices[:C.duly_go_take(board.handle, &notices[0], most)] {
			passed = read(notice, passed)
		}
		goesOn = moreToCome()
		// Last: whoever waits for the last pool's end finds no reader.
		for _, each := range passed {
			close(each)
		}
		clear(passed)
		passed = passed[:0]
	}
}

// moreToCome decides whether the reader goes on.
func moreToCome() bool {
	board.mu.Lock()
	defer board.mu.Unlock()
	board.read = len(board.pools) > 0 || len(board.told) > 0 || anyPeriodic() || live.any()
	return board.read
}

// read acts on one notice, and adds who waits for its being read.
func read(notice C.duly_notice, passed []chan struct{}) []chan struct{} {
	tag := uint64(notice.tag)
	switch notice.kind {
	case C.DULY_NOTICE_TOLD:
		if tag&periodicTag != 0 {
			runEnded(tag)
			break
		}
		board.mu.Lock()
		if waits := board.told[tag]; waits != nil {
			passed = append(passed, waits)
			delete(board.told, tag)
		}
		board.mu.Unlock()
	case C.DULY_NOTICE_WORKER:
		board.mu.Lock()
		p := board.pools[tag]
		board.mu.Unlock()
		if p == nil {
			C.duly_go_leave(C.uintptr_t(uintptr(unsafe.Pointer(notice.worker))))
			break
		}
		p.begin(C.uintptr_t(uintptr(unsafe.Pointer(notice.worker))))
	case C.DULY_NOTICE_WAKE:
		wake(notice.tag)
	case C.DULY_NOTICE_ENDED:
		if p := periodicOf(tag); p != nil {
			p.look()
		} else if t := live.get(tag); t != nil {
			t.look()
		}
	case C.DULY_NOTICE_UNRUN:
		if p := periodicOf(tag); p != nil {
			p.neverRun()
		} else if t := live.get(tag); t != nil {
			t.neverRun()
		}
	case C.DULY_NOTICE_ROOM:
		if t := live.get(tag); t != nil {
			t.mu.Lock()
			room := t.have().room
			t.mu.Unlock()
			select {
			case room <- struct{}{}:
			default:
			}
		}
	}
	return passed
}
