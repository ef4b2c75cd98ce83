package embed

import (
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	snapshotAge = 100 * time.Millisecond // after which subscriptions are listed anew, though their number is the same
	maxAnswers  = 128                    // subjects whose count is kept; a map of so many is cheap to copy
	maxListed   = 1 << 16                // subscriptions that are looked at
)

// interest counts the subscriptions that match a subject. The server's own count (Account.Interest) ends at the first
// level of its tree that has a match, and would count either the taps or the responders, so it is counted here, over a
// snapshot of all subscriptions.
type interest struct {
	ns  *server.Server
	acc *server.Account
	now atomic.Pointer[snapshot]
}

// snapshot is not changed once it is published: an answer that is not in it is added to a copy.
type snapshot struct {
	total   int // of subscriptions, when it was taken
	taken   time.Time
	filters []string
	answers map[string]int
}

// count is how many subscriptions match subject.
func (i *interest) count(subject string) int {
	total := i.acc.TotalSubs()
	s := i.now.Load()
	if s == nil || s.total != total || time.Since(s.taken) > snapshotAge {
		s = i.list(total)
		i.now.Store(s)
	}
	if n, ok := s.answers[subject]; ok {
		return n
	}
	n := 0
	for _, f := range s.filters {
		if server.SubjectMatchesFilter(subject, f) {
			n++
		}
	}
	next := *s
	next.answers = make(map[string]int, len(s.answers)+1)
	if len(s.answers) < maxAnswers {
		for k, v := range s.answers {
			next.answers[k] = v
		}
	}
	next.answers[subject] = n
	i.now.CompareAndSwap(s, &next) // else another answer, or a newer snapshot, was first
	return n
}

func (i *interest) list(total int) *snapshot {
	s := &snapshot{total: total, taken: time.Now()}
	subs, err := i.ns.Subsz(&server.SubszOptions{Subscriptions: true, Account: i.acc.GetName(), Limit: maxListed})
	if err != nil {
		return s // only a malformed test subject is an error, and there is none
	}
	for _, d := range subs.Subs {
		s.filters = append(s.filters, d.Subject)
	}
	return s
}
