package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// most is how many tests of one function a requirement names; more are counted.
const most = 3

// makePage is the page, and what is wrong with it.
func makePage(groups []group, all []result) (page []byte, problems []error) {
	letters := ""
	for _, g := range groups {
		letters += g.letter
	}
	passed := make(map[string][]result)
	for _, r := range all {
		ids := shown(r.name, letters)
		for _, id := range slices.Sorted(maps.Keys(ids)) {
			if !isListed(groups, id) {
				problems = append(problems, fmt.Errorf("%s: %s is not in requirements.txt", r.path(), id))
			}
			switch r.action {
			case "pass":
				passed[id] = append(passed[id], result{pkg: r.pkg, name: ids[id]})
			case "fail":
				problems = append(problems, fmt.Errorf("%s: %s failed", id, r.path()))
			case "skip":
				problems = append(problems, fmt.Errorf("%s: %s was skipped, and shows nothing", id, r.path()))
			default:
				problems = append(problems, fmt.Errorf("%s: %s did not end", id, r.path()))
			}
		}
	}
	var b bytes.Buffer
	b.WriteString(intro)
	for _, g := range groups {
		count := 0
		for _, r := range g.list {
			if len(passed[r.id]) > 0 {
				count++
			}
		}
		fmt.Fprintf(&b, "\n## %s\n\n%d of %d are shown.\n\n| id | requirement | shown by |\n|---|---|---|\n", g.title, count, len(g.list))
		for _, r := range g.list {
			tests := passed[r.id]
			switch {
			case len(tests) > 0 && r.out != "":
				problems = append(problems, fmt.Errorf("%s: is left out in requirements.txt, and yet %s passes; take the reason away", r.id, tests[0].path()))
			case len(tests) == 0 && r.out == "":
				problems = append(problems, fmt.Errorf("%s: no test bears it, and requirements.txt has no reason for that; want one of both", r.id))
			}
			fmt.Fprintf(&b, "| %s | %s | %s |\n", r.id, cell(r.text), shownBy(r, tests))
		}
	}
	return b.Bytes(), problems
}

const intro = "# Conformance\n\n" +
	"Made by `go tool task conformance` from the tests that passed, and compared by every run of `go tool task test`.\n" +
	"The list is in `e2e/conformance/requirements.txt`. A name is that of a package and of a test, as `go test -run` takes\n" +
	"it; `{a,b}` stands for both.\n"

func isListed(groups []group, id string) bool {
	return slices.ContainsFunc(groups, func(g group) bool {
		return slices.ContainsFunc(g.list, func(r requirement) bool { return r.id == id })
	})
}

// shownBy is the last cell of a requirement.
func shownBy(r requirement, tests []result) string {
	var parts []string
	if r.out != "" {
		parts = append(parts, "**left out:** "+cell(r.out))
	}
	for names := merge(tests); len(names) > 0; {
		f := names[0].function()
		n := 1
		for n < len(names) && names[n].function() == f {
			n++
		}
		for _, name := range names[:min(n, most)] {
			parts = append(parts, "`"+cell(name.path())+"`")
		}
		if n > most {
			parts = append(parts, fmt.Sprintf("and %d more of `%s`", n-most, f))
		}
		names = names[n:]
	}
	if r.note != "" {
		parts = append(parts, cell(r.note))
	}
	return strings.Join(parts, "<br>")
}

// merge is tests in order, each once. Those that differ in the elements between the function and the last one alone, and
// have every combination of these, become one: f/{a,b}/last.
func merge(tests []result) []result {
	tests = slices.Clone(tests)
	slices.SortFunc(tests, byPath)
	tests = slices.Compact(tests)
	alike := make(map[string][]result)
	var merged []result
	for _, t := range tests {
		e := strings.Split(t.name, "/")
		key := fmt.Sprint(t.function(), " ", e[len(e)-1], " ", len(e))
		alike[key] = append(alike[key], t)
	}
	for _, group := range alike {
		if one, ok := join(group); ok {
			group = []result{one}
		}
		merged = append(merged, group...)
	}
	slices.SortFunc(merged, byPath)
	return merged
}

func byPath(a, b result) int {
	return cmp.Or(strings.Compare(a.function(), b.function()), strings.Compare(a.name, b.name))
}

// join makes one of tests whose names have as many elements each, if they are every combination of what these are.
func join(tests []result) (one result, ok bool) {
	elements := strings.Split(tests[0].name, "/")
	combinations := 1
	for i := range elements {
		var values []string
		for _, t := range tests {
			values = append(values, strings.Split(t.name, "/")[i])
		}
		slices.Sort(values)
		if values = slices.Compact(values); len(values) > 1 {
			elements[i] = "{" + strings.Join(values, ",") + "}"
		}
		combinations *= len(values)
	}
	return result{pkg: tests[0].pkg, name: strings.Join(elements, "/")}, combinations == len(tests)
}

// cell is text in a cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// compare says how the page that is committed differs from what it should be.
func compare(page string, want []byte) error {
	got, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	if bytes.Equal(got, want) {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s is out of date: run 'go tool task conformance' and commit the result", page)
	old, now := lines(got), lines(want)
	for _, line := range old {
		if !slices.Contains(now, line) {
			fmt.Fprintf(&b, "\n-%s", line)
		}
	}
	for _, line := range now {
		if !slices.Contains(old, line) {
			fmt.Fprintf(&b, "\n+%s", line)
		}
	}
	return errors.New(b.String())
}

func lines(text []byte) []string { return strings.Split(string(text), "\n") }
