package state

import (
	"context"
	"iter"
)

// All ranges over the documents that a query selects, page after page, in order of their ids. An error of
// the store is the last thing it yields.
func All(ctx context.Context, s Store, q Query) iter.Seq2[*Doc, error] {
	return func(yield func(*Doc, error) bool) {
		for page := q; ; {
			docs, err := s.List(ctx, page)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range docs {
				if !yield(&docs[i], nil) {
					return
				}
			}
			if len(docs) == 0 {
				return
			}
			page.After = docs[len(docs)-1].ID
		}
	}
}
