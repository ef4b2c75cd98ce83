// Command conformance says which requirements of SIP the tests show. Its page, e2e/CONFORMANCE.md, is made from what
// passed and from nothing else, so it can claim no more than the last run.
//
//	go run ./e2e/conformance test FILE ARG...   run `go test ARG...`, and keep its events in FILE
//	go run ./e2e/conformance write FILE...      write the page from such files
//	go run ./e2e/conformance check FILE...      fail if the page is not what write would make of them
//
// A test shows a requirement by bearing its id: TestP28Retransmission, TestP28P33Accepted, or a subtest whose name
// begins with P28 or with several ids. The ids and what they stand for are in requirements.txt. What no test shows has
// a reason there. An id that has neither, or both, or a test that did not pass, is an error.
//
// It is run from the root of the repository.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

const usage = "want test FILE ARG..., write FILE... or check FILE..., such as check bin/test/unit.json bin/test/e2e.json"

func main() {
	if err := run(os.Args[1:], filepath.Join("e2e", "CONFORMANCE.md"), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// run does what args say. page is the path of the page, and out is where a person looks.
func run(args []string, page string, out io.Writer) error {
	if len(args) < 2 {
		return errors.New(usage)
	}
	switch args[0] {
	case "test":
		return goTest(args[1], args[2:], out)
	case "write", "check":
		groups, err := parseRequirements(requirements)
		if err != nil {
			return fmt.Errorf("requirements.txt: %w", err)
		}
		all, err := readResults(args[1:])
		if err != nil {
			return err
		}
		text, problems := makePage(groups, all)
		if args[0] == "write" {
			problems = append(problems, os.WriteFile(page, text, 0o644)) //nolint:gosec // for everyone to read
		} else {
			problems = append(problems, compare(page, text))
		}
		return errors.Join(problems...)
	default:
		return fmt.Errorf("%q: %s", args[0], usage)
	}
}
