package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// Addresses on the host of the server: where it listens, whence the calls come, where all users can be reached.
const (
	host       = "127.77.0.1"
	serverPort = 36060
	callerPort = 36070
	calleePort = 36080
	probePort  = 36090
	httpAddr   = "127.77.0.1:36091"
)

const (
	startTime = 20 * time.Second // for the server to answer
	graceTime = 45 * time.Second // for the last calls to end
	callees   = 1000
	endpoints = 50000
)

// load is what every server has to do.
type load struct {
	what       string // call, reg, message, options or ring
	rate       int    // a second
	seconds    int
	transports []string // to compare; none: SIPp's load over UDP
	links      int      // of callers, and of callees; with transports
	dir        string   // of logs and statistics
}

// measure starts a server, puts the load on it and returns the CPU time in microseconds that it spent on each call or
// REGISTER. One that failed is an error: what a server saves by failing is no figure.
func (l load) measure(ctx context.Context, name string, command []string) (float64, error) {
	s, err := l.serve(ctx, name, command)
	if err != nil {
		return 0, err
	}
	defer s.stop()
	begin := l.sipp(ctx, "begin", "register.xml", calleePort, 500, callees, callees)
	if err := begin.Run(); err != nil {
		return 0, fmt.Errorf("%s: register %d users: %w", name, callees, err)
	}
	users, scenario, port := endpoints, "register.xml", calleePort
	if l.what == "call" {
		users, scenario, port = callees, "call.xml", callerPort
		callee := l.sipp(ctx, "callee", "answer.xml", calleePort, 1, 0, callees)
		if err := callee.Start(); err != nil {
			return 0, err
		}
		defer func() {
			callee.Process.Kill()
			_ = callee.Wait() // it was killed
		}()
		if err := await(ctx, calleePort); err != nil {
			return 0, err
		}
	}

	before, began := s.cpu(), time.Now()
	failure := l.sipp(ctx, "load", scenario, port, l.rate, l.rate*l.seconds, users).Run()
	took, spent := time.Since(began), s.cpu()-before
	ok, failed, again, err := l.counters("load")
	if err != nil {
		return 0, err
	}
	us := float64(spent.Microseconds()) / float64(max(ok, 1))
	fmt.Printf("%-8s %s at %d/s for %.1f s: %d ok, %d failed, %d retransmissions, %.1f us each, %d MiB\n",
		name, l.what, l.rate, took.Seconds(), ok, failed, again, us, s.memory()>>20)
	if failure != nil {
		return 0, fmt.Errorf("%s: %d of %d failed, so there is no figure: %w", name, failed, ok+failed, failure)
	}
	return us, nil
}

// sipp is a SIPp process that plays a scenario count times, or without end if count is 0, for users u000001 and on.
func (l load) sipp(ctx context.Context, name, scenario string, port, rate, count, users int) *exec.Cmd {
	args := []string{
		net.JoinHostPort(host, strconv.Itoa(serverPort)), "-sf", scenarios(scenario), "-inf", l.users(users),
		"-i", host, "-p", strconv.Itoa(port), "-r", strconv.Itoa(rate), "-l", "15000", "-nostdin", "-timer_resol", "5",
		"-buff_size", "4000000", "-trace_stat", "-fd", "5", "-stf", l.statistics(name),
	}
	if count > 0 {
		limit := time.Duration(count/rate)*time.Second + graceTime
		args = append(args, "-m", strconv.Itoa(count), "-timeout", fmt.Sprintf("%.0fs", limit.Seconds()), "-timeout_error")
	}
	return exec.CommandContext(ctx, "sipp", args...)
}

// writeUsers writes the files of users that the scenarios take them from.
func (l load) writeUsers() error {
	for _, n := range []int{callees, endpoints} {
		text := []byte("SEQUENTIAL\n")
		for i := 1; i <= n; i++ {
			text = fmt.Appendf(text, "u%06d\n", i)
		}
		if err := os.WriteFile(l.users(n), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (l load) users(n int) string { return filepath.Join(l.dir, fmt.Sprintf("users-%d.csv", n)) }

func (l load) statistics(name string) string { return filepath.Join(l.dir, name+".csv") }

// counters are the last figures in the statistics of a SIPp process.
func (l load) counters(name string) (ok, failed, retransmissions int, err error) {
	text, err := os.ReadFile(l.statistics(name))
	if err != nil {
		return 0, 0, 0, err
	}
	r := csv.NewReader(bytes.NewReader(text))
	r.Comma, r.FieldsPerRecord = ';', -1
	rows, err := r.ReadAll()
	if err != nil {
		return 0, 0, 0, fmt.Errorf("%s: %w", l.statistics(name), err)
	}
	if len(rows) < 2 {
		return 0, 0, 0, fmt.Errorf("%s holds no figures", l.statistics(name))
	}
	figures := make(map[string]int)
	last := rows[len(rows)-1]
	for i, column := range rows[0] {
		if i < len(last) {
			figures[column], _ = strconv.Atoi(last[i])
		}
	}
	return figures["SuccessfulCall(C)"], figures["FailedCall(C)"], figures["Retransmissions(C)"], nil
}

// isFree tries the port alone: a server that sets SO_REUSEPORT would share a port in silence.
func isFree(port int) error {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(host), Port: port})
	if err != nil {
		return fmt.Errorf("the port is needed: %w", err)
	}
	return c.Close()
}

// await waits until someone has the port. It looks at /proc: binding it to see would keep the other one from it.
func await(ctx context.Context, port int) error {
	ip := net.ParseIP(host).To4()
	socket := fmt.Appendf(nil, ": %02X%02X%02X%02X:%04X 00000000:0000 ", ip[3], ip[2], ip[1], ip[0], port)
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	limit := time.After(startTime)
	for {
		sockets, err := os.ReadFile("/proc/net/udp")
		if err != nil || bytes.Contains(sockets, socket) {
			return err
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-limit:
			return fmt.Errorf("nobody listens on %s:%d after %v", host, port, startTime)
		}
	}
}

// answers waits until the server answers OPTIONS.
func answers(ctx context.Context) error {
	c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP(host), Port: probePort}, &net.UDPAddr{IP: net.ParseIP(host), Port: serverPort})
	if err != nil {
		return err
	}
	defer c.Close()
	answer := make([]byte, 65535)
	for n, begin := 1, time.Now(); time.Since(begin) < startTime; n++ {
		fmt.Fprintf(c, "OPTIONS sip:%[1]s:%[2]d SIP/2.0\r\nVia: SIP/2.0/UDP %[1]s:%[3]d;branch=z9hG4bKprobe%[4]d;rport\r\n"+
			"Max-Forwards: 70\r\nFrom: <sip:probe@%[1]s>;tag=probe\r\nTo: <sip:%[1]s>\r\nCall-ID: probe%[4]d@%[1]s\r\n"+
			"CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n", host, serverPort, probePort, n)
		until := time.Now().Add(200 * time.Millisecond)
		if err := c.SetReadDeadline(until); err != nil {
			return err
		}
		size, err := c.Read(answer)
		if err == nil && bytes.HasPrefix(answer[:size], []byte("SIP/2.0 ")) {
			return nil
		}
		// While nobody listens, reading fails at once.
		select {
		case <-time.After(time.Until(until)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.New("no answer to OPTIONS within " + startTime.String())
}
