package e2e_test

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestLoadBalancer has phones behind HAProxy, which tells the server by the PROXY protocol whom it connects for.
func TestLoadBalancer(t *testing.T) {
	t.Parallel()
	s := newSystem()
	balancer := hosts.next()
	s.run(t, "one", s.one(t, fmt.Sprintf(balancedEdgeportYAML, s.host, balancer), strings.TrimPrefix(s.nats, "nats://"))...)
	for _, version := range []string{"send-proxy", "send-proxy-v2"} {
		front := startHAProxy(t, s.host, balancer, version)

		t.Run(version+", tcp", func(t *testing.T) {
			inside, outside := s.phone(t, "tcp"), s.phone(t, "udp")
			inside.server = net.JoinHostPort(front, sipPort)
			answer := inside.hold(t, "answer_and_hang_up")
			outside.play(t, "call_hung_up", inside.user).saw(t, 1, "BYE ")
			answer.await(t, "hang up", func() bool { return answer.count(t, received, "SIP/2.0 200 ") > 1 })
			// The server has seen the phone, not the balancer.
			ok := answer.find(t, received, "SIP/2.0 200 ")[0]
			if want := fmt.Sprintf(";received=%s;rport=%d\r\n", inside.host, phonePort); !strings.Contains(ok.text, want) {
				t.Errorf("200 to the REGISTER has no %q:\n%s", want, ok.text)
			}
			caller := s.phone(t, "tcp")
			caller.server = inside.server
			call(t, caller, outside)
		})

		t.Run(version+", tls", func(t *testing.T) {
			from, to := s.phone(t, "tls"), s.phone(t, "tls")
			from.server, to.server = net.JoinHostPort(front, tlsPort), net.JoinHostPort(front, tlsPort)
			caller, callee := startBaresip(t, from, to), startBaresip(t, to, from)
			caller.do(t, "dial", "sip:"+callee.user+"@"+domain)
			callee.await(t, "CALL_INCOMING")
			callee.do(t, "accept", "")
			caller.await(t, "CALL_ESTABLISHED")
			callee.do(t, "hangup", "")
			caller.await(t, "CALL_CLOSED")
		})

		// A client that comes by itself must not be asked for a PROXY header.
		t.Run(version+", around it", func(t *testing.T) {
			callee := s.phone(t, "tcp")
			callConnection(t, s.phone(t, "tcp"), callee)
		})
	}
}

// startHAProxy starts a load balancer before the server at host, which it connects to from the address source, and
// returns the address that it listens on.
func startHAProxy(t *testing.T, host, source, version string) (front string) {
	t.Helper()
	front = hosts.next()
	file := t.TempDir() + "/haproxy.cfg"
	write(t, file, haproxyConfig, front, host, source, version)
	p := launch(t, "haproxy", exec.Command("haproxy", "-db", "-f", file))
	t.Cleanup(p.kill) // told to end, it would end by that signal, which is no good end of a process
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for limit := time.After(startTime); !listens(t, p.cmd.Process.Pid, "tcp", net.JoinHostPort(front, tlsPort)); {
		select {
		case <-poll.C:
		case <-p.exited:
			t.Fatalf("haproxy ended before it listened: %v", p.err)
		case <-limit:
			t.Fatalf("haproxy does not listen on %s within %v", front, startTime)
		}
	}
	return front
}

const (
	balancedEdgeportYAML = `
apiVersion: v2beta1
kind: EdgePort
ref: edgeport-01
spec:
  bindAddr: %[1]s
  transport:
    - {protocol: udp, port: 5060}
    - {protocol: tcp, port: 5060, proxyProtocol: {from: [%[2]s]}}
    - {protocol: tls, port: 5061, proxyProtocol: {from: [%[2]s]}}
`
	haproxyConfig = `
global
  maxconn 100
defaults
  mode tcp
  timeout connect 5s
  timeout client 1m
  timeout server 1m
listen tcp
  bind %[1]s:5060
  server routr %[2]s:5060 source %[3]s %[4]s
listen tls
  bind %[1]s:5061
  server routr %[2]s:5061 source %[3]s %[4]s
`
)
