//go:build cgo && duly_system

package duly

// The library that is installed.

// #cgo pkg-config: duly
import "C"
