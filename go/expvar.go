//go:build cgo

package duly

import "encoding/json"

// String gives the counters as JSON.
func (s Stats) String() string {
	text, _ := json.Marshal(struct {
		*plain
	}{(*plain)(&s)})
	return string(text)
}

type plain Stats

// A Var is what package expvar publishes: expvar.Publish("duly", pool.Var()).
type Var struct{ pool *Pool }

// Var gives the pool's counters as they are whenever somebody asks.
func (p *Pool) Var() Var { return Var{p} }

// String gives the counters now as JSON.
func (v Var) String() string { return v.pool.Stats().String() }
