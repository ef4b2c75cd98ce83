// Command routr is the whole system: every service of it, all of them at once, and the tools to look at it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/routr-fabric/routr/schemas"
	"github.com/routr-fabric/routr/services"
)

// command is a subcommand.
type command struct {
	name, args, about string
	run               func(c *call) error
}

// call is one run of a subcommand.
type call struct {
	ctx    context.Context
	abort  <-chan struct{} // closed by the second signal
	flags  *flag.FlagSet
	args   []string // as given
	stdout io.Writer
	stderr io.Writer
}

func commands() []command {
	return []command{
		{"one", "", "everything in this process, with an embedded NATS server; needs no file and no flag", one},
		{"edgeport", "", "an EdgePort: takes SIP and sends it on", service("edgeport")},
		{"dispatcher", "", "a Message Dispatcher: finds the processor of a message", service("dispatcher")},
		{"processor", "", "a Message Processor: connect", service("processor")},
		{"location", "", "a Location Service: where everyone is", service("location")},
		{"nats", "", "a NATS server with JetStream, for the services above", natsServer},
		{"tap", "[SUBJECT]", "print what crosses the bus, decoded", tap},
		{"drain", "REF", "let an EdgePort take no new requests, and wait until none is under way", drain},
		{"check", "FILE...", "validate configuration and resource files", check},
		{"schema", "KIND", "print the JSON Schema of a kind of file", schema},
		{"health", "[URL]", "ask a service whether it is ready; exit code 0 if it is", health},
		{"version", "", "print the version", version},
	}
}

func main() {
	if os.Getenv("GOGC") == "" {
		paceCollector()
	}
	ctx, abort, release := services.Signals(context.Background())
	defer release()
	os.Exit(run(&call{ctx: ctx, abort: abort, args: os.Args[1:], stdout: os.Stdout, stderr: os.Stderr}))
}

// run runs the subcommand that the first argument names and returns the exit code: 0, 1 for a failure, which is one
// line on stderr, 2 for a command line that makes no sense.
func run(c *call) int {
	if len(c.args) == 0 || strings.TrimLeft(c.args[0], "-") == "help" || c.args[0] == "-h" {
		usage(c.stderr)
		return 2
	}
	for _, cmd := range commands() {
		if cmd.name != c.args[0] {
			continue
		}
		c.flags = flag.NewFlagSet("routr "+cmd.name, flag.ContinueOnError)
		c.flags.SetOutput(c.stderr)
		c.flags.Usage = func() {
			fmt.Fprintf(c.stderr, "usage: routr %s [flags] %s\n\n%s\n\n", cmd.name, cmd.args, cmd.about)
			c.flags.PrintDefaults()
		}
		c.args = c.args[1:]
		err := cmd.run(c)
		switch {
		case errors.Is(err, flag.ErrHelp):
			return 0
		case errors.Is(err, errUsage):
			return 2
		case err != nil:
			fmt.Fprintf(c.stderr, "routr %s: %v\n", cmd.name, err)
			return 1
		}
		return 0
	}
	fmt.Fprintf(c.stderr, "routr: there is no command %q; routr help lists them\n", c.args[0])
	return 2
}

// errUsage is a command line that was already complained about.
var errUsage = errors.New("usage")

// parse parses the flags and checks the number of the arguments that follow them.
func (c *call) parse(least, most int) error {
	if err := c.flags.Parse(c.args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage
	}
	if n := c.flags.NArg(); n < least || n > most {
		c.flags.Usage()
		return errUsage
	}
	return nil
}

func usage(w io.Writer) {
	fmt.Fprint(w, "routr: a SIP server as a fabric of services on NATS\n\nusage: routr COMMAND [flags] [arguments]\n\n")
	for _, cmd := range commands() {
		fmt.Fprintf(w, "  %-10s  %s\n", cmd.name, cmd.about)
	}
	fmt.Fprint(w, "\nroutr COMMAND -h lists the flags of a command. To start: routr one\n")
}

// common are the flags of everything that serves.
func (c *call) common() *services.Options {
	o := &services.Options{Stdout: c.stdout, Stderr: c.stderr, Abort: c.abort}
	c.flags.StringVar(&o.LogFormat, "log-format", env("LOG_FORMAT", "text"), "text or json")
	c.flags.StringVar(&o.LogLevel, "log-level", env("LOGS_LEVEL", "info"), "debug, info, warn or error")
	c.flags.StringVar(&o.OTLPEndpoint, "otlp", os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"), "`URL` of an OTLP/HTTP collector for traces; none: no traces")
	return o
}

func one(c *call) error {
	o := c.common()
	c.flags.StringVar(&o.Config, "config", os.Getenv("CONFIG_PATH"), "`folder` of the services' configuration files")
	c.flags.StringVar(&o.Resources, "resources", os.Getenv("PATH_TO_RESOURCES"), "`folder` of the domains, agents and credentials")
	c.flags.StringVar(&o.Data, "data", "data", "`folder` of the state")
	c.flags.StringVar(&o.HTTPAddr, "http", env("HTTP_ADDR", "127.0.0.1:8080"), "`address` of /healthz, /readyz and /metrics; none: no HTTP server")
	c.flags.Lookup("log-level").DefValue = "warn"
	o.LogLevel = env("LOGS_LEVEL", "warn") // its screen is for a person
	if err := c.parse(0, 0); err != nil {
		return err
	}
	return services.RunOne(c.ctx, *o)
}

func service(kind string) func(c *call) error {
	return func(c *call) error {
		o := c.common()
		c.flags.StringVar(&o.NATS, "nats", env("NATS_URL", "nats://127.0.0.1:4222"), "`URL` of the bus")
		c.flags.StringVar(&o.Config, "config", os.Getenv("CONFIG_PATH"), "configuration `file`")
		c.flags.StringVar(&o.HTTPAddr, "http", os.Getenv("HTTP_ADDR"), "`address` of /healthz, /readyz and /metrics; none: no HTTP server")
		if kind == "processor" {
			c.flags.StringVar(&o.Resources, "resources", os.Getenv("PATH_TO_RESOURCES"), "`folder` of the domains, agents and credentials")
		}
		if err := c.parse(0, 0); err != nil {
			return err
		}
		return services.RunService(c.ctx, kind, *o)
	}
}

func natsServer(c *call) error {
	o := c.common()
	listen := c.flags.String("listen", "127.0.0.1:4222", "`address` to listen on")
	c.flags.StringVar(&o.Data, "data", "data", "`folder` of JetStream's state")
	c.flags.StringVar(&o.HTTPAddr, "http", os.Getenv("HTTP_ADDR"), "`address` of /healthz, /readyz and /metrics; none: no HTTP server")
	if err := c.parse(0, 0); err != nil {
		return err
	}
	return services.RunNATS(c.ctx, *listen, *o)
}

func check(c *call) error {
	if err := c.parse(1, 1<<20); err != nil {
		return err
	}
	var errs []error
	for _, path := range c.flags.Args() {
		if err := services.Check(path); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintf(c.stdout, "%s: ok\n", path)
	}
	if len(errs) > 0 {
		fmt.Fprintln(c.stderr, errors.Join(errs...))
		return fmt.Errorf("%d of %d files are wrong", len(errs), c.flags.NArg())
	}
	return nil
}

func schema(c *call) error {
	if err := c.parse(1, 1); err != nil {
		return err
	}
	text, err := schemas.Schema(c.flags.Arg(0))
	if err != nil {
		return err
	}
	_, err = c.stdout.Write(text)
	return err
}

func health(c *call) error {
	if err := c.parse(0, 1); err != nil {
		return err
	}
	url := "http://127.0.0.1:8080/readyz"
	if c.flags.NArg() == 1 {
		url = c.flags.Arg(0)
	}
	ctx, cancel := context.WithTimeout(c.ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s: %s", url, resp.Status, strings.TrimSpace(string(text)))
	}
	return nil
}

func version(c *call) error {
	if err := c.parse(0, 0); err != nil {
		return err
	}
	v := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		v = info.Main.Version
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v += " " + s.Value
			}
		}
	}
	fmt.Fprintln(c.stdout, "routr", v)
	return nil
}

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}
