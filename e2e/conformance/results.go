package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

// event is a line of `go test -json` (go doc test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string // of build-output
	Test       string
	Output     string
}

// result is what became of a test.
type result struct {
	pkg, name string
	action    string // pass, fail, skip; run: it did not end
}

// path is the full name of a test: that of its package, as seen from the root of the repository, and its own.
func (r result) path() string {
	return strings.TrimPrefix(r.pkg, "github.com/routr-fabric/routr/") + "." + r.name
}

// function is the full name of the test function that r is part of.
func (r result) function() string {
	r.name, _, _ = strings.Cut(r.name, "/")
	return r.path()
}

// readResults reads files that goTest has written: every test of them, in the order in which they began.
func readResults(files []string) ([]result, error) {
	var all []result
	index := make(map[string]int)
	for _, name := range files {
		f, err := os.Open(name) //nolint:gosec // a command reads what it is told to
		if err != nil {
			return nil, fmt.Errorf("%w; go tool task unit and go tool task e2e write these files", err)
		}
		err = eachEvent(f, func(e event, _ []byte) {
			if e.Test == "" {
				return
			}
			i, known := index[e.Package+" "+e.Test]
			if !known {
				i = len(all)
				index[e.Package+" "+e.Test] = i
				all = append(all, result{pkg: e.Package, name: e.Test, action: "run"})
			}
			switch e.Action {
			case "pass", "fail", "skip":
				all[i].action = e.Action
			}
		})
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}
	return all, nil
}

// eachEvent calls f for each line of r; what is no event is an output of no test.
func eachEvent(r io.Reader, f func(e event, line []byte)) error {
	for in := bufio.NewReader(r); ; {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				e = event{Action: "build-output", Output: string(line)}
			}
			f(e, line)
		}
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

var (
	testIDs    = regexp.MustCompile(`^Test((?:[A-Z][1-9][0-9]*)+)`)
	subtestIDs = regexp.MustCompile(`^(?:[A-Z][1-9][0-9]*[:,]?(?:_|$))+`)
	oneID      = regexp.MustCompile(`[A-Z][1-9][0-9]*`)
)

// shown are the ids in the name of a test, each with the name up to the element that bears it. Its letters are those of
// groups that exist: a test may be called TestH264 for all we care.
func shown(name string, letters string) map[string]string {
	ids := make(map[string]string)
	for end := 0; end < len(name); {
		begin := end
		if i := strings.IndexByte(name[begin:], '/'); i >= 0 {
			end = begin + i
		} else {
			end = len(name)
		}
		found := subtestIDs.FindString(name[begin:end])
		if begin == 0 {
			found = strings.TrimPrefix(testIDs.FindString(name[:end]), "Test")
		}
		for _, id := range oneID.FindAllString(found, -1) {
			if _, above := ids[id]; !above && strings.Contains(letters, id[:1]) {
				ids[id] = name[:end]
			}
		}
		end++ // the slash
	}
	return ids
}
