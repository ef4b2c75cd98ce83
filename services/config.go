package services

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/routr-fabric/routr/schemas"
	"github.com/routr-fabric/routr/services/dispatcher"
	"github.com/routr-fabric/routr/services/edgeport"
	"github.com/routr-fabric/routr/services/location"
	"github.com/routr-fabric/routr/services/processor/connect"
)

// Bus is the configuration of a process's way to NATS, as its file has it.
type Bus struct {
	// Version of the layout of this file.
	APIVersion string `json:"apiVersion" jsonschema:"required,enum=v2beta1,enum=v2"`
	// Kind of the file.
	Kind string `json:"kind" jsonschema:"required,enum=Bus"`
	// Name of this configuration, for people.
	Ref string `json:"ref,omitempty"`
	// How the process reaches the bus.
	Spec BusSpec `json:"spec,omitzero"`
}

// BusSpec is how a process reaches the bus.
type BusSpec struct {
	// NATS servers to connect to, as nats://host:port or tls://host:port, several separated by commas. Without one, `routr
	// one` runs a server of its own.
	URL string `json:"url,omitempty" jsonschema:"example=nats://127.0.0.1:4222"`
	// Address and port of the server that `routr one` runs itself.
	Listen string `json:"listen,omitempty" jsonschema:"default=127.0.0.1:4222"`
	// Folder where that server keeps its data.
	StoreDir string `json:"storeDir,omitempty" jsonschema:"default=data"`
	// Whether services of one process call each other directly, with copies for taps, and not through NATS.
	Local bool `json:"local,omitempty" jsonschema:"default=true"`
}

// DefaultBus is the configuration of a process that runs its own NATS server, for this host alone.
func DefaultBus() Bus {
	return Bus{
		APIVersion: "v2beta1",
		Kind:       "Bus",
		Ref:        "bus",
		Spec:       BusSpec{Listen: "127.0.0.1:4222", StoreDir: "data", Local: true},
	}
}

// Validate reports everything that is wrong with b, each error beginning with the path of the field.
func (b Bus) Validate() error {
	var errs []error
	for i, u := range splitList(b.Spec.URL) {
		p, err := url.Parse(u)
		if err != nil || p.Hostname() == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, p.Scheme) {
			// By its place, as it may hold a password.
			errs = append(errs, fmt.Errorf("spec.url: server %d is no NATS server, want one such as nats://127.0.0.1:4222", i+1))
		}
	}
	if _, _, err := net.SplitHostPort(b.Spec.Listen); err != nil {
		errs = append(errs, fmt.Errorf("spec.listen: %q is no address and port, want one such as 127.0.0.1:4222", b.Spec.Listen))
	}
	if b.Spec.StoreDir == "" {
		errs = append(errs, errors.New("spec.storeDir: is empty, want a folder such as data"))
	}
	return errors.Join(errs...)
}

// Kinds are the kinds of the documents: of the configuration files, then of the resources.
func Kinds() []string {
	return []string{
		"EdgePort", "MessageDispatcher", "Location", "Processor", "Bus",
		"Domain", "Agent", "Credentials",
	}
}

// NewDocument is a pointer to a new value, holding the defaults, for a document of the given kind, as schemas.ReadAll
// and schemas.Check want it; nil for a kind that does not exist.
func NewDocument(kind string) any {
	if v := newConfig(kind); v != nil {
		return v
	}
	return newResource(kind)
}

func newConfig(kind string) any {
	switch kind {
	case "EdgePort":
		return ptr(edgeport.Default())
	case "MessageDispatcher":
		return ptr(dispatcher.Default())
	case "Location":
		return ptr(location.Default())
	case "Processor":
		return ptr(connect.Default())
	case "Bus":
		return ptr(DefaultBus())
	default:
		return nil
	}
}

func newResource(kind string) any {
	switch kind {
	case "Domain":
		return new(connect.Domain)
	case "Agent":
		return new(connect.Agent)
	case "Credentials":
		return new(connect.Credentials)
	default:
		return nil
	}
}

func ptr[T any](v T) *T { return &v }

// Configs are the configurations of the services of one process; nil where no file has one.
type Configs struct {
	EdgePort   *edgeport.Config
	Dispatcher *dispatcher.Config
	Location   *location.Config
	Connect    *connect.Config
	Bus        *Bus
}

// ReadConfigs reads the configuration files in the folder dir: those named *.yaml, *.yml and *.json, subfolders not
// included. A kind may be there once. The error is that of every file.
func ReadConfigs(dir string) (Configs, error) {
	documents, err := readFolder(dir, newConfig)
	if err != nil {
		return Configs{}, err
	}
	var c Configs
	first := map[string]string{} // file by kind
	var errs []error
	for _, d := range documents {
		if file, twice := first[d.Kind]; twice {
			errs = append(errs, d.Locate(fmt.Errorf("kind: %s stands in %s already, want one", d.Kind, file)))
			continue
		}
		first[d.Kind] = d.File
		switch v := d.Value.(type) {
		case *edgeport.Config:
			c.EdgePort = v
		case *dispatcher.Config:
			c.Dispatcher = v
		case *location.Config:
			c.Location = v
		case *connect.Config:
			c.Connect = v
		case *Bus:
			c.Bus = v
		}
	}
	return c, errors.Join(errs...)
}

// ReadResources reads the resource files in the folder dir, named as those of ReadConfigs, and checks that they fit
// together. The error is that of every file.
func ReadResources(dir string) (connect.Resources, error) {
	documents, err := readFolder(dir, newResource)
	if err != nil {
		return connect.Resources{}, err
	}
	if len(documents) == 0 {
		return connect.Resources{}, fmt.Errorf("read resources: no *.yaml, *.yml or *.json file in %s, want at least a Domain", dir)
	}
	var r connect.Resources
	byName := make(map[string]schemas.Document, len(documents)) // "Agent agent-01"; of two the last, which is in the way
	for _, d := range documents {
		switch v := d.Value.(type) {
		case *connect.Domain:
			r.Domains = append(r.Domains, *v)
			byName[d.Kind+" "+v.Ref] = d
		case *connect.Agent:
			r.Agents = append(r.Agents, *v)
			byName[d.Kind+" "+v.Ref] = d
		case *connect.Credentials:
			r.Credentials = append(r.Credentials, *v)
			byName[d.Kind+" "+v.Ref] = d
		}
	}
	if err := locate(byName, r.Validate()); err != nil {
		return connect.Resources{}, err
	}
	return r, nil
}

// locate puts the file and the line before the errors in err, each of which begins with the kind and the ref of a
// resource, as those of connect.Resources.Validate do.
func locate(byName map[string]schemas.Document, err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var errs []error
		for _, e := range joined.Unwrap() {
			errs = append(errs, locate(byName, e))
		}
		return errors.Join(errs...)
	}
	if err == nil {
		return nil
	}
	name, text, _ := strings.Cut(err.Error(), ": ")
	if d, found := byName[name]; found {
		return d.Locate(errors.New(text))
	}
	return err
}

// ResourcesDir is the folder of the resources: dir if it is given, else the folder resources in configDir if there is
// one, else "".
func ResourcesDir(dir, configDir string) string {
	if dir != "" || configDir == "" {
		return dir
	}
	inside := filepath.Join(configDir, "resources")
	if info, err := os.Stat(inside); err == nil && info.IsDir() {
		return inside
	}
	return ""
}

// readFolder reads every document in the files of dir, by name. The error is that of every file.
func readFolder(dir string, newValue func(kind string) any) ([]schemas.Document, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	var documents []schemas.Document
	var errs []error
	for _, e := range entries {
		if !isConfigFile(e) {
			continue
		}
		found, err := schemas.ReadAll(filepath.Join(dir, e.Name()), newValue)
		documents, errs = append(documents, found...), append(errs, err)
	}
	return documents, errors.Join(errs...)
}

func isConfigFile(e fs.DirEntry) bool {
	switch strings.ToLower(filepath.Ext(e.Name())) {
	case ".yaml", ".yml", ".json":
		return !e.IsDir() && !strings.HasPrefix(e.Name(), ".")
	default:
		return false
	}
}

// ApplyEnv sets what the environment variables of Routr v2 say in cfg, and validates it: EXTERNAL_ADDRS and LOCALNETS,
// lists separated by commas, and PROCESSOR_ADDR. An empty variable says nothing. getenv is os.Getenv.
func ApplyEnv(cfg *edgeport.Config, getenv func(string) string) error {
	if v := getenv("EXTERNAL_ADDRS"); v != "" {
		cfg.Spec.ExternalAddrs = splitList(v)
	}
	if v := getenv("LOCALNETS"); v != "" {
		cfg.Spec.Localnets = splitList(v)
	}
	if v := getenv("PROCESSOR_ADDR"); v != "" {
		cfg.Spec.Processor.Addr = v
	}
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("with EXTERNAL_ADDRS, LOCALNETS and PROCESSOR_ADDR from the environment: %w", err)
	}
	return nil
}

func splitList(s string) []string {
	var list []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}
