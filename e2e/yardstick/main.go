// Command yardstick measures the CPU time that a SIP server spends on a call, or on a REGISTER, beside what Kamailio
// spends on the same, in the same minutes, on the same machine.
//
//	go run ./e2e/yardstick call|reg RATE SECONDS [-runs 3] [-no-kamailio] [COMMAND ARG...]
//	go run ./e2e/yardstick call|reg|message|options|ring RATE SECONDS -transport all|udp,tcp,tls,ws,wss [-links 100] [COMMAND ARG...]
//
// A call is INVITE, 100, 180, 50 ms of ringing, 200, ACK, 20 ms of talk, BYE, 200, with record-routing, to one of 1,000
// registered users. A REGISTER is one of 50,000 users' and is not challenged. COMMAND starts the server in the
// foreground; without one it is bin/routr with deploy/config/yardstick. The server has to be the registrar and the
// proxy of example.com on udp 127.77.0.1:36060 and to trust that address, as kamailio.cfg does. Its whole process tree
// is measured.
//
// With -transport the load comes from this process, over links of its own, and the transports are compared, which have
// ports of their own: tcp 36060, tls 36061, ws 36062, wss 36063. It also takes the time that an INVITE and a 200 are on
// their way. Half of the links are callers, the others callees, and all calls share them. A MESSAGE goes to a registered
// user, OPTIONS to the server, and ring are calls that ring until all do, for the memory that they take.
//
// The load runs on the same machine, so the ratio is the result; how many calls a second were made is not. Kamailio
// runs with its fast allocator (-x fm), as its default one, for debugging, doubles what it spends. Needs kamailio and
// sip-tester (Debian).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

func main() {
	// What was started is stopped when the measurement is interrupted.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "yardstick:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	runs := flag.Int("runs", 3, "how often to measure each server; medians are compared")
	alone := flag.Bool("no-kamailio", false, "measure the server alone")
	transport := flag.String("transport", "", "`list` of transports to compare, or all; the load is not SIPp's then")
	links := flag.Int("links", 100, "connections of callers, and of callees; with -transport")
	flag.Parse()
	l, command, err := parse(flag.Args())
	if err != nil {
		return err
	}
	if *transport != "" {
		if l.transports, err = parseTransports(*transport); err != nil {
			return err
		}
	} else if l.what != "call" && l.what != "reg" {
		l.transports = []string{"udp"}
	}
	l.links = *links
	if *runs < 1 || *links < 1 {
		return errors.New("want one run and one link at least")
	}
	*alone = *alone || l.transports != nil
	for _, tool := range []string{"sipp", "kamailio"} {
		if _, err := exec.LookPath(tool); err != nil && l.transports == nil && (tool == "sipp" || !*alone) {
			return fmt.Errorf("%w: apt-get install --no-install-recommends sip-tester kamailio", err)
		}
	}
	if l.dir, err = os.MkdirTemp("", "yardstick-"); err != nil {
		return err
	}
	if err := l.writeUsers(); err != nil {
		return err
	}
	kamailio := []string{
		"kamailio", "-f", scenarios("kamailio.cfg"), "-DD", "-E", "-b", "4194304", "-m", "2048", "-M", "16", "-x", "fm",
		"-Y", l.dir, "-P", filepath.Join(l.dir, "kamailio.pid"),
	}
	if command == nil {
		command = []string{"bin/routr", "one", "--config", "deploy/config/yardstick", "--data", filepath.Join(l.dir, "data"), "--http", ""}
		if l.transports != nil {
			command[len(command)-1] = httpAddr
		}
	}
	if l.transports != nil {
		if err := l.compare(ctx, command, *runs); err != nil {
			return err
		}
		return os.RemoveAll(l.dir)
	}
	var server, reference []float64
	for range *runs {
		if !*alone {
			us, err := l.measure(ctx, "kamailio", kamailio)
			if err != nil {
				return err
			}
			reference = append(reference, us)
		}
		us, err := l.measure(ctx, "server", command)
		if err != nil {
			return err
		}
		server = append(server, us)
	}
	if !*alone {
		a, b := median(server), median(reference)
		fmt.Printf("%s: ratio %.2f (server %.1f us, kamailio %.1f us, medians of %d)\n", l.what, a/b, a, b, *runs)
	}
	return os.RemoveAll(l.dir) // kept after an error, as that names files in it
}

// parse reads what to measure and, if given, the command of the server.
func parse(args []string) (l load, command []string, err error) {
	const usage = "want call|reg|message|options|ring RATE SECONDS [FLAG...] [COMMAND ARG...], such as call 2000 10"
	if len(args) < 3 {
		return l, nil, errors.New(usage)
	}
	l.what = args[0]
	l.rate, err = strconv.Atoi(args[1])
	if err == nil {
		l.seconds, err = strconv.Atoi(args[2])
	}
	if err != nil || !slices.Contains([]string{"call", "reg", "message", "options", "ring"}, l.what) || l.rate < 1 || l.seconds < 1 {
		return l, nil, fmt.Errorf("%q: %s", args[:3], usage)
	}
	// Flags may follow, too, up to the command.
	if err := flag.CommandLine.Parse(args[3:]); err != nil {
		return l, nil, err
	}
	if flag.NArg() > 0 {
		command = flag.Args()
	}
	return l, command, nil
}

// scenarios is the path of a file beside this one; the command is run from the root of the repository.
func scenarios(name string) string { return filepath.Join("e2e", "yardstick", name) }

// median of an odd number of values; of an even number, the higher of the middle two.
func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
