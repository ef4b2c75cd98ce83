package e2e_test

import (
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Who is where in TestE5NAT: the phone in a home behind a router that masquerades, the server in a network whose gateway
// passes on what comes to its SIP ports, and between them the internet, where another phone is.
const (
	homeAddr     = "10.77.0.2"
	routerAddr   = "198.51.100.1"
	serverAddr   = "10.99.0.10"
	externalAddr = "198.51.100.10"
	internetAddr = "198.51.100.254"
)

// TestE5NAT has a phone behind a NAT register, call and be called. The mapping of the router ends when it is not used for a
// while: with keep-alives of the phone it does not, and without them calls to it fail, until it registers again.
func TestE5NAT(t *testing.T) {
	t.Parallel()
	n := newNAT(t)

	for _, transport := range []string{"udp", "tcp"} {
		t.Run("called over "+transport, func(t *testing.T) {
			n.keeps(t, 120*time.Second)
			outside, inside := n.outside(t), n.inside(t, transport)
			answer := inside.hold(t, "answer")
			outside.play(t, "call", inside.user)
			answer.await(t, "answer BYE", func() bool { return answer.answered(t, "BYE") })
			answer.saw(t, 1, "INVITE ")
			answer.saw(t, 1, "ACK ")
			answer.saw(t, 1, "BYE ")
			n.wantExternal(t, answer.find(t, received, "INVITE ")[0].text, transport)
		})
		t.Run("called over "+transport+" and hangs up", func(t *testing.T) {
			n.keeps(t, 120*time.Second)
			outside, inside := n.outside(t), n.inside(t, transport)
			answer := inside.hold(t, "answer_and_hang_up")
			outside.play(t, "call_hung_up", inside.user).saw(t, 1, "BYE ")
			answer.await(t, "hang up", func() bool { return answer.count(t, received, "SIP/2.0 200 ") > 1 })
		})
		t.Run("calls over "+transport, func(t *testing.T) {
			n.keeps(t, 120*time.Second)
			call(t, n.inside(t, transport), n.outside(t))
		})
		t.Run("calls over "+transport+" and is hung up", func(t *testing.T) {
			n.keeps(t, 120*time.Second)
			outside := n.outside(t)
			outside.register(t)
			answer := outside.listen(t, "answer_and_hang_up")
			n.inside(t, transport).play(t, "call_hung_up", outside.user).saw(t, 1, "BYE ")
			answer.wait(t)
		})
	}

	const mapping = 6 * time.Second // and what keeps it comes ten times a second
	t.Run("a mapping that is used does not end, by OPTIONS", func(t *testing.T) {
		n.keeps(t, mapping)
		outside, inside := n.outside(t), n.inside(t, "udp")
		answer := inside.start(t, "register_keep", "", "-oocsf", scenarioFile("answer"), "-key", "expires", "600")
		answer.await(t, "keep its mapping", func() bool {
			registered, kept := answer.find(t, received, "SIP/2.0 200 "), answer.find(t, sent, "OPTIONS ")
			return len(kept) > 0 && kept[len(kept)-1].at.Sub(registered[0].at) > mapping+2*time.Second
		})
		outside.play(t, "call", inside.user)
		answer.saw(t, 1, "INVITE ")
	})

	t.Run("a mapping that is used does not end, by CRLF", func(t *testing.T) {
		n.keeps(t, mapping)
		outside, inside := n.outside(t), n.inside(t, "udp")
		inside.register(t)
		keeper := n.home.command(os.Args[0])
		keeper.Env = append(os.Environ(), keepAliveEnv+"="+inside.addr()+" "+inside.server)
		p := launch(t, "the sender of CRLF", keeper)
		p.await(t, regexp.MustCompile(fmt.Sprintf(`(?m)^kept for %v$`, mapping+2*time.Second)))
		n.keeps(t, 120*time.Second)
		p.await(t, regexp.MustCompile(fmt.Sprintf(`(?m)^kept for %v$`, mapping+3*time.Second))) // as long from here on
		p.kill()
		answer := inside.listen(t, "answer")
		outside.play(t, "call", inside.user)
		answer.wait(t)
		answer.saw(t, 1, "INVITE ")
	})

	t.Run("a mapping that is not used ends", func(t *testing.T) {
		n.keeps(t, time.Second)
		outside, inside := n.outside(t), n.inside(t, "udp")
		inside.register(t)
		n.awaitNoMapping(t, inside)
		n.keeps(t, 120*time.Second)
		lost := n.lost(t)
		deaf := inside.listen(t, "answer")
		// Nobody tells the server; it repeats the INVITE as long as RFC 3261 17.1.1.2 says, and the caller hears of it.
		refused(t, outside, inside.user, 408)
		deaf.saw(t, 0, "INVITE ")
		if got := n.lost(t) - lost; got != 7 {
			t.Errorf("%d requests came to the mapping that has ended, want the 7 of an INVITE", got)
		}
		deaf.kill()

		lost = n.lost(t)
		answer := inside.hold(t, "answer")
		for _, ok := range answer.find(t, received, "SIP/2.0 200 ") {
			if got := strings.Count(ok.text, "\nContact:"); got != 1 {
				t.Errorf("%d bindings after the second REGISTER of one contact, want 1:\n%s", got, ok.text)
			}
		}
		outside.play(t, "call", inside.user)
		answer.saw(t, 1, "INVITE ")
		if got := n.lost(t) - lost; got != 0 {
			t.Errorf("%d requests came to the mapping that has ended, want none: the phone has another one", got)
		}
	})
}

// keepAliveEnv has the test binary do what no phone here can: send CRLFs (RFC 5626 3.5.1) over UDP. It is the address to
// send them from, which is in another network namespace, and the one to send them to.
const keepAliveEnv = "ROUTR_E2E_KEEP_ALIVE"

// keepAlive sends a CRLF ten times a second, and tells every second, until it is killed.
func keepAlive(from, to string) error {
	local, err := net.ResolveUDPAddr("udp4", from)
	if err != nil {
		return err
	}
	conn, err := (&net.Dialer{LocalAddr: local}).Dial("udp4", to)
	if err != nil {
		return err
	}
	defer conn.Close()
	beat := time.NewTicker(100 * time.Millisecond)
	defer beat.Stop()
	begin, told := time.Now(), time.Duration(0)
	for range beat.C {
		if _, err := conn.Write([]byte("\r\n\r\n")); err != nil {
			return err
		}
		for time.Since(begin) >= told+time.Second {
			told += time.Second
			fmt.Println("kept for", told)
		}
	}
	return nil
}

// nat is a server behind a gateway, and the way to it from behind another one.
type nat struct {
	*system
	home, router, internet namespace
}

func newNAT(t *testing.T) *nat {
	t.Helper()
	ns := newNamespaces(t, "home", "router", "internet", "gateway", "server")
	n := &nat{system: newSystem(), home: ns["home"], router: ns["router"], internet: ns["internet"]}
	connect(t, end{n.home, "out", homeAddr, true}, end{n.router, "in", "10.77.0.1", false})
	connect(t, end{n.router, "out", routerAddr, true}, end{n.internet, "router", internetAddr, false})
	connect(t, end{ns["gateway"], "out", externalAddr, true}, end{n.internet, "gateway", internetAddr, false})
	connect(t, end{ns["server"], "out", serverAddr, true}, end{ns["gateway"], "in", "10.99.0.1", false})
	n.router.run(t, routerRules, "nft", "-f", "-")
	ns["gateway"].run(t, gatewayRules, "nft", "-f", "-")

	n.host = externalAddr
	// The bus listens on a loopback interface of its own.
	args := n.one(t, fmt.Sprintf(natEdgeportYAML, serverAddr, externalAddr), "127.0.0.1:4222")
	server := launch(t, "routr one", ns["server"].command(binary, args...))
	server.await(t, saysReady)
	return n
}

// inside is a phone behind the NAT.
func (n *nat) inside(t *testing.T, transport string) *phone {
	t.Helper()
	p := n.phone(t, transport)
	p.host, p.netns = homeAddr, n.home
	return p
}

// outside is a phone with an address that everyone can reach.
func (n *nat) outside(t *testing.T) *phone {
	t.Helper()
	p := n.phone(t, "udp")
	p.host, p.netns = internetAddr, n.internet
	return p
}

// keeps sets how long the router keeps a UDP mapping that is not used; those that there are begin again with the next
// packet.
func (n *nat) keeps(t *testing.T, limit time.Duration) {
	t.Helper()
	for _, name := range []string{"udp_timeout", "udp_timeout_stream"} {
		n.router.run(t, "", "sysctl", "-qw", fmt.Sprintf("net.netfilter.nf_conntrack_%s=%d", name, limit/time.Second))
	}
}

// awaitNoMapping waits until the router has forgotten the phone.
func (n *nat) awaitNoMapping(t *testing.T, p *phone) {
	t.Helper()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for limit := time.Now().Add(30 * time.Second); ; <-poll.C {
		known := n.router.run(t, "", "cat", "/proc/net/nf_conntrack")
		if !regexp.MustCompile(`(?m)^ipv4 +2 +udp .* src=` + p.host + ` .* sport=` + strconv.Itoa(phonePort) + ` `).MatchString(known) {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("the router still has a mapping of %s:\n%s", p.addr(), known)
		}
	}
}

// lost is how many packets of the server came to the router and were for nobody behind it.
func (n *nat) lost(t *testing.T) int {
	t.Helper()
	text := n.router.run(t, "", "nft", "list", "counter", "ip", "nat", "lost")
	m := regexp.MustCompile(`packets (\d+)`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("the counter of the router is %q, want a number of packets", text)
	}
	count, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// wantExternal checks that a request names the server by the address that everyone can reach.
func (n *nat) wantExternal(t *testing.T, request, transport string) {
	t.Helper()
	via := fmt.Sprintf("\nVia: SIP/2.0/%s %s:%s;", strings.ToUpper(transport), externalAddr, sipPort)
	if !strings.Contains(request, via) {
		t.Errorf("the request has no %q:\n%s", via, request)
	}
	if route := "@" + externalAddr + ":" + sipPort; strings.Count(request, "\nRecord-Route:") != strings.Count(request, route) {
		t.Errorf("the request has a Record-Route without %s:\n%s", route, request)
	}
	if strings.Contains(request, serverAddr) {
		t.Errorf("the request shows the address %s, which is the server's own affair:\n%s", serverAddr, request)
	}
}

const (
	natEdgeportYAML = `
apiVersion: v2beta1
kind: EdgePort
ref: edgeport-01
spec:
  bindAddr: %[1]s
  externalAddrs: [%[2]s]
  localnets: [%[1]s/24]
  transport:
    - {protocol: udp, port: 5060}
    - {protocol: tcp, port: 5060}
`
	// Like a home router: every mapping has a port of its own, and what nobody inside has asked for stays outside.
	routerRules = `
table ip nat {
  counter lost {}
  chain leave {
    type nat hook postrouting priority srcnat;
    oifname "out" masquerade random
  }
  chain pass {
    type filter hook forward priority filter; policy drop;
    iifname "in" accept
    ct state established,related accept
  }
  chain arrive {
    type filter hook input priority filter;
    udp sport 5060 counter name lost
  }
}
`
	gatewayRules = `
table ip nat {
  chain arrive {
    type nat hook prerouting priority dstnat;
    iifname "out" meta l4proto { tcp, udp } th dport 5060 dnat to 10.99.0.10
  }
  chain leave {
    type nat hook postrouting priority srcnat;
    oifname "out" snat to 198.51.100.10
  }
}
`
)
