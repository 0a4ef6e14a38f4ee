package session

import (
	"context"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// BenchmarkRevocations measures what each request pays for the list, and what it weighs.
func BenchmarkRevocations(b *testing.B) {
	now := time.Unix(1_800_000_000, 0)
	until := now.Add(24 * time.Hour)
	owner := Owner{"https://id.example.com/realms/staff", "app"}
	filled := func(b *testing.B, size int) *Revocations {
		b.Helper()
		r := NewRevocations(RevocationsConfig{})
		for n := range size {
			if err := r.Add(b.Context(), now, numbered(n, until)); err != nil {
				b.Fatal(err)
			}
		}
		return r
	}
	hit, miss := benchmarkSession(), benchmarkSession()
	hit.ID = numberedID(0)
	for _, size := range []int{0, 1_000, 100_000} {
		for _, sess := range []*Session{hit, miss} {
			name := "miss"
			if sess == hit {
				name = "hit"
			}
			if size == 0 && sess == hit {
				continue
			}
			b.Run("Touches/"+strconv.Itoa(size)+"/"+name, func(b *testing.B) {
				r := filled(b, size)
				b.ReportAllocs()
				for b.Loop() {
					if r.Touches(owner, sess, now) != (sess == hit) {
						b.Fatal("wrong")
					}
				}
			})
		}
	}
	b.Run("Touches/100000/parallel", func(b *testing.B) {
		r := filled(b, 100_000)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				r.Touches(owner, miss, now)
			}
		})
	})
	b.Run("Version", func(b *testing.B) {
		r := filled(b, 100_000)
		for b.Loop() {
			_ = r.Version()
		}
	})
	b.Run("Refresh", func(b *testing.B) {
		r := following(newExpiringBackend())
		r.Refresh(context.Background(), now)
		b.ReportAllocs()
		for b.Loop() {
			r.Refresh(context.Background(), now)
		}
	})
	b.Run("Add", func(b *testing.B) {
		r := NewRevocations(RevocationsConfig{})
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			if err := r.Add(context.Background(), now, numbered(n, until)); err != nil {
				b.Fatal(err)
			}
			n++
		}
	})
	b.Run("Memory/100000", func(b *testing.B) {
		var before, after runtime.MemStats
		for b.Loop() {
			runtime.GC()
			runtime.ReadMemStats(&before)
			r := filled(b, 100_000)
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(r.Len()), "bytes/entry")
		}
	})
}
