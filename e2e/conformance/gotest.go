package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// goTest runs go test and keeps its events in a file. To out it writes what go test would without -json: a line for a
// package that passes, and all about a test that does not. Its error is that of go test.
func goTest(file string, args []string, out io.Writer) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil { //nolint:gosec // a command writes where it is told to
		return err
	}
	events, err := os.Create(file) //nolint:gosec // as above
	if err != nil {
		return err
	}
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...) //nolint:gosec // and runs the tests it is told to
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p := printer{out: out, packages: make(map[string]*report)}
	var written error
	read := eachEvent(stdout, func(e event, line []byte) {
		p.take(e)
		if _, err := events.Write(line); err != nil && written == nil {
			written = err
		}
	})
	err = cmd.Wait()
	return errors.Join(read, written, events.Close(), err)
}

// printer shows events to a person.
type printer struct {
	out      io.Writer
	packages map[string]*report
}

// report is what a package has said that may have to be shown.
type report struct {
	own   []string // output of no test
	tests []*testReport
	named map[string]*testReport
}

// testReport is what a test has said.
type testReport struct {
	name   string
	done   bool   // it passed or was skipped
	status string // its line --- FAIL
	lines  []string
}

func (p *printer) take(e event) {
	if e.Action == "build-output" {
		fmt.Fprint(p.out, e.Output)
		return
	}
	r := p.packages[e.Package]
	if r == nil {
		r = &report{named: make(map[string]*testReport)}
		p.packages[e.Package] = r
	}
	if e.Test != "" {
		r.test(e)
		return
	}
	switch e.Action {
	case "output":
		r.own = append(r.own, e.Output)
	case "pass", "skip":
		p.summary(r)
		delete(p.packages, e.Package)
	case "fail":
		p.failure(r)
		delete(p.packages, e.Package)
	}
}

func (r *report) test(e event) {
	t := r.named[e.Test]
	if t == nil {
		t = &testReport{name: e.Test}
		r.named[e.Test] = t
		r.tests = append(r.tests, t)
	}
	switch e.Action {
	case "pass", "skip":
		t.done, t.lines = true, nil
	case "output":
		switch line := strings.TrimLeft(e.Output, " "); {
		case strings.HasPrefix(line, "=== "):
		case strings.HasPrefix(line, "--- FAIL: "):
			t.status = line
		case !t.done:
			t.lines = append(t.lines, e.Output)
		}
	}
}

// summary shows the line of a package that passed.
func (p *printer) summary(r *report) {
	for _, line := range r.own {
		if strings.HasPrefix(line, "ok ") || strings.HasPrefix(line, "? ") {
			fmt.Fprint(p.out, line)
		}
	}
}

// failure shows the tests that failed or did not end, each below the one that it is part of, and what the package said.
func (p *printer) failure(r *report) {
	for _, t := range r.tests {
		if t.done || strings.Contains(t.name, "/") {
			continue
		}
		p.test(t)
		for _, sub := range r.tests { // in the order in which they began, so what contains others is before them
			if !sub.done && strings.HasPrefix(sub.name, t.name+"/") {
				p.test(sub)
			}
		}
	}
	for _, line := range r.own {
		fmt.Fprint(p.out, line)
	}
}

func (p *printer) test(t *testReport) {
	indent := strings.Repeat("    ", strings.Count(t.name, "/"))
	if t.status != "" {
		fmt.Fprint(p.out, indent, t.status)
	} else {
		fmt.Fprintf(p.out, "%s--- did not end: %s\n", indent, t.name)
	}
	for _, line := range t.lines {
		fmt.Fprint(p.out, indent, line)
	}
}
