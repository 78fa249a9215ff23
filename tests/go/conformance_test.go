package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	"go.uber.org/goleak"
)

type oneCase struct {
	Name    string
	Why     string
	Needs   []string
	Pool    map[string]any
	Steps   []map[string]any
	FailsAt int `toml:"fails_at"`
}

func read(t *testing.T, path string) []oneCase {
	t.Helper()
	var table struct{ Case []oneCase }
	meta, err := toml.DecodeFile(path, &table)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range meta.Undecoded() {
		if len(key) == 2 {
			t.Fatalf("%s: unknown field %v", path, key)
		}
	}
	return table.Case
}

// failed does a case: the step that is not as expected (0: at the end), and what is wrong; nil if nothing is.
func failed(c oneCase) (step int, what any) {
	type answer struct {
		step int
		what any
	}
	ended := make(chan answer, 1)
	w := newWorld(c.Name)
	go func() {
		at := 0
		what := caught(func() {
			if c.Pool != nil {
				setup := fields{"do": "pool"}
				for key, value := range c.Pool {
					setup[key] = value
				}
				w.step(setup)
			}
			for i, step := range c.Steps {
				at = i + 1
				copied := fields{}
				for key, value := range step {
					copied[key] = value
				}
				w.step(copied)
			}
			at = 0
		})
		if last := caught(func() { w.end(what == nil) }); what == nil {
			what = last
		}
		ended <- answer{at, what}
	}()
	select {
	case a := <-ended:
		return a.step, a.what
	case <-time.After(60 * time.Second):
		return 0, "it hangs"
	}
}

func reasons(t *testing.T) map[string]string {
	var verbs map[string]map[string]string
	if _, err := toml.DecodeFile("../conformance/verbs.toml", &verbs); err != nil {
		t.Fatal(err)
	}
	return verbs["go"]
}

func missing(c oneCase, reasons map[string]string) (reason string) {
	for _, word := range c.Needs {
		if why, there := reasons[word]; there {
			return fmt.Sprintf("%s: %s", word, why)
		}
	}
	return ""
}

// asChild does the steps of a case's child.
func asChild(which string) int {
	files, _ := filepath.Glob("../conformance/cases/*.toml")
	for _, file := range append(files, "../conformance/wrong.toml") {
		var table struct{ Case []oneCase }
		if _, err := toml.DecodeFile(file, &table); err != nil {
			panic(err)
		}
		for _, c := range table.Case {
			if name, is := strings.CutPrefix(which, c.Name+"/"); is {
				return child(c, name)
			}
		}
	}
	return 255
}

func TestConformance(t *testing.T) {
	files, _ := filepath.Glob("../conformance/cases/*.toml")
	sort.Strings(files)
	reasons, ran := reasons(t), 0
	for _, file := range files {
		for _, c := range read(t, file) {
			c := c
			t.Run(c.Name, func(t *testing.T) {
				if reason := missing(c, reasons); reason != "" {
					t.Skip(reason)
				}
				ran++
				if step, what := failed(c); what != nil {
					t.Errorf("step %d: %v\n%s", step, what, c.Why)
				}
			})
		}
	}
	if len(files) == 0 || ran == 0 {
		t.Error("there is no case")
	}
}

func TestConformanceSeesWhatIsWrong(t *testing.T) {
	reasons := reasons(t)
	for _, c := range read(t, "../conformance/wrong.toml") {
		c := c
		t.Run(c.Name, func(t *testing.T) {
			if reason := missing(c, reasons); reason != "" {
				t.Skip(reason)
			}
			step, what := failed(c)
			if _, ok := what.(notAsExpected); !ok || step != c.FailsAt {
				t.Errorf("failed at step %d, not %d: %v", step, c.FailsAt, what)
			}
		})
	}
}

func TestMain(m *testing.M) {
	if which, ok := os.LookupEnv(childOf); ok {
		os.Exit(asChild(which))
	}
	status := m.Run()
	if status == 0 {
		// Every pool was shut down: no goroutine is left, once each had its turn.
		err := goleak.Find()
		for end := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(end); err = goleak.Find() {
			runtime.GC()
		}
		if err != nil {
			fmt.Println("p09: ", err)
			status = 1
		}
	}
	os.Exit(status)
}
