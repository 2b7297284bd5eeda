package sample

import (
	"context"
	"errors"
	"io"
	"sort"
	"strings"
	"sync"

	"github.com/warder-mcp/warder/wire"
)

// Notes serves an honest notebook over stdio until r ends. Notes live as long as the process.
func Notes(ctx context.Context, r io.Reader, w io.Writer) error {
	s := newNotes()
	lines := wire.NewLineReader(r, 1<<20)
	for ctx.Err() == nil {
		line, err := lines.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		m, err := wire.Decode(line, wire.DefaultLimits())
		if err != nil {
			continue // a server of one trusted pipe has nobody to tell
		}
		if answer := s.handle(m); answer != nil {
			if _, err := w.Write(append(answer, '\n')); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

func newNotes() *server {
	var mu sync.Mutex
	notes := map[string]string{"welcome": "This notebook stands behind Warder."}
	s := &server{name: "notes", newest: "2025-11-25", instructions: "A small notebook. Titles are unique."}
	s.tools = map[string]tool{
		"list_notes": {
			fixed(`{"name":"list_notes","title":"List notes","description":"Lists the titles of all notes.","inputSchema":{"type":"object","properties":{},"additionalProperties":false},"annotations":{"readOnlyHint":true}}`),
			func(wire.Value) string {
				mu.Lock()
				defer mu.Unlock()
				titles := make([]string, 0, len(notes))
				for t := range notes {
					titles = append(titles, t)
				}
				sort.Strings(titles)
				return s.text(strings.Join(titles, "\n"))
			},
		},
		"read_note": {
			fixed(`{"name":"read_note","title":"Read a note","description":"Returns the text of one note.","inputSchema":{"type":"object","properties":{"title":{"type":"string","minLength":1,"maxLength":100}},"required":["title"],"additionalProperties":false},"annotations":{"readOnlyHint":true}}`),
			func(args wire.Value) string {
				mu.Lock()
				defer mu.Unlock()
				text, ok := notes[argument(args, "title")]
				if !ok {
					return `{"content":[{"type":"text","text":"There is no note with this title."}],"isError":true}`
				}
				return s.text(text)
			},
		},
		"add_note": {
			fixed(`{"name":"add_note","title":"Add a note","description":"Stores a note under a title, replacing an older one.","inputSchema":{"type":"object","properties":{"title":{"type":"string","minLength":1,"maxLength":100},"text":{"type":"string","maxLength":10000}},"required":["title","text"],"additionalProperties":false},"annotations":{"readOnlyHint":false}}`),
			func(args wire.Value) string {
				mu.Lock()
				defer mu.Unlock()
				notes[argument(args, "title")] = argument(args, "text")
				return s.text("Stored.")
			},
		},
		"delete_note": {
			fixed(`{"name":"delete_note","title":"Delete a note","description":"Deletes one note for good.","inputSchema":{"type":"object","properties":{"title":{"type":"string","minLength":1,"maxLength":100}},"required":["title"],"additionalProperties":false},"annotations":{"destructiveHint":true}}`),
			func(args wire.Value) string {
				mu.Lock()
				defer mu.Unlock()
				delete(notes, argument(args, "title"))
				return s.text("Deleted.")
			},
		},
	}
	return s
}
