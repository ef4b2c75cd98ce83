package services

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/embed"
	"github.com/routr-fabric/routr/services/edgeport"
	"github.com/routr-fabric/routr/services/processor/connect"
)

// RunOne runs the whole system in this process, with a NATS server of its own unless the configuration names another,
// until ctx ends. When everything serves it prints one screen for the person who started it.
func RunOne(ctx context.Context, o Options) error {
	var c Configs
	var err error
	if o.Config != "" {
		if c, err = ReadConfigs(o.Config); err != nil {
			return err
		}
	}
	if c.EdgePort == nil { // everything that can be tried without a file
		c.EdgePort = ptr(edgeport.Default())
		c.EdgePort.Spec.Transport = append(c.EdgePort.Spec.Transport,
			edgeport.Transport{Protocol: "tls", Port: 5061}, edgeport.Transport{Protocol: "ws", Port: 5062}, edgeport.Transport{Protocol: "wss", Port: 5063})
	}
	c.defaults()
	if c.EdgePort.Spec.DataDir == "" {
		c.EdgePort.Spec.DataDir = o.Data
	}
	if err := ApplyEnv(c.EdgePort, os.Getenv); err != nil {
		return err
	}
	if c.Bus.Spec.StoreDir == DefaultBus().Spec.StoreDir {
		c.Bus.Spec.StoreDir = o.Data
	}
	dir, fresh, err := resourcesDir(o)
	if err != nil {
		return err
	}
	resources, err := ReadResources(dir)
	if err != nil {
		return err
	}

	tel, err := o.telemetry(ctx, "one", c.EdgePort.Ref)
	if err != nil {
		return err
	}
	defer o.shutdown(tel)
	host := c.newHost(true, tel, o)
	cfg := bus.Config{URL: c.Bus.Spec.URL, Name: "one-" + c.EdgePort.Ref, Local: c.Bus.Spec.Local}
	if cfg.URL == "" {
		server, err := embed.Start(embed.Config{Listen: c.Bus.Spec.Listen, StoreDir: c.Bus.Spec.StoreDir, Name: "routr-one", Log: tel.Log})
		if err != nil {
			return fmt.Errorf("%w (spec.listen and spec.storeDir of a Bus file in the --config folder)", err)
		}
		defer server.Shutdown()
		cfg.URL, cfg.Interest, cfg.Dial = server.URL(), server.Interest, server.Dial
	}
	conn, err := connectBus(ctx, cfg, tel)
	if err != nil {
		return err
	}
	defer conn.Close()

	// In the order in which they need each other; they stop in reverse, so the EdgePort takes no request that nobody
	// behind it would answer.
	var edge *edgeport.EdgePort
	for _, kind := range []string{"location", "processor", "dispatcher", "edgeport"} {
		runner, err := newRunner(kind, c, resources, conn, tel)
		if err != nil {
			return err
		}
		host.Add(kind, runner)
		edge, _ = runner.(*edgeport.EdgePort)
	}
	return host.Run(ctx, func() {
		tel.Log.Info("ready", "kind", "one", "bus", cfg.URL)
		s := screen{points: edge.Points(), bus: cfg.URL, data: c.Bus.Spec.StoreDir, resources: dir, fresh: fresh, command: os.Args[0]}
		if strings.Contains(s.command, "go-build") { // where `go run` puts it
			s.command = "go run ./services/routr"
		}
		if addr := tel.Addr(); addr != nil {
			s.http = addr.String()
		}
		s.print(o.Stdout, resources)
	})
}

// resourcesDir is the folder of the resources: the one that was named, or one beside the state, which is made and
// filled with a domain and two agents when it is not there yet.
func resourcesDir(o Options) (dir string, fresh bool, err error) {
	if dir := ResourcesDir(o.Resources, o.Config); dir != "" {
		return dir, false, nil
	}
	dir = filepath.Join(o.Data, "resources")
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, os.ErrNotExist) {
		return dir, false, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", false, fmt.Errorf("make the folder of the resources: %w", err)
	}
	text := fmt.Sprintf(firstDomain, "sip.local")
	for _, user := range []string{"1001", "1002"} {
		// 80 random bits, short enough to be typed into a phone. Nothing that ships is a password.
		text += fmt.Sprintf(firstAgent, user, strings.ToLower(rand.Text()[:16]))
	}
	if err := os.WriteFile(filepath.Join(dir, "first.yaml"), []byte(text), 0o600); err != nil {
		return "", false, fmt.Errorf("write the first resources: %w", err)
	}
	return dir, true, nil
}

const firstDomain = `# Made on the first start. Edit it, or add files beside it, and start again.
apiVersion: v2beta1
kind: Domain
ref: domain-01
metadata:
  name: Local Domain
spec:
  context:
    domainUri: %s
`

const firstAgent = `---
apiVersion: v2beta1
kind: Credentials
ref: credentials-%[1]s
metadata:
  name: Credentials of %[1]s
spec:
  credentials:
    username: "%[1]s"
    password: %[2]s
---
apiVersion: v2beta1
kind: Agent
ref: agent-%[1]s
metadata:
  name: Agent %[1]s
spec:
  username: "%[1]s"
  domainRef: domain-01
  credentialsRef: credentials-%[1]s
`

// screen is what a person sees when the system has started.
type screen struct {
	points          []string
	bus, http       string
	data, resources string
	command         string // by which a person runs this program
	fresh           bool
}

// shownAgents is how many agents fit on the screen.
const shownAgents = 5

func (s screen) print(w io.Writer, r connect.Resources) {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	b.WriteString("routr is ready. Ctrl-C stops it when no call is being set up, a second one at once.\n\n")
	line("SIP", "%s", strings.Join(s.points, "  "))
	for _, d := range r.Domains {
		line("Domain", "%s", d.Spec.Context.DomainURI)
	}
	passwords := map[string]string{}
	for _, c := range r.Credentials {
		passwords[c.Ref] = c.Spec.Credentials.Password
	}
	agents := slices.Clone(r.Agents)
	slices.SortFunc(agents, func(a, b connect.Agent) int { return strings.Compare(a.Spec.Username, b.Spec.Username) })
	for i, a := range agents {
		if i == shownAgents {
			line("", "and %d more in %s", len(agents)-i, s.resources)
			break
		}
		if s.fresh {
			line("Agent", "user %s   password %s", a.Spec.Username, passwords[a.Spec.CredentialsRef])
		} else {
			line("Agent", "user %s", a.Spec.Username)
		}
	}
	if s.fresh {
		line("", "the passwords were made now; this is the only time they are shown")
	}
	line("", "domains, agents and passwords are in %s", s.resources)
	line("Phone", "outbound proxy %s; domain, user and password as above", strings.Join(reachable(s.points), " or "))
	line("Bus", "%s", s.bus)
	line("Watch", "%s tap --nats %s", s.command, s.bus)
	line("", "or with NATS's own client: nats -s %s sub '%s'", s.bus, bus.SubjectAll)
	if s.http != "" {
		line("Health", "http://%s/readyz   metrics http://%s/metrics", s.http, s.http)
	}
	line("State", "%s", s.data)
	_, _ = io.WriteString(w, b.String()+"\n") // nobody to tell if the terminal is gone
}

// reachable are the addresses that a phone can be given: those that are listened on by udp and tcp, and for 0.0.0.0 this
// machine's.
func reachable(points []string) []string {
	var list []string
	add := func(addr string) {
		if !slices.Contains(list, addr) {
			list = append(list, addr)
		}
	}
	for _, p := range points {
		protocol, addr, _ := strings.Cut(p, ":")
		if protocol != "udp" && protocol != "tcp" {
			continue
		}
		at, err := netip.ParseAddrPort(addr)
		if err != nil || !at.Addr().IsUnspecified() {
			add(addr)
			continue
		}
		own, err := net.InterfaceAddrs()
		if err != nil {
			continue
		}
		for _, a := range own {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Is4() == at.Addr().Is4() && !prefix.Addr().IsLinkLocalUnicast() {
				add(netip.AddrPortFrom(prefix.Addr(), at.Port()).String())
			}
		}
	}
	return list
}
