//go:build go1.23

package tests

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Of packages that snippets use without saying so.
var known = map[string]string{"context": "context", "duly": "duly", "errors": "errors", "fmt": "fmt", "http": "net/http", "os": "os",
	"signal": "os/signal", "slog": "log/slog", "syscall": "syscall", "time": "time", "expvar": "expvar", "net": "net", "log": "log",
	"slices": "slices"}

// Every snippet of docs/go.md is a program, which is run, or declarations, which are compiled, as a user's module would.
func TestEverySnippetCompiles(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	page, err := os.ReadFile("../../docs/go.md")
	if err != nil {
		t.Fatal(err)
	}
	module, err := filepath.Abs("../../go")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "go.mod"), []byte("module example.org/snippets\n\ngo 1.23\n\nrequire duly v0.0.0\n\nreplace duly => "+module+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	programs := 0
	snippets := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllSubmatch(page, -1)
	for i, snippet := range snippets {
		text := string(snippet[1])
		name := fmt.Sprintf("s%d", i)
		if strings.HasPrefix(text, "package main") {
			programs++
		} else {
			var imports bytes.Buffer
			for short, path := range known {
				if regexp.MustCompile(`\b` + short + `\.`).MatchString(text) {
					fmt.Fprintf(&imports, "import %q\n", path)
				}
			}
			text = "package " + name + "\n\n" + imports.String() + "\n" + text
		}
		if err := os.Mkdir(filepath.Join(folder, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name, "snippet.go"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if len(snippets) < 4 || programs == 0 {
		t.Fatal("there are ", len(snippets), " snippets")
	}
	vet := exec.Command("go", "vet", "./...")
	vet.Dir = folder
	if out, err := vet.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program := exec.Command("go", "run", "./s0")
	program.Dir = folder
	out, err := program.CombinedOutput()
	if err != nil || string(out) != "42 <nil>\ntrue <nil>\n" {
		t.Errorf("%v\n%s", err, out)
	}
}
