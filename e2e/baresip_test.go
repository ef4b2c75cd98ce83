package e2e_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// TestE6Baresip has two softphones register, one call the other, the other answer, media flow, each hang up once, and each
// send the other a message, over the same and over different transports.
func TestE6Baresip(t *testing.T) {
	t.Parallel()
	s := startOne(t)
	for _, transports := range [][2]string{{"udp", "udp"}, {"tcp", "tcp"}, {"tls", "tls"}, {"udp", "tcp"}, {"tcp", "udp"}, {"udp", "tls"}, {"tls", "udp"}} {
		t.Run(transports[0]+" to "+transports[1], func(t *testing.T) {
			t.Parallel()
			from, to := s.phone(t, transports[0]), s.phone(t, transports[1])
			caller, callee := startBaresip(t, from, to), startBaresip(t, to, from)
			for _, hangsUp := range []*baresip{caller, callee} {
				caller.do(t, "dial", "sip:"+callee.user+"@"+domain)
				callee.await(t, "CALL_INCOMING")
				caller.await(t, "CALL_RINGING")
				callee.do(t, "accept", "")
				caller.await(t, "CALL_ESTABLISHED")
				callee.await(t, "CALL_ESTABLISHED")
				caller.process.await(t, receivesMedia)
				callee.process.await(t, receivesMedia)
				hangsUp.do(t, "hangup", "")
				caller.await(t, "CALL_CLOSED")
				callee.await(t, "CALL_CLOSED")
			}
			for _, way := range [][2]*baresip{{caller, callee}, {callee, caller}} {
				text := "from " + way[0].user + " over " + way[0].transport
				way[0].do(t, "message", text)
				way[1].process.await(t, regexp.MustCompile(text))
			}
			// It removes its binding before it ends.
			callee.stop(t)
			refused(t, s.phone(t, "udp"), callee.user, 480)
		})
	}
}

// What baresip prints.
var (
	isRegistered  = regexp.MustCompile(`200 OK .*\[1 binding`)
	receivesMedia = regexp.MustCompile(`(?i)incoming rtp for 'audio' established`)
)

// baresip is a softphone without a screen.
type baresip struct {
	*process
	*phone
	control net.Conn
	events  chan string // the types of the events so far that were not waited for
}

// startBaresip starts a softphone with one contact, to whom its messages go, and returns when it is registered.
func startBaresip(t *testing.T, p, contact *phone) *baresip {
	t.Helper()
	dir := t.TempDir()
	control := net.JoinHostPort(p.host, "4444")
	write(t, dir+"/config", baresipConfig, p.host, phonePort, control)
	write(t, dir+"/accounts", `<sip:%s@%s;transport=%s>;auth_pass=%s;outbound="sip:%s;transport=%[3]s";regint=600;audio_codecs=PCMU/8000/1`+"\n",
		p.user, domain, p.transport, p.password, p.server)
	write(t, dir+"/contacts", `"Contact" <sip:%s@%s>`+"\n", contact.user, domain)
	cmd := exec.Command("baresip", "-f", dir, "-v")
	if _, err := cmd.StdinPipe(); err != nil { // left open: baresip ends with its input
		t.Fatal(err)
	}
	b := &baresip{process: launch(t, "baresip", cmd), phone: p, events: make(chan string, 1000)}
	b.process.await(t, isRegistered)
	var err error
	if b.control, err = net.Dial("tcp4", control); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.control.Close() })
	go b.read()
	return b
}

// read passes on the events that baresip reports, until the connection ends. They come as netstrings of JSON.
func (b *baresip) read() {
	defer close(b.events)
	r := bufio.NewReader(b.control)
	for {
		length, err := r.ReadString(':')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(length[:len(length)-1])
		if err != nil {
			return
		}
		text := make([]byte, n+1) // and a comma
		if _, err := io.ReadFull(r, text); err != nil {
			return
		}
		var event struct{ Type string }
		if err := json.Unmarshal(text[:n], &event); err != nil {
			return
		}
		b.events <- event.Type
	}
}

// do gives the phone a command.
func (b *baresip) do(t *testing.T, command, params string) {
	t.Helper()
	text, err := json.Marshal(map[string]string{"command": command, "params": params})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(b.control, "%d:%s,", len(text), text); err != nil {
		t.Fatal(err)
	}
}

// await waits for an event of that type; what comes before it is forgotten.
func (b *baresip) await(t *testing.T, event string) {
	t.Helper()
	limit := time.After(10 * time.Second)
	for {
		select {
		case got, ok := <-b.events:
			switch {
			case !ok:
				t.Fatalf("baresip of %s is gone, want event %s", b.user, event)
			case got == event:
				return
			}
		case <-limit:
			t.Fatalf("baresip of %s reported no %s within 10 s", b.user, event)
		}
	}
}

// Without a sound card: a tone is what it says, and what it hears goes nowhere.
const baresipConfig = `
poll_method       epoll
net_interface     %[1]s
sip_listen        %[1]s:%[2]d
rtp_ports         16000-16100
audio_source      ausine,440
audio_player      aubridge,heard
audio_alert       aubridge,alert
ausrc_srate       48000
auplay_srate      48000
ausrc_channels    2
auplay_channels   2
module_path       /usr/lib/baresip/modules
module            g711.so
module            ausine.so
module            aubridge.so
module            uuid.so
module            stdio.so
module_tmp        account.so
module_app        contact.so
module_app        menu.so
module_app        ctrl_tcp.so
ctrl_tcp_listen   %[3]s
`
