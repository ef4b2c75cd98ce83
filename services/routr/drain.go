package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/services/edgeport"
)

// drainAsks is how often drain asks an EdgePort whether it is done.
const drainAsks = time.Second

// drain tells an EdgePort to take no new requests and waits until a stop would cut nothing off. Ctrl-C ends the waiting
// and not the draining.
func drain(c *call) error {
	url := c.flags.String("nats", env("NATS_URL", "nats://127.0.0.1:4222"), "`URL` of the bus")
	undo := c.flags.Bool("undo", false, "take new requests again")
	if err := c.parse(1, 1); err != nil {
		return err
	}
	ref := c.flags.Arg(0)
	ctx, cancel := context.WithTimeout(c.ctx, 5*time.Second)
	defer cancel()
	conn, err := bus.Connect(ctx, bus.Config{URL: *url, Name: "drain"})
	if err != nil {
		return err
	}
	defer conn.Close()
	take := !*undo
	status, err := askDrain(conn, ref, edgeport.DrainRequest{Drain: &take})
	if err != nil {
		return err
	}
	if *undo {
		fmt.Fprintf(c.stdout, "%s takes new requests\n", status.Ref)
		return nil
	}
	fmt.Fprintf(c.stdout, "%s takes no new requests; routr drain --undo %s takes that back\n", status.Ref, ref)
	ticker := time.NewTicker(drainAsks)
	defer ticker.Stop()
	for told := -1; status.Pending > 0; {
		if told != status.Pending {
			fmt.Fprintf(c.stdout, "%d transactions are pending; Ctrl-C waits no more\n", status.Pending)
			told = status.Pending
		}
		select {
		case <-ticker.C:
		case <-c.ctx.Done():
			return nil
		}
		switch status, err = askDrain(conn, ref, edgeport.DrainRequest{}); {
		case err != nil:
			return err
		case status.State == edgeport.Serving:
			return fmt.Errorf("%s was told to take new requests again", status.Ref)
		}
	}
	fmt.Fprintln(c.stdout, "nothing is pending")
	return nil
}

// askDrain asks the EdgePort ref.
func askDrain(conn *bus.Conn, ref string, what edgeport.DrainRequest) (status edgeport.DrainStatus, err error) {
	data, err := json.Marshal(what)
	if err != nil {
		return status, err
	}
	type result struct {
		reply bus.Reply
		err   error
	}
	done := make(chan result, 1)
	conn.Call(context.Background(), bus.SubjectDrain(ref), bus.Raw(data), time.Now().Add(5*time.Second),
		func(reply bus.Reply, err error) { done <- result{reply, err} })
	r := <-done
	if errors.Is(r.err, bus.ErrUnavailable) {
		return status, fmt.Errorf("no EdgePort on this bus has the ref %q: %w", ref, r.err)
	}
	if r.err != nil {
		return status, r.err
	}
	if data, err = r.reply.Body.Bytes(); err == nil {
		err = json.Unmarshal(data, &status)
	}
	if err != nil {
		return status, fmt.Errorf("the EdgePort %s answered what is no status: %w", ref, err)
	}
	return status, nil
}
