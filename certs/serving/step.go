package serving

import "time"

// Step is what is to be done next.
type Step string

// The steps of a rotation, in their order. Each is one request, and is right whether or not the former has been seen by
// every API server and every replica, since what was waited for is part of the condition.
const (
	// Propose puts a new pair into the Secret, as the next one. Nobody serves it.
	Propose Step = "propose"
	// Publish adds to the caBundle what it lacks of the Secret's CAs.
	Publish Step = "publish"
	// Switch makes the next pair the one that is served.
	Switch Step = "switch"
	// Drop takes out of the caBundle every CA but the current one.
	Drop Step = "drop"
	// Hold waits until every API server, or every replica, has seen what was done.
	Hold Step = "hold"
	// Await waits for the webhook configuration: it is not this program's to make.
	Await Step = "await"
	// Rest waits for the time to renew.
	Rest Step = "rest"
)

// firstHold is how long the first certificate of all is held back, when nobody is served yet. Whatever propagation is: a
// replica becomes ready with it, and by then API servers should know its CA.
const firstHold = 5 * time.Second

// step says what is next, and when to look again if nothing changes until then: held is how long it has been as it is, and
// propagation how long that takes to be known everywhere.
func (s *state) step(now time.Time, held, propagation time.Duration) (next Step, again time.Duration) {
	hold := func(then Step, span time.Duration) (Step, time.Duration) {
		if held < span {
			return Hold, span - held
		}
		return then, 0
	}
	switch {
	case s.next != nil && !s.next.fits(s.hosts, now), s.next == nil && s.current == nil:
		return Propose, 0
	case len(s.bundles) == 0:
		return Await, 0
	case !s.published():
		return Publish, 0
	case s.next != nil && s.first():
		return hold(Switch, min(propagation, firstHold))
	case s.next != nil:
		return hold(Switch, propagation)
	case s.strays():
		return hold(Drop, propagation)
	case s.requested, !s.current.fits(s.hosts, now), !now.Before(s.current.renewal()):
		return Propose, 0
	}
	return Rest, s.current.renewal().Sub(now)
}

// first tells whether nobody can be served yet: no pair has come before the next one, nor has the CA of any.
func (s *state) first() bool { return s.current == nil && !s.strays() }
