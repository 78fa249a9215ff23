//go:build cgo && !duly_system

package duly

// The library that ci/go-lib puts into this folder.

// #cgo CFLAGS: -I${SRCDIR}/lib/include
// #cgo linux,amd64 LDFLAGS: ${SRCDIR}/lib/linux_amd64/libduly.a -lpthread -ldl -lm
// #cgo linux,arm64 LDFLAGS: ${SRCDIR}/lib/linux_arm64/libduly.a -lpthread -ldl -lm
import "C"
