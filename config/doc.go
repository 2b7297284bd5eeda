// Package config reads warder.yaml: one file, one document, strictly.
//
// Every package of the path owns a Config struct; [Config] lists them in the order of the path, so
// the file reads as a request travels. A key that nobody knows, a key given twice, a second
// document, an alias, a value of the wrong type and a value that makes no sense are all errors, and
// [Load] reports every one of them at once, with file, line, column and the text in question:
//
//	cfg, err := config.Load("warder.yaml")
//	if e, ok := errors.AsType[*config.Error](err); ok {
//		e.Render(os.Stderr)
//	}
//
// The zero value of a security field is the strict one, so an empty file is valid and exposes
// nothing (TAB-03). Secrets never stand in the file, only references to them: package
// internal/secret.
//
// Controls: TAB-03 (tab03_defaults.go).
package config
