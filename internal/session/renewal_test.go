package session

import (
	"errors"
	"math"
	"reflect"
	"testing"
	"time"
)

func TestRenewalBounds(t *testing.T) {
	t.Parallel()
	r, err := parseRenewal((&Renewal{Generation: math.MaxUint64, Failures: math.MaxInt}).marshal())
	if err != nil || r.Generation != math.MaxUint64 || r.Failures != maxFailures {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err = parseRenewal((&Renewal{Failures: -1}).marshal()); err != nil || r.Failures != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	good := (&Renewal{}).marshal()
	for name, more := range map[string][]byte{
		"a generation alone":   {tagRenewalReplaced, 1, 5},
		"a number cut off":     {tagRenewalReplaced, 2, 5, 0x80},
		"late":                 {tagRenewalReplaced, 8, 5, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"ended more than once": {tagRenewalEnded, 1, 2},
		"too many failures":    {tagRenewalFailures, 5, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"twice":                {tagRenewalGeneration, 1, 0},
	} {
		if r, err := parseRenewal(append(append([]byte{}, good...), more...)); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

// What is past is dropped: the rest stays as long as it was granted for.
func TestRenewalCurrent(t *testing.T) {
	t.Parallel()
	now := testNow()
	in := func(seconds int) time.Time { return now.Add(time.Duration(seconds) * time.Second) }
	many := &Renewal{Generation: 1000}
	var newest []Replaced
	for i := range uint64(maxReplaced + 36) {
		many.Replaced = append(many.Replaced, Replaced{100 + i, in(10)})
		if i < maxReplaced {
			newest = append(newest, Replaced{100 + maxReplaced + 35 - i, in(10)})
		}
	}
	for name, test := range map[string]struct{ given, want *Renewal }{
		"all of it": {
			&Renewal{Generation: 7, Sealed: "x", Until: in(1), Replaced: []Replaced{{6, in(1)}}, Failures: 2, RetryAt: in(-59)},
			&Renewal{Generation: 7, Sealed: "x", Until: in(1), Replaced: []Replaced{{6, in(1)}}, Failures: 2, RetryAt: in(-59)},
		},
		"past": {
			&Renewal{Generation: 7, Sealed: "x", Until: now, Replaced: []Replaced{{6, now}, {5, in(-1)}}, Failures: 2, RetryAt: in(-60)},
			&Renewal{Generation: 7},
		},
		"ended": {
			&Renewal{Generation: 7, Ended: true, Sealed: "x", Until: in(1), Replaced: []Replaced{{6, in(1)}}, Failures: 2, RetryAt: in(1)},
			&Renewal{Generation: 7, Ended: true},
		},
		"one generation twice": {
			&Renewal{Generation: 7, Replaced: []Replaced{{5, in(3)}, {6, in(2)}, {6, in(1)}, {5, in(4)}}},
			&Renewal{Generation: 7, Replaced: []Replaced{{6, in(1)}, {5, in(3)}}},
		},
		"too many": {many, &Renewal{Generation: 1000, Replaced: newest}},
	} {
		given := reflect.ValueOf(*test.given).Interface()
		if got := test.given.current(now); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v", name, got)
		}
		if !reflect.DeepEqual(*test.given, given) {
			t.Errorf("%s: what was given has changed", name)
		}
	}
}

func TestRenewalExpires(t *testing.T) {
	t.Parallel()
	now := testNow()
	for want, r := range map[time.Duration]*Renewal{
		0:               {Generation: 1},
		5 * time.Minute: {Until: now.Add(5 * time.Minute), RetryAt: now.Add(time.Minute), Replaced: []Replaced{{1, now.Add(time.Second)}}},
		6 * time.Minute: {Until: now.Add(5 * time.Minute), RetryAt: now.Add(6 * time.Minute)},
		7 * time.Minute: {Until: now.Add(5 * time.Minute), Replaced: []Replaced{{1, now.Add(7 * time.Minute)}, {0, now.Add(time.Minute)}}},
		8 * time.Minute: {Until: now.Add(8 * time.Minute)},
	} {
		if got := r.expires(now); !got.Equal(now.Add(want + time.Minute)) {
			t.Errorf("%+v: %v", r, got.Sub(now))
		}
	}
}

func TestRenewalMerge(t *testing.T) {
	t.Parallel()
	six, seven := &Renewal{Generation: 6, Sealed: "six"}, &Renewal{Generation: 7, Sealed: "seven"}
	ended := &Renewal{Generation: 6, Ended: true}
	for name, test := range map[string]struct{ renewal, spent, want *Renewal }{
		"nothing":      {nil, nil, nil},
		"renewal":      {seven, nil, seven},
		"spent":        {nil, ended, ended},
		"later":        {seven, ended, seven},
		"earlier":      {six, &Renewal{Generation: 7}, &Renewal{Generation: 7}},
		"the same":     {seven, &Renewal{Generation: 7}, seven},
		"it has ended": {six, ended, &Renewal{Generation: 6, Sealed: "six", Ended: true}},
	} {
		if got := merge(test.renewal, test.spent); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
