package duly

import "testing"

func TestP13ATagIsNeverThatOfAnotherTask(t *testing.T) {
	var s slab
	one, other := &task{}, &task{}
	tag := s.put(one)
	if s.get(tag) != one {
		t.Error("it is not there")
	}
	s.remove(tag)
	again := s.put(other)
	if s.get(tag) != nil || s.get(again) != other || uint32(again) != uint32(tag) {
		t.Error("an old tag finds a new task")
	}
}
