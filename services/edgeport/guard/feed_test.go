package guard

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
)

// server answers like APIBAN, with what the test says.
type server struct {
	*httptest.Server
	mu    sync.Mutex
	pages map[string]string // by path
	asked chan string
}

func serve(t *testing.T) *server {
	s := &server{pages: map[string]string{}, asked: make(chan string, 100)}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		page, ok := s.pages[r.URL.Path]
		s.mu.Unlock()
		switch {
		case strings.HasPrefix(page, "http"):
			http.Redirect(w, r, page, http.StatusFound)
		case !ok:
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"ipaddress":["no new bans"], "ID":"none"}`)
		case page == "500":
			w.WriteHeader(http.StatusInternalServerError)
		default:
			fmt.Fprint(w, page)
		}
		select {
		case s.asked <- r.URL.Path:
		default: // the test has seen enough
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) set(path, page string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pages[path] = page
}

// feeding is a guard with the feed of s, which the test asks by f.ask.
func feeding(t *testing.T, s *server) *Guard {
	t.Helper()
	cfg := defaults()
	cfg.Feed = s.URL + "/api/SECRET/banned"
	g := newGuard(t, cfg)
	g.feed.client.Transport = s.Client().Transport
	return g
}

func TestFeed(t *testing.T) {
	type step struct {
		pages map[string]string
		more  bool
		err   string
		want  string // of the addresses 192.0.2.1 to 192.0.2.4, those that are not taken
	}
	const first, second = "/api/SECRET/banned", "/api/SECRET/banned/100"
	tests := []struct {
		name  string
		steps []step
	}{
		{"a whole list, and another one", []step{
			{map[string]string{first: `{"ipaddress":["192.0.2.1","192.0.2.2"],"ID":"none"}`}, false, "", "1 2"},
			{map[string]string{first: `{"ipaddress":["192.0.2.3"]}`}, false, "", "3"},
			{map[string]string{first: `{"ipaddress":[]}`}, false, "", ""},
		}},
		{"in parts", []step{
			{map[string]string{first: `{"ipaddress":["192.0.2.1"],"ID":"100"}`, second: `{"ipaddress":["192.0.2.2"],"ID":"200"}`}, true, "", "1"},
			{nil, true, "", "1 2"},
			{nil, false, "", "1 2"}, // 400: there are no more
			{map[string]string{first + "/200": `{"ipaddress":["192.0.2.4"],"ID":"300"}`}, true, "", "1 2 4"},
		}},
		{"what is said last stays when it fails", []step{
			{map[string]string{first: `{"ipaddress":["192.0.2.1"],"ID":"none"}`}, false, "", "1"},
			{map[string]string{first: `500`}, false, "it answered 500, want 200", "1"},
			{map[string]string{first: `<html>`}, false, "want an object with ipaddress and ID", "1"},
			{map[string]string{first: `{"ipaddress":{"a":1}}`}, false, "want a list of addresses in ipaddress", "1"},
			{map[string]string{first: `{"ipaddress":["` + strings.Repeat("x", maxFile) + `"]}`}, false, "more than 16 MiB", "1"},
			{map[string]string{first: "http://192.0.2.1/"}, false, "it redirects to what is not https", "1"},
		}},
		{"what is not believed", []step{
			{map[string]string{first: `{"ipaddress":["0.0.0.0/0","192.0.0.0/15","::/0","2001::/16","example.com","192.0.2.4"],"ID":"none"}`}, false, "", "4"},
		}},
		{"one that goes in circles", []step{
			{map[string]string{first: `{"ipaddress":["192.0.2.1"],"ID":"100"}`, second: `{"ipaddress":["192.0.2.2"],"ID":"100"}`}, true, "", "1"},
			{nil, false, "", "1 2"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t)
			g := feeding(t, s)
			for i, st := range tt.steps {
				for path, page := range st.pages {
					s.set(path, page)
				}
				more, err := g.feed.ask(t.Context())
				if more != st.more || (err != nil) != (st.err != "") || err != nil && !strings.Contains(err.Error(), st.err) {
					t.Errorf("step %d: ask = %t, %v, want %t, %q", i, more, err, st.more, st.err)
				}
				if err != nil && strings.Contains(err.Error(), "SECRET") {
					t.Errorf("step %d: %v has the key in it", i, err)
				}
				got := ""
				for n := 1; n <= 4; n++ {
					if g.Barred(addr(fmt.Sprintf("192.0.2.%d", n))) {
						got += fmt.Sprintf(" %d", n)
					}
				}
				if strings.TrimSpace(got) != st.want {
					t.Errorf("step %d:%s are barred, want %s", i, got, st.want)
				}
			}
		})
	}
}

// Run asks at once, then for the next part after a pause, then after the interval, and goes on after errors.
func TestFeedIsFollowed(t *testing.T) {
	s := serve(t)
	cfg := defaults()
	cfg.Feed, cfg.FeedInterval = s.URL+"/banned", time.Millisecond
	var log bytes.Buffer
	g, err := New(cfg, slog.New(slog.NewTextHandler(&log, nil)), noop.Meter{})
	if err != nil {
		t.Fatal(err)
	}
	g.feed.client.Transport, g.feed.pause = s.Client().Transport, time.Millisecond
	s.set("/banned", `{"ipaddress":["192.0.2.1"],"ID":"7"}`)
	s.set("/banned/7", "500")
	run(t, g)
	for _, want := range []string{"/banned", "/banned/7", "/banned/7", "/banned/7"} {
		select {
		case got := <-s.asked:
			if got != want {
				t.Fatalf("asked for %s, want %s", got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("nothing was asked, want %s", want)
		}
	}
	if !g.Barred(addr("192.0.2.1")) {
		t.Error("what the feed lists is not barred, want that it is")
	}
}
