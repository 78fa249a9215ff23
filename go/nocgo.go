//go:build !cgo

package duly

// Without cgo there is no pool; the compiler says so here.
const _ int = "duly needs cgo: build with CGO_ENABLED=1 and a C compiler in PATH"
