package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestShown(t *testing.T) {
	for _, tt := range []struct {
		name string
		want map[string]string
	}{
		{"TestCall", map[string]string{}},
		{"TestP28RetransmissionIsAbsorbed", map[string]string{"P28": "TestP28RetransmissionIsAbsorbed"}},
		{"TestP34P35Cancel/nats", map[string]string{"P34": "TestP34P35Cancel", "P35": "TestP34P35Cancel"}},
		{"TestP2NonInvite/P4_x", map[string]string{"P2": "TestP2NonInvite", "P4": "TestP2NonInvite/P4_x"}},
		{"TestRegistrar/local/R1_new_binding", map[string]string{"R1": "TestRegistrar/local/R1_new_binding"}},
		{"TestX/P43:_503_becomes_500", map[string]string{"P43": "TestX/P43:_503_becomes_500"}},
		{"TestX/P28_P33", map[string]string{"P28": "TestX/P28_P33", "P33": "TestX/P28_P33"}},
		{"TestX/P28,_R3_both", map[string]string{"P28": "TestX/P28,_R3_both", "R3": "TestX/P28,_R3_both"}},
		{"TestP1/P1_again", map[string]string{"P1": "TestP1"}},
		{"TestX/A21_SIP", map[string]string{}},
		{"TestX/after_P28", map[string]string{}},
		{"TestX/P2P", map[string]string{}},
		{"TestX/P28x", map[string]string{}},
		{"TestRFC2543Matching", map[string]string{}},
		{"TestH264", map[string]string{}},
		{"FuzzP1", map[string]string{}},
	} {
		if diff := cmp.Diff(tt.want, shown(tt.name, "PR")); diff != "" {
			t.Errorf("shown(%s) (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestParseRequirements(t *testing.T) {
	for _, tt := range []struct{ name, in, err string }{
		{"good", "# P Proxy\nP1 One.\n  out: why\n\nP2 Two.\n  note: and\n# R Registrar\nR1 One.", ""},
		{"no group", "P1 One.", "line 1: "},
		{"gap", "# P Proxy\nP1 One.\nP3 Three.", "line 3: id P3, want P2"},
		{"twice", "# P Proxy\nP1 One.\nP1 One.", "line 3: id P1, want P2"},
		{"other letter", "# P Proxy\nR1 One.", "line 2: id R1, want P1"},
		{"group twice", "# P Proxy\nP1 One.\n# P Proxy", "line 3: group P is there already"},
		{"reason of nothing", "# P Proxy\n  out: why", "line 2: "},
		{"two reasons", "# P Proxy\nP1 One.\n  out: a\n  out: b", "line 4: P1 has two lines out"},
		{"text", "# P Proxy\nsomething", "line 2: "},
	} {
		got, err := parseRequirements(tt.in)
		switch {
		case tt.err == "" && (err != nil || len(got) != 2 || got[0].list[0].out != "why" || got[0].list[1].note != "and"):
			t.Errorf("parseRequirements(%s) = %+v, %v", tt.name, got, err)
		case tt.err != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.err)):
			t.Errorf("parseRequirements(%s) = %v, want %s", tt.name, err, tt.err)
		}
	}
	if _, err := parseRequirements(requirements); err != nil {
		t.Errorf("requirements.txt: %v", err)
	}
}

const list = "# P Proxy\nP1 One | two.\nP2 Two.\n  note: mind\nP3 Three.\n  out: not done\n"

// events are results as a file of goTest has them, each written `action package test`.
func events(t *testing.T, results ...string) string {
	t.Helper()
	var b strings.Builder
	for _, r := range results {
		f := strings.Fields(r)
		for _, action := range []string{"run", f[0]} {
			line, err := json.Marshal(event{Action: action, Package: "github.com/routr-fabric/routr/" + f[1], Test: f[2]})
			if err != nil {
				t.Fatal(err)
			}
			b.Write(append(line, '\n'))
		}
	}
	name := filepath.Join(t.TempDir(), "events.json")
	if err := os.WriteFile(name, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestE12Page(t *testing.T) {
	groups, err := parseRequirements(list)
	if err != nil {
		t.Fatal(err)
	}
	good := []string{"pass a TestP1", "pass a TestP1/nats", "pass b/c TestX/nats/P2_y", "pass b/c TestX/local/P2_y", "pass a TestOther"}
	for _, tt := range []struct {
		name    string
		results []string
		want    []string // lines of the page
		errors  []string
	}{
		{"good", good, []string{
			"2 of 3 are shown.",
			"| P1 | One \\| two. | `a.TestP1` |",
			"| P2 | Two. | `b/c.TestX/{local,nats}/P2_y`<br>mind |",
			"| P3 | Three. | **left out:** not done |",
		}, nil},
		{"not every combination", append(good, "pass b/c TestY/nats/m/P2_y", "pass b/c TestY/local/n/P2_y"), []string{
			"| P2 | Two. | `b/c.TestX/{local,nats}/P2_y`<br>`b/c.TestY/local/n/P2_y`<br>`b/c.TestY/nats/m/P2_y`<br>mind |",
		}, nil},
		{"many", append(good, "pass a TestZ/P1_e", "pass a TestZ/P1_d", "pass a TestZ/P1_c", "pass a TestZ/P1_b", "pass a TestZ/P1_a"), []string{
			"| P1 | One \\| two. | `a.TestP1`<br>`a.TestZ/P1_a`<br>`a.TestZ/P1_b`<br>`a.TestZ/P1_c`<br>and 2 more of `a.TestZ` |",
		}, nil},
		{"failed", append(good, "fail a TestP1Again"), nil, []string{"P1: a.TestP1Again failed"}},
		{"skipped", append(good, "skip a TestP1Again"), nil, []string{"P1: a.TestP1Again was skipped, and shows nothing"}},
		{"did not end", append(good, "run a TestP1Again"), nil, []string{"P1: a.TestP1Again did not end"}},
		{"neither", good[:2], nil, []string{"P2: no test bears it, and requirements.txt has no reason for that; want one of both"}},
		{"both", append(good, "pass a TestP3"), nil, []string{"P3: is left out in requirements.txt, and yet a.TestP3 passes; take the reason away"}},
		{"unknown id", append(good, "pass a TestX/P4_four"), nil, []string{"a.TestX/P4_four: P4 is not in requirements.txt"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all, err := readResults([]string{events(t, tt.results...)})
			if err != nil {
				t.Fatal(err)
			}
			page, problems := makePage(groups, all)
			for _, line := range tt.want {
				if !strings.Contains(string(page), "\n"+line+"\n") {
					t.Errorf("page has no line\n%s\nbut is\n%s", line, page)
				}
			}
			var got []string
			for _, p := range problems {
				got = append(got, p.Error())
			}
			if diff := cmp.Diff(tt.errors, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

// What is committed has to be what a run makes, and a difference is shown line by line.
func TestCheck(t *testing.T) {
	page := filepath.Join(t.TempDir(), "CONFORMANCE.md")
	if err := compare(page, nil); err == nil {
		t.Error("compare without a page = nil, want an error")
	}
	if err := os.WriteFile(page, []byte("a\nb\nc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := compare(page, []byte("a\nb\nc\n")); err != nil {
		t.Errorf("compare with the same = %v, want nil", err)
	}
	err := compare(page, []byte("a\nB\nc\n"))
	if err == nil || !strings.HasSuffix(err.Error(), "\n-b\n+B") {
		t.Errorf("compare with another = %v, want the lines -b and +B", err)
	}
}

// A run of go test looks as it would without -json, and leaves its events behind.
func TestGoTest(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":    "module example.test/m\n\ngo 1.26\n",
		"a/a.go":    "package a\n",
		"b/b.go":    "package b\n",
		"c/c.go":    "package c\n",
		"broken.go": "package m\n\nvar x int = \"\"\n",
		"c/c_test.go": "package c\n\nimport \"testing\"\n\nfunc TestOK(t *testing.T) { t.Log(\"fine\") }\n\n" +
			"func TestP1(t *testing.T) {\n\tt.Log(\"above\")\n\tt.Run(\"good\", func(t *testing.T) { t.Log(\"fine\") })\n" +
			"\tt.Run(\"bad\", func(t *testing.T) { t.Error(\"one\\ntwo\") })\n}\n\nfunc TestPanic(t *testing.T) { panic(\"ouch\") }\n",
		"b/b_test.go": "package b\n\nimport \"testing\"\n\nfunc TestOK(t *testing.T) { t.Log(\"fine\") }\n",
	} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	t.Setenv("GOFLAGS", "")
	t.Setenv("GOWORK", "off")
	file := filepath.Join(dir, "bin", "events.json")
	var out bytes.Buffer
	if err := run([]string{"test", file, "./a", "./b", "./c", "."}, "", &out); err == nil {
		t.Error("test = nil, want the error of go test")
	}
	got := regexp.MustCompile(`\d+\.\d+s`).ReplaceAllString(out.String(), "TIME")
	for _, want := range []string{
		"ok  \texample.test/m/b\tTIME\n",
		"--- FAIL: TestP1 (TIME)\n    c_test.go:8: above\n    --- FAIL: TestP1/bad (TIME)\n        c_test.go:10: one\n            two\n",
		"--- FAIL: TestPanic (TIME)\n",
		"panic: ouch",
		"FAIL\texample.test/m/c\tTIME\n",
		"broken.go:3:13: ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("output\n%s\nhas not\n%s", got, want)
		}
	}
	if strings.Contains(got, "fine") || strings.Contains(got, "=== RUN") {
		t.Errorf("output\n%s\nsays what tests said that passed", got)
	}
	all, err := readResults([]string{file})
	if err != nil {
		t.Fatal(err)
	}
	actions := make(map[string]string)
	for _, r := range all {
		actions[r.path()] = r.action
	}
	want := map[string]string{
		"example.test/m/b.TestOK": "pass", "example.test/m/c.TestOK": "pass", "example.test/m/c.TestP1": "fail",
		"example.test/m/c.TestP1/good": "pass", "example.test/m/c.TestP1/bad": "fail", "example.test/m/c.TestPanic": "fail",
	}
	if diff := cmp.Diff(want, actions); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"check"}, {"show", "x"}} {
		if err := run(args, "", &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "want test FILE") {
			t.Errorf("run(%q) = %v, want the usage", args, err)
		}
	}
	if err := run([]string{"check", "no/such.json"}, "", &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "go tool task unit") {
		t.Errorf("check without results = %v, want what to do", err)
	}
}
