package cluster

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
)

// keptEntries bounds what is kept of a log: the newest.
const keptEntries = 20_000

// Entry is a line of Caddy's log.
type Entry struct {
	Level   string
	Logger  string
	Message string
	Reason  string
	Text    string // the whole line
}

// Log takes the log of a Caddy, also over its restarts.
type Log struct {
	mu      sync.Mutex
	entries []Entry
	rest    []byte // of a line that has not ended
}

// Write takes a piece of the log.
func (l *Log) Write(piece []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, piece...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok {
			return len(piece), nil
		}
		l.add(string(line))
		l.rest = bytes.Clone(rest)
	}
}

func (l *Log) add(line string) {
	var fields struct {
		Level  string `json:"level"`
		Logger string `json:"logger"`
		Msg    string `json:"msg"`
		Reason string `json:"reason"`
	}
	entry := Entry{Level: "panic", Text: line}
	if err := json.Unmarshal([]byte(line), &fields); err == nil {
		entry = Entry{Level: fields.Level, Logger: fields.Logger, Message: fields.Msg, Reason: fields.Reason, Text: line}
	}
	if len(l.entries) == keptEntries {
		l.entries = append(l.entries[:0:0], l.entries[keptEntries/2:]...)
	}
	l.entries = append(l.entries, entry)
}

// Entries returns what was logged, oldest first.
func (l *Log) Entries() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Entry(nil), l.entries...)
}

// Of returns the entries of one level. What is not of the form of Caddy's log, such as a stack trace, has the level "panic".
func (l *Log) Of(level string) []Entry {
	var found []Entry
	for _, entry := range l.Entries() {
		if entry.Level == level {
			found = append(found, entry)
		}
	}
	return found
}

// String is the log as it was written.
func (l *Log) String() string {
	var text strings.Builder
	for _, entry := range l.Entries() {
		text.WriteString(entry.Text + "\n")
	}
	return text.String()
}
