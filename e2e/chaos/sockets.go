package main

import (
	"context"
	"fmt"
	"net/http"
	"syscall"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

const (
	// sessionsOfSockets is how many sessions the WebSockets belong to.
	sessionsOfSockets = 20
	// shortest is the shortest absolute_timeout that there is.
	shortest = time.Minute
	// refused is how many handshakes are made when a session has ended.
	refused = 25
	// spareDescriptors is what a process needs besides its WebSockets.
	spareDescriptors = 1500
)

// playSockets opens WebSockets through reverse_proxy and closes them again, and does so once more: this time the provider revokes half of
// the sessions, and the other half ends by its age, while all WebSockets are open. Those go on, as a session is looked at when one is
// opened, but nobody opens another one.
func playSockets(ctx context.Context, t *site) error {
	gateways, err := t.raiseLimit()
	if err != nil {
		return err
	}
	address, stop, err := startSocketApplication(ctx)
	if err != nil {
		return err
	}
	t.closers = append(t.closers, stop)
	if err := t.start(t.caddyfile(options{absolute: shortest.String(), upstream: address}), gateways); err != nil {
		return err
	}
	t.noteDone("%d WebSockets through %d Caddys", t.sockets, gateways)

	owners, _, err := t.signInOwners(ctx)
	if err != nil {
		return err
	}
	sockets := t.openAll(ctx, owners)
	t.echo(sockets)
	closeAll(sockets)
	if t.before, err = t.atRest(ctx, nil); err != nil {
		return err
	}

	t.provider.RevokeRefreshTokens() // of the first sessions
	owners, since, err := t.signInOwners(ctx)
	if err != nil {
		return err
	}
	sockets = t.openAll(ctx, owners)
	took := time.Since(since)
	if took > shortest*3/4 {
		closeAll(sockets)
		return fmt.Errorf("the machine is too slow: %d WebSockets took %s, and sessions live for %s; see -sockets", t.sockets, took, shortest)
	}
	open, err := t.measure(ctx)
	if err != nil {
		return err
	}
	t.noteDone("%d open after %s: %s", len(sockets), took.Round(100*time.Millisecond), open)
	t.room.resident = open.resident / 10 // which the runtime takes minutes to give back
	half := owners[:len(owners)/2]
	for _, o := range half {
		t.provider.RevokeSubject(o.subject)
	}
	_ = pause(ctx, tokenLifetime+time.Second)
	t.expectRefused(ctx, "handshakes, revoked sessions", half)
	for _, o := range owners[len(owners)/2:] {
		s, status := o.handshake(ctx, "handshakes, sessions that live")
		if s == nil {
			t.tally.violation("status %d for a handshake with a session that lives", status)
			continue
		}
		sockets = append(sockets, s)
	}
	_ = pause(ctx, time.Until(since.Add(shortest+time.Second)))
	t.expectRefused(ctx, "handshakes, old sessions", owners)
	t.echo(sockets)
	closeAll(sockets)
	return t.compare(ctx)
}

// raiseLimit allows this process as many open files as it may have, which others inherit, and returns how many gateways it takes: each has
// two connections for a WebSocket.
func (t *site) raiseLimit() (gateways int, err error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	most := int(min(limit.Max, 1<<20)) - spareDescriptors
	if most < t.sockets {
		return 0, fmt.Errorf("%d WebSockets need more open files than the %d that are allowed; see ulimit -Hn and -sockets", t.sockets, limit.Max)
	}
	return (2*t.sockets + most - 1) / most, nil
}

// signInOwners has people sign in whom the WebSockets belong to.
func (t *site) signInOwners(ctx context.Context) (owners []*owner, since time.Time, err error) {
	since = time.Now()
	for i := range sessionsOfSockets {
		o := &owner{browser: t.newBrowser(), subject: fmt.Sprint("owner-", i)}
		t.provider.SetUser(optest.Claims{"sub": o.subject})
		a, _, err := o.open(ctx, newLogin, "/page")
		if err != nil {
			return nil, since, err
		}
		if a.status != http.StatusOK || a.header.Get(subjectHeader) != o.subject {
			return nil, since, fmt.Errorf("signing in %s ends with status %d", o.subject, a.status)
		}
		owners = append(owners, o)
	}
	return owners, since, nil
}

// expectRefused wants status 401 for every handshake: a WebSocket cannot follow a redirect.
func (t *site) expectRefused(ctx context.Context, who string, owners []*owner) {
	for _, o := range owners {
		for range refused {
			s, status := o.handshake(ctx, who)
			if status != http.StatusUnauthorized {
				t.tally.violation("%s: status %d for %s, whose session has ended", who, status, o.subject)
			}
			if s != nil {
				s.Close()
			}
		}
	}
}
