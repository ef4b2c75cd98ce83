package main

import (
	_ "embed"
	"fmt"
	"regexp"
	"strings"
)

// requirements is the list of ids, in our own words. A line `# P Title` begins a group, `P1 Text` is a requirement of
// it, and the lines below that are indented say more:
//
//	out: why no test shows it
//	note: what to know beside the tests that do
//
//go:embed requirements.txt
var requirements string

// group is the requirements whose ids begin with the same letter.
type group struct {
	letter, title string
	list          []requirement
}

// requirement is one line of the list.
type requirement struct {
	id, text string
	out      string // why no test shows it; empty: one has to
	note     string
}

var (
	groupLine       = regexp.MustCompile(`^# ([A-Z]) (.+)$`)
	requirementLine = regexp.MustCompile(`^([A-Z])([1-9][0-9]*) (.+)$`)
	detailLine      = regexp.MustCompile(`^\s+(out|note): (.+)$`)
)

// parseRequirements reads the list. Its errors begin with the number of the line.
func parseRequirements(text string) ([]group, error) {
	var groups []group
	for i, line := range strings.Split(text, "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		if err := parseLine(&groups, line); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return groups, nil
}

func parseLine(groups *[]group, line string) error {
	if m := groupLine.FindStringSubmatch(line); m != nil {
		for _, g := range *groups {
			if g.letter == m[1] {
				return fmt.Errorf("group %s is there already", g.letter)
			}
		}
		*groups = append(*groups, group{letter: m[1], title: m[2]})
		return nil
	}
	if len(*groups) == 0 {
		return fmt.Errorf("%q is in no group, want a line such as `# P Proxy` before it", line)
	}
	g := &(*groups)[len(*groups)-1]
	if m := requirementLine.FindStringSubmatch(line); m != nil {
		if want := fmt.Sprint(len(g.list) + 1); m[1] != g.letter || m[2] != want {
			return fmt.Errorf("id %s%s, want %s%s", m[1], m[2], g.letter, want)
		}
		g.list = append(g.list, requirement{id: m[1] + m[2], text: m[3]})
		return nil
	}
	m := detailLine.FindStringSubmatch(line)
	if m == nil || len(g.list) == 0 {
		return fmt.Errorf("%q is neither `# P Title`, `P1 Text`, nor `out: ...` or `note: ...` indented below one", line)
	}
	r := &g.list[len(g.list)-1]
	to := &r.note
	if m[1] == "out" {
		to = &r.out
	}
	if *to != "" {
		return fmt.Errorf("%s has two lines %s", r.id, m[1])
	}
	*to = m[2]
	return nil
}
