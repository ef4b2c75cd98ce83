package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// settleTime is how long calls ring before the memory that they take is looked at.
const settleTime = 8 * time.Second

// figure is what one run over one transport has shown.
type figure struct {
	us   float64  // CPU time of an op
	late [4]int64 // in nanoseconds: request p50 and p99, response p50 and p99
}

// compare measures the server on each transport, and prints a table of the medians. What is added to the times is told
// against links without a server.
func (l load) compare(ctx context.Context, command []string, runs int) error {
	through, direct := make(map[string][]figure), make(map[string][]figure)
	for range runs {
		for _, transport := range l.transports {
			f, err := l.measureOn(ctx, transport, command)
			if err != nil {
				return fmt.Errorf("%s over %s: %w", l.what, transport, err)
			}
			through[transport] = append(through[transport], f)
			if !l.reachesCallee() {
				continue
			}
			if f, err = l.directly(ctx, transport); err != nil {
				return fmt.Errorf("%s over %s, directly: %w", l.what, transport, err)
			}
			direct[transport] = append(direct[transport], f)
		}
	}
	fmt.Printf("\n%s at %d/s on %d connections, medians of %d; times through the server less those without it, in us\n", l.what, l.rate, 2*l.links, runs)
	fmt.Printf("%-9s  %10s  %8s  %22s  %22s\n", "", "us of CPU", "ratio", "request p50 p99", "response p50 p99")
	first := 0.0
	for _, transport := range l.transports {
		us, late := medians(through[transport])
		_, without := medians(direct[transport])
		if first == 0 {
			first = us
		}
		for i := range late {
			late[i] -= without[i]
		}
		fmt.Printf("%-9s  %10.1f  %8.2f  %11d %10d  %11d %10d\n", transport, us, us/first, late[0]/1000, late[1]/1000, late[2]/1000, late[3]/1000)
	}
	return nil
}

func (l load) reachesCallee() bool { return l.what == "call" || l.what == "message" }

// medians of figures, each for itself.
func medians(figures []figure) (us float64, late [4]int64) {
	if len(figures) == 0 {
		return 0, late
	}
	var times []float64
	for _, f := range figures {
		times = append(times, f.us)
	}
	for i := range late {
		var all []float64
		for _, f := range figures {
			all = append(all, float64(f.late[i]))
		}
		late[i] = int64(median(all))
	}
	return median(times), late
}

// measureOn starts a server, puts the load on one of its transports, and says what it spent.
func (l load) measureOn(ctx context.Context, transport string, command []string) (figure, error) {
	s, err := l.serve(ctx, "server", command)
	if err != nil {
		return figure{}, err
	}
	defer s.stop()
	t, err := connect(ctx, transport, l.links, false)
	if err != nil {
		return figure{}, err
	}
	defer t.close()
	users := endpoints
	if l.what != "reg" {
		users = callees
		if _, err := t.play(ctx, "reg", t.callees, 500, callees, callees); err != nil {
			return figure{}, fmt.Errorf("register %d users: %w", callees, err)
		}
	}
	idle, idleHeap := s.memory(), heap(ctx)
	before, began := s.cpu(), time.Now()
	r, err := t.play(ctx, l.what, t.callers, l.rate, l.rate*l.seconds, users)
	took, spent := time.Since(began), s.cpu()-before
	if err != nil {
		return figure{}, err
	}
	f := r.figure(spent)
	if l.what == "ring" { // some of the memory is for the first seconds
		select {
		case <-time.After(settleTime):
		case <-ctx.Done():
			return figure{}, ctx.Err()
		}
	}
	fmt.Printf("%-4s %s at %d/s for %.1f s: %.1f us each, request p50 %d p99 %d us, response p50 %d p99 %d us, %d MiB, %d over idle",
		transport, l.what, l.rate, took.Seconds(), f.us, f.late[0]/1000, f.late[1]/1000, f.late[2]/1000, f.late[3]/1000, s.memory()>>20, (s.memory()-idle)>>20)
	if live := heap(ctx); live > 0 {
		fmt.Printf(", live heap %d MiB over idle, %d bytes each", (live-idleHeap)>>20, (live-idleHeap)/len(r.ops))
	}
	fmt.Println()
	return f, nil
}

// directly puts the load on links without a server.
func (l load) directly(ctx context.Context, transport string) (figure, error) {
	t, err := connect(ctx, transport, l.links, true)
	if err != nil {
		return figure{}, err
	}
	defer t.close()
	r, err := t.play(ctx, l.what, t.callers, l.rate, l.rate*min(l.seconds, 3), callees)
	if err != nil {
		return figure{}, err
	}
	return r.figure(0), nil
}

func (r *round) figure(spent time.Duration) figure {
	requests, responses := make([]int64, len(r.ops)), make([]int64, len(r.ops))
	for i := range r.ops {
		requests[i], responses[i] = r.ops[i].request.Load(), r.ops[i].response.Load()
	}
	slices.Sort(requests)
	slices.Sort(responses)
	at := func(sorted []int64, q float64) int64 { return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)] }
	return figure{
		us:   float64(spent.Microseconds()) / float64(len(r.ops)),
		late: [4]int64{at(requests, 0.5), at(requests, 0.99), at(responses, 0.5), at(responses, 0.99)},
	}
}

// heap is what lives on the heap of the server, after a collection, in bytes; 0 if it does not say.
func heap(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+httpAddr+"/debug/pprof/heap?gc=1&debug=1", nil)
	if err != nil {
		return 0
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0 // another server
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(text, []byte("# HeapAlloc = "))
	number, _, _ := strings.Cut(string(rest), "\n")
	n, _ := strconv.Atoi(number)
	return n
}

// serve starts a server and waits until it answers.
func (l load) serve(ctx context.Context, name string, command []string) (*server, error) {
	for _, port := range []int{serverPort, callerPort, calleePort, probePort} {
		if err := isFree(port); err != nil {
			return nil, err
		}
	}
	s, err := start(command, filepath.Join(l.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	if err := answers(ctx); err != nil {
		s.stop()
		return nil, fmt.Errorf("%s: %w; what it printed is in %s", name, err, s.log)
	}
	return s, nil
}

// parseTransports reads the names of transports, or all.
func parseTransports(text string) (list []string, err error) {
	for _, p := range ports() {
		if text == "all" || slices.Contains(strings.Split(text, ","), p.transport) {
			list = append(list, p.transport)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("-transport " + text + ": want all, or some of udp,tcp,tls,ws,wss")
	}
	return list, nil
}
