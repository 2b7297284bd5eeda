// Package docs holds the documentation. The pages of docs/reference are generated from the program:
//
//	go generate ./docs
//
// A test of the generator proves that the committed pages are what the program says today.
package docs

//go:generate go run ../internal/tools/docgen -root ..
