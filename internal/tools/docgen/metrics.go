package main

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A metric is one instrument as the source declares it.
type metric struct {
	name, help string
	labels     []string
}

// metricsPage lists the instruments that internal/telemetry and app declare.
func metricsPage(root string) (string, error) {
	var all []metric
	for _, pattern := range []string{"internal/telemetry/*.go", "app/*.go"} {
		names, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil {
			return "", err
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			found, err := metricsOf(name)
			if err != nil {
				return "", err
			}
			all = append(all, found...)
		}
	}
	if len(all) == 0 {
		return "", errors.New("no metric is declared where metrics are declared")
	}
	slices.SortFunc(all, func(a, b metric) int { return strings.Compare(a.name, b.name) })
	var b strings.Builder
	b.WriteString(heading("Metrics",
		"The admin listener serves these at `/metrics` in the Prometheus text format. Labels have bounded values:\n"+
			"servers that are not configured count as `other`. The metrics of the Go runtime and of the process come beside."))
	b.WriteString(table("Metric", "Kind", "Labels", "Meaning"))
	for _, m := range all {
		b.WriteString(row(code(m.name), m.kind(), strings.Join(m.labels, ", "), m.help))
	}
	return b.String(), nil
}

func (m metric) kind() string {
	switch {
	case strings.HasSuffix(m.name, "_total"):
		return "counter"
	case strings.HasSuffix(m.name, "_seconds"):
		return "histogram"
	default:
		return "gauge"
	}
}

// metricsOf finds calls of NewDesc, Counter and Gauge whose first argument is the name of a metric.
func metricsOf(path string) ([]metric, error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var found []metric
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) < 3 {
			return true
		}
		name, help := literal(call.Args[0]), literal(call.Args[1])
		if !strings.HasPrefix(name, "warder_") {
			return true
		}
		m := metric{name: name, help: help}
		if list, ok := call.Args[2].(*ast.CompositeLit); ok {
			for _, e := range list.Elts {
				m.labels = append(m.labels, literal(e))
			}
		}
		found = append(found, m)
		return true
	})
	return found, nil
}

// literal is the text of a string literal, or of several joined with +.
func literal(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		if err != nil {
			return ""
		}
		return text
	case *ast.BinaryExpr:
		return literal(e.X) + literal(e.Y)
	default:
		return ""
	}
}
