package services

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/routr-fabric/routr/schemas"
	"github.com/routr-fabric/routr/services/edgeport"
)

const samples = "../deploy/config"

func TestEverySampleLoads(t *testing.T) {
	// The one that must not: its passwords are known to everybody.
	refused := filepath.Join(samples, "resources", "credentials.yaml")
	n := 0
	err := filepath.WalkDir(samples, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		n++
		documents, err := schemas.ReadAll(path, NewDocument)
		if path == refused {
			want := refused + ":10: spec.credentials.password: CHANGE-ME is the placeholder of the samples, want a password of your own\n" +
				refused + ":20: spec.credentials.password: CHANGE-ME is the placeholder of the samples, want a password of your own"
			if diff := cmp.Diff(want, errorText(err)); diff != "" {
				t.Errorf("ReadAll(%s) differs (-want +got):\n%s", path, diff)
			}
			return nil
		}
		if err != nil || len(documents) == 0 {
			t.Errorf("ReadAll(%s) = %d documents, %v, want at least 1", path, len(documents), err)
		}
		return nil
	})
	if err != nil || n < 15 {
		t.Errorf("%s has %d files, %v, want at least 15", samples, n, err)
	}
}

func TestSampleFolders(t *testing.T) {
	for _, dir := range []string{samples, filepath.Join(samples, "spec"), filepath.Join(samples, "yardstick")} {
		c, err := ReadConfigs(dir)
		if err != nil {
			t.Errorf("ReadConfigs(%s): %v", dir, err)
			continue
		}
		if c.EdgePort == nil || c.Location == nil || c.Connect == nil {
			t.Errorf("ReadConfigs(%s) = %+v, want at least an EdgePort, a Location and a Processor", dir, c)
		}
	}

	dir := filepath.Join(samples, "yardstick")
	c, err := ReadConfigs(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.EdgePort.Spec.ListenAddr(c.EdgePort.Spec.Transport[0]), "127.77.0.1:36060"; got != want {
		t.Errorf("yardstick listens on %s, want %s", got, want)
	}
	r, err := ReadResources(ResourcesDir("", dir))
	if err != nil || len(r.Domains) != 1 || r.Domains[0].Spec.Context.DomainURI != "example.com" {
		t.Errorf("ReadResources(yardstick) = %+v, %v, want the domain example.com", r, err)
	}
}

func TestSampleResourcesWithPasswords(t *testing.T) {
	dir := t.TempDir()
	from := os.DirFS(filepath.Join(samples, "resources"))
	names, err := fs.Glob(from, "*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(from, name)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), strings.ReplaceAll(string(text), "CHANGE-ME", "b7Zq0xkT"))
	}
	r, err := ReadResources(dir)
	if err != nil {
		t.Fatalf("ReadResources: %v", err)
	}
	if len(r.Domains) != 1 || len(r.Agents) != 2 || len(r.Credentials) != 2 {
		t.Errorf("ReadResources = %d domains, %d agents, %d credentials, want 1, 2, 2", len(r.Domains), len(r.Agents), len(r.Credentials))
	}
}

const (
	locationFile = "apiVersion: v2\nkind: Location\n"
	busFile      = "apiVersion: v2\nkind: Bus\nspec:\n  listen: 127.0.0.1:0\n"
	domainFile   = "apiVersion: v2\nkind: Domain\nref: d\nspec:\n  context:\n    domainUri: sip.test\n"
)

func TestReadConfigs(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  string // kinds that are set, or the error
	}{
		{"nothing", nil, ""},
		{"every ending", map[string]string{"a.yaml": locationFile, "b.yml": busFile}, "Location Bus"},
		{"JSON", map[string]string{"b.JSON": `{"apiVersion": "v2", "kind": "Bus"}`}, "Bus"},
		{"two kinds in a file", map[string]string{"a.yaml": locationFile + "---\n" + busFile}, "Location Bus"},
		{"what is no configuration", map[string]string{"a.yaml": busFile, "notes.txt": "kind: x", "b.yaml~": "x", ".c.yaml": "x", "resources/d.yaml": domainFile}, "Bus"},
		{"a kind twice", map[string]string{"a.yaml": busFile, "b.yaml": busFile},
			"b.yaml:2: kind: Bus stands in a.yaml already, want one"},
		{"a resource", map[string]string{"a.yaml": domainFile},
			`a.yaml:2: kind: "Domain" does not belong here, want one of "Bus", "EdgePort", "Location", "MessageDispatcher", "Processor"`},
		{"two files that are wrong", map[string]string{"a.yaml": "kind: Bus\n", "b.yaml": "kind: Location\n"},
			"a.yaml:1: apiVersion: is missing, want \"v2beta1\" or \"v2\"\nb.yaml:1: apiVersion: is missing, want \"v2beta1\" or \"v2\""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			for name, text := range tt.files {
				write(t, name, text)
			}
			c, err := ReadConfigs(".")
			got := errorText(err)
			if err == nil {
				got = kinds(c)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("ReadConfigs differs (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := ReadConfigs(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadConfigs(none) = %v, want %v", err, fs.ErrNotExist)
	}
}

// kinds names what is set in c.
func kinds(c Configs) string {
	var set []string
	for _, k := range []struct {
		name string
		set  bool
	}{
		{"EdgePort", c.EdgePort != nil},
		{"MessageDispatcher", c.Dispatcher != nil},
		{"Location", c.Location != nil},
		{"Processor", c.Connect != nil},
		{"Bus", c.Bus != nil},
	} {
		if k.set {
			set = append(set, k.name)
		}
	}
	return strings.Join(set, " ")
}

func TestReadResources(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "notes.txt", "")
	if _, err := ReadResources("."); errorText(err) != "read resources: no *.yaml, *.yml or *.json file in ., want at least a Domain" {
		t.Errorf("ReadResources of a folder without files: %v", err)
	}
	write(t, "a.yaml", "apiVersion: v2\nkind: Agent\nref: a\nspec:\n  username: alice\n  domainRef: nowhere\n")
	write(t, "d.yaml", domainFile)
	write(t, "e.yaml", domainFile)
	want := "e.yaml:3: ref: Domain d has it already, want one of its own for each resource\n" +
		"e.yaml:6: spec.context.domainUri: sip.test is Domain d already\n" +
		"a.yaml:6: spec.domainRef: there is no Domain nowhere"
	if _, err := ReadResources("."); errorText(err) != want {
		t.Errorf("ReadResources with a domain twice and an agent of none = %v, want\n%s", err, want)
	}
	write(t, "e.yaml", "")
	write(t, "a.yaml", busFile)
	want = `a.yaml:2: kind: "Bus" does not belong here, want one of "Agent", "Credentials", "Domain"` + "\n" +
		`e.yaml:1: the file is empty, want one of "Agent", "Credentials", "Domain"`
	if _, err := ReadResources("."); errorText(err) != want {
		t.Errorf("ReadResources with a Bus = %v, want %s", err, want)
	}
}

func TestResourcesDir(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "with/resources/d.yaml", domainFile)
	write(t, "without/resources", "a file")
	tests := []struct{ dir, config, want string }{
		{"given", "with", "given"},
		{"", "with", "with/resources"},
		{"", "without", ""},
		{"", "", ""},
	}
	for _, tt := range tests {
		if got := ResourcesDir(tt.dir, tt.config); got != tt.want {
			t.Errorf("ResourcesDir(%q, %q) = %q, want %q", tt.dir, tt.config, got, tt.want)
		}
	}
}

func TestApplyEnv(t *testing.T) {
	env := map[string]string{"EXTERNAL_ADDRS": "203.0.113.7, sip.example.com", "LOCALNETS": "10.0.0.1/8", "PROCESSOR_ADDR": "nats://bus:4222"}
	got := edgeport.Default()
	if err := ApplyEnv(&got, func(k string) string { return env[k] }); err != nil {
		t.Fatal(err)
	}
	want := edgeport.Default()
	want.Spec.ExternalAddrs = []string{"203.0.113.7", "sip.example.com"}
	want.Spec.Localnets = []string{"10.0.0.1/8"}
	want.Spec.Processor.Addr = "nats://bus:4222"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ApplyEnv differs (-want +got):\n%s", diff)
	}

	if err := ApplyEnv(&got, func(string) string { return "" }); err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("ApplyEnv of nothing = %v, %s, want no change", err, cmp.Diff(want, got))
	}

	env["LOCALNETS"] = "10.0.0.1/8,office"
	err := ApplyEnv(&got, func(k string) string { return env[k] })
	text := `with EXTERNAL_ADDRS, LOCALNETS and PROCESSOR_ADDR from the environment: ` +
		`spec.localnets[1]: "office" is no network, want one such as 192.168.1.2/24`
	if errorText(err) != text {
		t.Errorf("ApplyEnv(LOCALNETS=%s) = %v, want %s", env["LOCALNETS"], err, text)
	}
}

func TestBusValidate(t *testing.T) {
	tests := []struct {
		name string
		in   BusSpec
		want string
	}{
		{"default", DefaultBus().Spec, ""},
		{"servers", BusSpec{URL: "nats://a:4222, tls://b:4222", Listen: "[::1]:0", StoreDir: "d"}, ""},
		{"password", BusSpec{URL: "nats://a:4222,http://me:secret@b", Listen: ":4222", StoreDir: "d"},
			"spec.url: server 2 is no NATS server, want one such as nats://127.0.0.1:4222"},
		{"nothing", BusSpec{},
			"spec.listen: \"\" is no address and port, want one such as 127.0.0.1:4222\nspec.storeDir: is empty, want a folder such as data"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := Bus{Spec: tt.in}
			if diff := cmp.Diff(tt.want, errorText(b.Validate())); diff != "" {
				t.Errorf("Validate() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNewDocument(t *testing.T) {
	for _, kind := range Kinds() {
		if NewDocument(kind) == nil {
			t.Errorf("NewDocument(%s) = nil, want a value", kind)
		}
	}
	if v := NewDocument("Trunk"); v != nil {
		t.Errorf("NewDocument(Trunk) = %v, want nil", v)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
