// Package services puts the services together: which kinds there are, how each is made from its file, and how several
// of them run in one process. It is the only package that reads files.
package services

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/embed"
	"github.com/routr-fabric/routr/schemas"
	"github.com/routr-fabric/routr/services/dispatcher"
	"github.com/routr-fabric/routr/services/edgeport"
	"github.com/routr-fabric/routr/services/internal/telemetry"
	"github.com/routr-fabric/routr/services/location"
	"github.com/routr-fabric/routr/services/processor/connect"
)

// The whole system: a SIP message takes this way, and back.
//
//	edgeport → dispatcher → processor (connect) → location
//
// Every arrow is a request on the bus. Any of them may run in a process of its own, in any number.

// Options are the flags of a command that serves.
type Options struct {
	NATS      string // URL of the bus
	Config    string // configuration file, or for `one` the folder of them; empty: the defaults
	Resources string // folder of domains, agents and credentials
	Data      string // folder of the state
	HTTPAddr  string // of health and metrics; empty: none

	LogFormat, LogLevel, OTLPEndpoint string

	Stdout, Stderr io.Writer
	Abort          <-chan struct{} // closed: stop at once
}

const (
	connectTime = 15 * time.Second // for the bus to answer when a service starts
	stopTime    = 10 * time.Second // for each service to finish what it has, beside the time that an EdgePort drains
)

// RunService runs one service until ctx ends. kind is edgeport, dispatcher, processor or location. The error says, in
// one line, what could not be done.
func RunService(ctx context.Context, kind string, o Options) error {
	var c Configs
	var resources connect.Resources
	if err := readOne(kind, o, &c, &resources); err != nil {
		return err
	}
	tel, err := o.telemetry(ctx, kind, c.ref(kind))
	if err != nil {
		return err
	}
	defer o.shutdown(tel)
	host := c.newHost(kind == "edgeport", tel, o)
	conn, err := connectBus(ctx, bus.Config{URL: o.NATS, Name: kind + "-" + c.ref(kind), Local: true}, tel)
	if err != nil {
		return err
	}
	defer conn.Close()
	runner, err := newRunner(kind, c, resources, conn, tel)
	if err != nil {
		return err
	}
	host.Add(kind, runner)
	return host.Run(ctx, func() { tel.Log.Info("ready", "bus", o.NATS) })
}

// newHost makes the Host of the services, and readiness depend on it, before anything that can take long.
func (c *Configs) newHost(edge bool, tel *telemetry.Telemetry, o Options) *Host {
	limit := stopTime
	if edge {
		limit += time.Duration(c.EdgePort.Spec.DrainTime) * time.Second
	}
	host := NewHost(tel.Log, limit, o.Abort)
	tel.Check("services", host.Ready)
	return host
}

// newRunner makes a service: the kinds there are.
func newRunner(kind string, c Configs, resources connect.Resources, conn *bus.Conn, tel *telemetry.Telemetry) (Runner, error) {
	switch kind {
	case "edgeport":
		e, err := edgeport.New(*c.EdgePort, conn, tel.Log, tel.Meter)
		if err == nil {
			tel.Check("edgeport", e.Ready)
			tel.Check("listeners", e.Check)
			tel.CheckAlive("edgeport", e.Alive)
		}
		return e, err
	case "dispatcher":
		return dispatcher.New(*c.Dispatcher, conn, tel.Log, tel.Meter)
	case "processor":
		return connect.New(*c.Connect, resources, conn, tel.Log, tel.Meter)
	case "location":
		return location.New(*c.Location, conn, tel.Log, tel.Meter)
	default:
		return nil, fmt.Errorf("there is no service %q", kind)
	}
}

// readOne reads the configuration of one service, and the resources if it wants them.
func readOne(kind string, o Options, c *Configs, resources *connect.Resources) (err error) {
	c.defaults()
	// A location service of its own is there for others: by default it keeps the bindings where its copies see them.
	c.Location.Spec.Cache.Provider = location.ProviderNATS
	into := map[string]any{"edgeport": c.EdgePort, "dispatcher": c.Dispatcher, "processor": c.Connect, "location": c.Location}[kind]
	if o.Config != "" {
		if err := schemas.Read(o.Config, into); err != nil {
			return err
		}
	}
	switch kind {
	case "edgeport":
		return ApplyEnv(c.EdgePort, os.Getenv)
	case "processor":
		if o.Resources == "" {
			return errors.New("--resources is missing: the folder of the domains, agents and credentials")
		}
		*resources, err = ReadResources(o.Resources)
	}
	return err
}

// defaults fills in what no file has.
func (c *Configs) defaults() {
	if c.EdgePort == nil {
		c.EdgePort = ptr(edgeport.Default())
	}
	if c.Dispatcher == nil {
		c.Dispatcher = ptr(dispatcher.Default())
	}
	if c.Location == nil {
		c.Location = ptr(location.Default())
		c.Location.Spec.Cache.Provider = location.ProviderNATS
	}
	if c.Connect == nil {
		c.Connect = ptr(connect.Default())
	}
	if c.Bus == nil {
		c.Bus = ptr(DefaultBus())
	}
}

func (c *Configs) ref(kind string) string {
	switch kind {
	case "edgeport":
		return c.EdgePort.Ref
	case "dispatcher":
		return c.Dispatcher.Ref
	case "processor":
		return c.Connect.Ref
	default:
		return c.Location.Ref
	}
}

// RunNATS runs a NATS server with JetStream until ctx ends.
func RunNATS(ctx context.Context, listen string, o Options) error {
	tel, err := o.telemetry(ctx, "nats", listen)
	if err != nil {
		return err
	}
	defer o.shutdown(tel)
	server, err := embed.Start(embed.Config{Listen: listen, StoreDir: o.Data, Name: "routr", Log: tel.Log})
	if err != nil {
		return err
	}
	defer server.Shutdown()
	tel.Check("nats", func() error { return nil }) // it answers, and does not go away before the process
	tel.Log.Info("ready", "kind", "nats", "url", server.URL())
	select {
	case <-ctx.Done():
	case <-o.Abort:
	}
	return nil
}

// Check validates a file of any kind.
func Check(path string) error { return schemas.Check(path, NewDocument) }

func (o Options) telemetry(ctx context.Context, service, ref string) (*telemetry.Telemetry, error) {
	tel, err := telemetry.New(ctx, telemetry.Config{
		Service: service, Ref: ref, LogFormat: o.LogFormat, LogLevel: o.LogLevel, HTTPAddr: o.HTTPAddr, OTLPEndpoint: o.OTLPEndpoint,
	}, o.Stderr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w with --http", err)
	}
	return tel, err
}

// shutdown ends the telemetry last, so that it tells of everything before it.
func (o Options) shutdown(tel *telemetry.Telemetry) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := tel.Shutdown(ctx); err != nil {
		tel.Log.Warn("telemetry did not end cleanly", "err", err)
	}
}

// connectBus connects to the bus and makes readiness depend on it.
func connectBus(ctx context.Context, cfg bus.Config, tel *telemetry.Telemetry) (*bus.Conn, error) {
	cfg.Log, cfg.Tracer = tel.Log, tel.Tracer
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	conn, err := bus.Connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	tel.Check("bus", conn.Connected)
	return conn, nil
}
