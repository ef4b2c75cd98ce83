package e2e_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A relay passes on the bytes of connections to a server, until the connections are lost.
type relay struct {
	listener net.Listener
	server   string

	mu    sync.Mutex
	links map[*link]bool // false: lost
	stray int            // bytes that the server sent on lost links
}

// link is one connection of a client, and that to the server.
type link struct{ client, server *net.TCPConn }

// startRelay starts a relay to server, on another port of its host.
func startRelay(t *testing.T, server string) *relay {
	t.Helper()
	host, _, err := net.SplitHostPort(server)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l, server: server, links: make(map[*link]bool)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.accept()
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		r.cut()
	})
	return r
}

func (r *relay) addr() string { return r.listener.Addr().String() }

func (r *relay) accept() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp4", r.server)
		if err != nil {
			client.Close() // a server that is down refuses
			continue
		}
		k := &link{client.(*net.TCPConn), server.(*net.TCPConn)}
		r.mu.Lock()
		r.links[k] = true
		r.mu.Unlock()
		go r.up(k)
		go r.down(k)
	}
}

// up passes on what the client sends, until it ends; the server is told of the end unless the link was lost.
func (r *relay) up(k *link) {
	io.Copy(k.server, k.client)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.links[k] {
		r.end(k)
	}
}

// down passes on what the server sends, until it ends.
func (r *relay) down(k *link) {
	b := make([]byte, 64<<10)
	for {
		n, err := k.server.Read(b)
		if err != nil {
			break
		}
		if _, err := k.client.Write(b[:n]); err != nil {
			r.mu.Lock()
			r.stray += n
			r.mu.Unlock()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end(k)
}

// end closes a link. r.mu is held.
func (r *relay) end(k *link) {
	delete(r.links, k)
	k.client.Close()
	k.server.Close()
}

// cut resets every connection at both ends.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.links {
		k.client.SetLinger(0)
		k.server.SetLinger(0)
		r.end(k)
	}
}

// lose resets every connection at the client's end. To the server they look alive.
func (r *relay) lose() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.links {
		r.links[k] = false
		k.client.SetLinger(0)
		k.client.Close()
	}
}

// strayed is how many bytes the server has sent on lost connections.
func (r *relay) strayed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stray
}
