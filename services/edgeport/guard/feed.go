package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

const (
	// pagePause is between two questions of one round: APIBAN answers five in two minutes.
	pagePause = 30 * time.Second
	// feedTimeout is for one question.
	feedTimeout = 30 * time.Second
	// listedTime is how long an address of a list that comes in parts stays: it is in another part if it is active again.
	listedTime = 7 * 24 * time.Hour
	// What a feed calls bad is an address or a small network. A larger one is a mistake, or malice, and is not believed.
	minListed4, minListed6 = 16, 32 // bits
)

// feed is a list that others keep, in the format of APIBAN (https://www.apiban.org/doc.html). It is not kept over a
// restart.
type feed struct {
	list
	url    string // of a remote one
	client *http.Client
	pause  time.Duration

	// Of the goroutine that asks.
	id     string // of the last part
	listed map[netip.Prefix]time.Time
}

// from makes f the feed of a file or of an https URL.
func (f *feed) from(source string) {
	f.name, f.parse, f.pause = "feed", parseFeedFile, pagePause
	switch {
	case source == "":
	case strings.HasPrefix(source, "https://"):
		f.url = strings.TrimSuffix(source, "/")
		f.listed = make(map[netip.Prefix]time.Time)
		f.client = &http.Client{Timeout: feedTimeout, CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if r.URL.Scheme != "https" || len(via) > 3 {
				return errors.New("it redirects to what is not https, or too often")
			}
			return nil
		}}
	default:
		f.files = []string{source}
	}
}

// page is a feed, or a part of one.
type page struct {
	Addresses json.RawMessage `json:"ipaddress"`
	ID        string          `json:"ID"`
}

// last says whether no part follows.
func (p page) last() bool { return p.ID == "" || p.ID == "none" }

// parsePage reads a feed. What is no address in it, such as "no new bans", is passed over.
func parsePage(text []byte) (page, []netip.Prefix, error) {
	var p page
	if err := json.Unmarshal(text, &p); err != nil {
		return p, nil, fmt.Errorf("want an object with ipaddress and ID: %w", err)
	}
	var words []string
	if err := json.Unmarshal(p.Addresses, &words); err != nil {
		var word string // instead of a list, where it says that there is none
		if err := json.Unmarshal(p.Addresses, &word); err != nil {
			return p, nil, errors.New("want a list of addresses in ipaddress")
		}
	}
	if len(words) > maxLines {
		return p, nil, errTooMany
	}
	var all []netip.Prefix
	for _, w := range words {
		net, err := ParsePrefix(w)
		if err != nil || net.Bits() < minListed6 && !net.Addr().Is4() || net.Bits() < minListed4 {
			continue
		}
		all = append(all, net)
	}
	return p, all, nil
}

func parseFeedFile(text []byte) ([]netip.Prefix, error) {
	_, all, err := parsePage(text)
	return all, err
}

// follow asks a remote feed until ctx ends. What was heard last stays in use while it cannot be reached.
func (g *Guard) follow(ctx context.Context) {
	f := &g.feed
	if f.url == "" {
		return
	}
	for {
		more, err := f.ask(ctx)
		wait := g.cfg.FeedInterval
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			g.log.Warn("the feed of the guard cannot be read, what it said before stays in use", "err", err)
		case more:
			wait = f.pause
		default:
			g.log.Debug("the feed of the guard was read", "networks", f.size())
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// ask fetches one part of the feed, and says whether to ask for another one soon. Its errors do not have the URL, which
// holds a key.
func (f *feed) ask(ctx context.Context) (more bool, err error) {
	from := f.url
	if f.id != "" {
		from += "/" + url.PathEscape(f.id)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return false, errors.New("ask the feed: spec.guard.feed.url is no URL")
	}
	resp, err := f.client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return false, fmt.Errorf("ask the feed at %s: %w", req.URL.Host, err)
	}
	defer resp.Body.Close()
	text, err := readAll(resp.Body)
	if err != nil {
		return false, fmt.Errorf("read the feed of %s: %w", req.URL.Host, err)
	}
	p, all, err := parsePage(text)
	// Its way to say that there is no other part is 400, with the ID none.
	end := resp.StatusCode == http.StatusBadRequest && err == nil && p.ID == "none"
	if resp.StatusCode != http.StatusOK && !end {
		return false, fmt.Errorf("ask the feed at %s: it answered %d, want 200", req.URL.Host, resp.StatusCode)
	}
	if err != nil {
		return false, fmt.Errorf("read the feed of %s: %w", req.URL.Host, err)
	}
	if p.last() && f.id == "" && !end { // it is the whole
		clear(f.listed)
	}
	now := time.Now()
	for net, until := range f.listed {
		if now.After(until) {
			delete(f.listed, net)
		}
	}
	for _, net := range all {
		if len(f.listed) >= maxLines {
			break
		}
		f.listed[net] = now.Add(listedTime)
	}
	nets := make([]netip.Prefix, 0, len(f.listed))
	for net := range f.listed {
		nets = append(nets, net)
	}
	f.set(nets)
	if !p.last() && p.ID != f.id {
		f.id = p.ID
		return true, nil
	}
	return false, nil
}
