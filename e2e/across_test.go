package e2e_test

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pair is a fabric with two EdgePorts, a and b, each on an address of its own.
type pair struct {
	*system
	owner *testing.T // with whose end its processes end, whoever starts them anew
	hosts map[string]string
}

func startPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{system: startServices(t), owner: t}
	p.hosts = map[string]string{"a": p.host, "b": hosts.next()}
	dir := t.TempDir()
	for name, host := range p.hosts {
		file := dir + "/" + name + ".yaml"
		write(t, file, edgeportOfPairYAML, name, host)
		p.run(t, "edgeport-"+name, "edgeport", "--config", file, "--nats", p.nats)
	}
	return p
}

const edgeportOfPairYAML = `
apiVersion: v2beta1
kind: EdgePort
ref: edgeport-%s
spec:
  bindAddr: %s
  methods: [REGISTER, INVITE, ACK, BYE, CANCEL, OPTIONS, MESSAGE]
  transport:
    - {protocol: udp, port: 5060}
    - {protocol: tcp, port: 5060}
`

// other is the name of the other EdgePort.
func other(name string) string {
	if name == "a" {
		return "b"
	}
	return "a"
}

// phoneAt is a phone that knows one EdgePort only.
func (p *pair) phoneAt(t *testing.T, name, transport string) *phone {
	t.Helper()
	f := p.phone(t, transport)
	f.server = net.JoinHostPort(p.hosts[name], sipPort)
	return f
}

// eachWay runs f with the caller at a and the callee at b, and the other way round.
func eachWay(t *testing.T, f func(t *testing.T, from, to string)) {
	t.Helper()
	for _, from := range []string{"a", "b"} {
		t.Run(from+" to "+other(from), func(t *testing.T) { f(t, from, other(from)) })
	}
}

// answers has a registered phone answer, for as long as the test runs.
func (p *phone) answers(t *testing.T) *sipp {
	t.Helper()
	if p.transport == "tcp" { // it is reached over the connection that it registered on
		return p.hold(t, "answer")
	}
	p.register(t)
	return p.listen(t, "answer", "-m", "1000000", "-timeout", "10m")
}

// TestE1Across is the specification's own test, an INVITE between clients at separate EdgePorts, and what a call may meet
// on that way.
func TestE1Across(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	for _, from := range []string{"udp", "tcp"} {
		for _, to := range []string{"udp", "tcp"} {
			t.Run("E1 "+from+" to "+to, func(t *testing.T) {
				eachWay(t, func(t *testing.T, here, there string) {
					const calls = 60 // 20 a second
					caller, callee := p.phoneAt(t, here, from), p.phoneAt(t, there, to)
					answer := callee.answers(t)
					caller.play(t, "call", callee.user, "-r", "20", "-m", fmt.Sprint(calls))
					answer.saw(t, calls, "INVITE ")
					answer.saw(t, calls, "ACK ")
					answer.saw(t, calls, "BYE ")
					for _, invite := range answer.find(t, received, "INVITE ") {
						if via := strings.Count(invite.text, "\nVia:"); via != 2 || !strings.Contains(invite.text, "@"+p.hosts[here]+":") {
							t.Fatalf("the INVITE has %d Vias, want 2, and a Record-Route of %s:\n%s", via, p.hosts[here], invite.text)
						}
					}
				})
			})
		}
	}
	t.Run("E1 callee hangs up", func(t *testing.T) {
		eachWay(t, func(t *testing.T, here, there string) {
			caller, callee := p.phoneAt(t, here, "udp"), p.phoneAt(t, there, "udp")
			callee.register(t)
			answer := callee.listen(t, "answer_and_hang_up")
			caller.play(t, "call_hung_up", callee.user).saw(t, 1, "BYE ")
			answer.wait(t)
		})
	})
	t.Run("E1 P34 cancel", func(t *testing.T) {
		eachWay(t, func(t *testing.T, here, there string) {
			caller, callee := p.phoneAt(t, here, "udp"), p.phoneAt(t, there, "udp")
			callee.register(t)
			ring := callee.listen(t, "ring")
			caller.play(t, "call_cancelled", callee.user).saw(t, 1, "SIP/2.0 487 ")
			ring.wait(t)
			ring.heard(t, "CANCEL ")
		})
	})
	t.Run("E1 P39 P40 fork", func(t *testing.T) {
		eachWay(t, func(t *testing.T, here, there string) {
			// Whose other phone answers: that at the caller's EdgePort, or that at the other one.
			for _, at := range []string{here, there} {
				caller, desk := p.phoneAt(t, here, "udp"), p.phoneAt(t, at, "udp")
				mobile := *desk
				mobile.host, mobile.server = hosts.next(), net.JoinHostPort(p.hosts[other(at)], sipPort)
				desk.register(t)
				mobile.register(t)
				answer, ring := desk.listen(t, "answer"), mobile.listen(t, "ring")
				caller.play(t, "call_forked", desk.user)
				answer.wait(t)
				ring.wait(t)
				answer.heard(t, "INVITE ")
				ring.heard(t, "CANCEL ")
			}
		})
	})
}

// TestE1AcrossFaults takes away an EdgePort, or the bus, while calls go from one EdgePort to the other.
func TestE1AcrossFaults(t *testing.T) {
	t.Parallel()
	p := startPair(t)

	t.Run("EdgePort of the callee is lost while it rings", func(t *testing.T) {
		eachWay(t, func(t *testing.T, here, there string) {
			caller, callee := p.phoneAt(t, here, "udp"), p.phoneAt(t, there, "udp")
			callee.register(t)
			ring := callee.listen(t, "ring")
			call := caller.start(t, "call_refused", callee.user)
			call.await(t, "ring", func() bool { return call.count(t, received, "SIP/2.0 180 ") == 1 })
			p.processes["edgeport-"+there].kill()
			call.wait(t) // SIPp gives up after a minute, Timer C after three
			call.heard(t, "SIP/2.0 480 ")
			ring.kill()
			refused(t, caller, callee.user, 480)
			p.restart(p.owner, "edgeport-"+there)
			p.works(t, here, there)
		})
	})
	t.Run("EdgePort of the caller is lost while it rings", func(t *testing.T) {
		eachWay(t, func(t *testing.T, here, there string) {
			caller, callee := p.phoneAt(t, here, "udp"), p.phoneAt(t, there, "udp")
			callee.register(t)
			ring := callee.listen(t, "ring")
			call := caller.start(t, "call", callee.user)
			call.await(t, "ring", func() bool { return call.count(t, received, "SIP/2.0 180 ") == 1 })
			p.processes["edgeport-"+here].kill()
			ring.wait(t)
			ring.heard(t, "CANCEL ")
			call.kill()
			p.restart(p.owner, "edgeport-"+here)
			p.works(t, here, there)
		})
	})
	t.Run("rolling restart", func(t *testing.T) {
		eachWay(t, func(t *testing.T, here, there string) {
			talks := []*talk{p.talk(t, here, there), p.talk(t, there, here)}
			caller, callee := p.phoneAt(t, here, "udp"), p.phoneAt(t, here, "udp")
			callee.answers(t)
			load := caller.start(t, "call", callee.user, "-r", "20", "-m", "1000000", "-timeout", "10m")
			load.await(t, "make calls", func() bool { return load.count(t, received, "SIP/2.0 180 ") >= 20 })
			edge := p.processes["edgeport-"+there]
			edge.cmd.Process.Signal(syscall.SIGTERM)
			<-edge.exited
			if edge.err != nil {
				t.Errorf("the EdgePort ended with %v, want exit code 0", edge.err)
			}
			p.restart(p.owner, "edgeport-"+there)
			load.cmd.Process.Signal(syscall.SIGUSR1) // no more calls
			load.wait(t)
			for _, talk := range talks {
				talk.hangUp(t)
			}
			p.works(t, here, there)
		})
	})
	t.Run("bus is lost in a call", func(t *testing.T) {
		talks := []*talk{p.talk(t, "a", "b"), p.talk(t, "b", "a")}
		lost := make(map[string]int)
		for name := range p.hosts {
			lost[name] = p.processes["edgeport-"+name].said("nats connection restored")
		}
		p.processes["nats"].kill()
		p.restart(p.owner, "nats")
		poll := time.NewTicker(50 * time.Millisecond)
		defer poll.Stop()
		for limit := time.Now().Add(startTime); ; <-poll.C {
			if p.processes["edgeport-a"].said("nats connection restored") > lost["a"] && p.processes["edgeport-b"].said("nats connection restored") > lost["b"] {
				break
			}
			if time.Now().After(limit) {
				t.Fatalf("the EdgePorts are not back on the bus after %v", startTime)
			}
		}
		for _, talk := range talks {
			talk.hangUp(t)
		}
	})
	t.Run("EdgePort of the callee is lost in a call", func(t *testing.T) {
		eachWay(t, func(t *testing.T, here, there string) {
			talk := p.talk(t, here, there)
			p.processes["edgeport-"+there].kill()
			// The caller's EdgePort goes around it, to the phone itself. SIPp sends every response to where the INVITE came
			// from, so that EdgePort would wait for the answer to BYE, and drain for long.
			talk.tell(t)
			talk.over(t)
			talk.calling.kill()
			p.processes["edgeport-"+here].kill()
			p.restart(p.owner, "edgeport-"+here)
			p.restart(p.owner, "edgeport-"+there)
			p.works(t, here, there)
		})
	})
}

// works makes a call from one EdgePort to the other, to phones that register now.
func (p *pair) works(t *testing.T, here, there string) {
	t.Helper()
	for _, transport := range []string{"udp", "tcp"} {
		caller, callee := p.phoneAt(t, here, transport), p.phoneAt(t, there, transport)
		callee.answers(t)
		caller.play(t, "call", callee.user)
	}
}

// talk is a call that goes on until hangUp.
type talk struct {
	caller          *phone
	calling, called *sipp
}

func (p *pair) talk(t *testing.T, here, there string) *talk {
	t.Helper()
	caller, callee := p.phoneAt(t, here, "udp"), p.phoneAt(t, there, "udp")
	callee.register(t)
	k := &talk{caller: caller, called: callee.listen(t, "answer")}
	k.calling = caller.start(t, "call_until_told", callee.user)
	k.calling.await(t, "talk", func() bool { return k.called.count(t, received, "ACK ") == 1 })
	return k
}

// hangUp has the caller send BYE, which must arrive and be answered.
func (k *talk) hangUp(t *testing.T) {
	t.Helper()
	k.tell(t)
	k.calling.wait(t)
	k.over(t)
}

// over waits until the callee has heard the BYE.
func (k *talk) over(t *testing.T) {
	t.Helper()
	k.called.wait(t)
	k.called.heard(t, "BYE ")
}

// tell has the caller hang up.
func (k *talk) tell(t *testing.T) {
	t.Helper()
	id := callID(k.calling.find(t, sent, "INVITE ")[0])
	conn, err := net.Dial("udp4", k.caller.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "INFO sip:%[1]s SIP/2.0\r\nVia: SIP/2.0/UDP %[2]s;branch=z9hG4bKtold\r\nFrom: <sip:test@%[2]s>;tag=t\r\n"+
		"To: <sip:%[1]s>\r\nCall-ID: %[3]s\r\nCSeq: 1 INFO\r\nContent-Length: 0\r\n\r\n", k.caller.addr(), conn.LocalAddr(), id)
}

// heard fails if the phone has not received such a message. What is sent again on a slow machine counts as one.
func (s *sipp) heard(t *testing.T, prefix string) {
	t.Helper()
	if s.count(t, received, prefix) == 0 {
		t.Errorf("sipp %s received no %q", s.scenario, prefix)
	}
}
