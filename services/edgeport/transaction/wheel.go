package transaction

import "time"

// tick is how fine the timers are. RFC 3261's shortest, T1, is ten of them.
const tick = 50 * time.Millisecond

// wheelSlots times tick is 51.2 s, more than 64*T1; a later timer passes its slot until its lap comes.
const wheelSlots = 1024

func ticks(d time.Duration) uint64 { return uint64((d + tick - 1) / tick) }

// wheel holds the timers of a shard, each in the slot of its due tick. Setting and stopping a timer costs the same
// whatever their number. It is guarded by the shard's lock.
type wheel struct {
	now      uint64 // the last tick that was run
	slots    [wheelSlots]*timer
	expiring *timer // what is due now; a list of its own, as each owner may set and stop any timer
}

// timer is part of what it wakes. A transaction has one: the next moment at which it has something to do.
type timer struct {
	due   uint64
	next  *timer
	at    **timer // what points to it: the head of its list or the timer before; nil when it is not set
	owner interface{ expire(now uint64) }
}

// set makes t expire at tick due, whatever it was set to before.
func (w *wheel) set(t *timer, due uint64) {
	w.stop(t)
	if due <= w.now {
		due = w.now + 1
	}
	t.due = due
	t.link(&w.slots[due%wheelSlots])
}

// link puts t, which is not set, at the head of a list.
func (t *timer) link(head **timer) {
	t.at, t.next = head, *head
	if t.next != nil {
		t.next.at = &t.next
	}
	*head = t
}

// stop makes t not expire.
func (w *wheel) stop(t *timer) {
	if t.at == nil {
		return
	}
	*t.at = t.next
	if t.next != nil {
		t.next.at = t.at
	}
	t.next, t.at = nil, nil
}

// advance expires every timer that is due up to and including tick now.
func (w *wheel) advance(now uint64) {
	if now-w.now > wheelSlots && now > w.now { // the process was stopped for longer than a lap: one lap sees every timer
		w.now = now - wheelSlots
	}
	for w.now < now {
		w.now++
		for t := w.slots[w.now%wheelSlots]; t != nil; {
			next := t.next
			if t.due <= w.now {
				w.stop(t)
				t.link(&w.expiring)
			}
			t = next
		}
		for w.expiring != nil {
			t := w.expiring
			w.stop(t)
			t.owner.expire(w.now)
		}
	}
}
