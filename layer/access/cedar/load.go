package cedar

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/access"
)

// Bounds of what is loaded.
const (
	maxPolicyFile = 4 << 20 // bytes
	maxPolicies   = 20_000
)

// A policy is one loaded policy.
type policy struct {
	id          types.PolicyID
	source      types.Position
	permit      bool
	obligations []warder.Obligation // of a permit
	scopes      []string            // of the @scopes annotation: what a principal needs so that this policy can permit
	final       *cedar.Policy       // as written
	open        *cedar.Policy       // without what needs arguments or findings; nil if it then says nothing
	ast         *ast.Policy
	mask        uint64 // actions its scope admits
	uses        uses
	args        shape
}

// readAll reads the policy texts of a configuration, in a stable order.
func readAll(cfg access.Config) ([]document, error) {
	var docs []document
	var errs []error
	for _, pattern := range cfg.Policies {
		found, err := readPattern(pattern)
		if err != nil {
			errs = append(errs, err)
		}
		docs = append(docs, found...)
	}
	if cfg.Inline != "" {
		docs = append(docs, document{"inline", []byte(cfg.Inline)})
	}
	return docs, errors.Join(errs...)
}

type document struct {
	name string
	text []byte
}

// readPattern reads the files whose last path element matches; that none does is an error.
func readPattern(pattern string) ([]document, error) {
	root, err := os.OpenRoot(filepath.Dir(pattern))
	if err != nil {
		return nil, fmt.Errorf("policies %q: %w", pattern, err)
	}
	defer root.Close()
	names, err := fs.Glob(root.FS(), filepath.Base(pattern))
	if err != nil {
		return nil, fmt.Errorf("policies %q: %w", pattern, err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("policies %q: no file matches", pattern)
	}
	slices.Sort(names)
	docs := make([]document, 0, len(names))
	for _, name := range names {
		text, err := readFile(root, name)
		if err != nil {
			return nil, fmt.Errorf("policies %q: %w", pattern, err)
		}
		docs = append(docs, document{filepath.Join(filepath.Dir(pattern), name), text})
	}
	return docs, nil
}

func readFile(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPolicyFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxPolicyFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxPolicyFile)
	}
	return text, nil
}

// parse turns documents into checked policies. Every fault of every policy is reported.
func (v *vocabulary) parse(docs []document) ([]*policy, error) {
	var out []*policy
	var errs []error
	seen := map[types.PolicyID]types.Position{}
	for _, d := range docs {
		list, err := cedar.NewPolicyListFromBytes(d.name, d.text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", d.name, err))
			continue
		}
		for _, p := range list {
			one, err := v.prepare(p)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if first, taken := seen[one.id]; taken {
				errs = append(errs, fmt.Errorf("%s: policy %q: same id as the policy at %s", position(one.source), one.id, position(first)))
				continue
			}
			seen[one.id] = one.source
			out = append(out, one)
		}
	}
	if len(out) > maxPolicies {
		errs = append(errs, fmt.Errorf("%d policies, want at most %d", len(out), maxPolicies))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b *policy) int { return strings.Compare(string(a.id), string(b.id)) })
	return out, nil
}

// prepare checks one policy against the schema and derives what deciding needs.
func (v *vocabulary) prepare(p *cedar.Policy) (*policy, error) {
	tree := (*ast.Policy)(p.AST())
	out := &policy{source: p.Position(), permit: p.Effect() == cedar.Permit, final: p, ast: tree}
	notes := p.Annotations()
	if id := notes["id"]; id != "" {
		out.id = types.PolicyID(id)
	} else {
		out.id = types.PolicyID(position(out.source))
	}
	out.scopes = strings.Fields(string(notes["scopes"]))
	var err error
	if out.obligations, err = obligations(notes, out.permit); err != nil {
		return nil, fmt.Errorf("%s: policy %q: %w", position(out.source), out.id, err)
	}
	for i := range out.obligations {
		out.obligations[i].Policy = string(out.id)
	}

	r := reader{schema: v.schema}
	r.read(tree)
	r.args.settle()
	out.uses, out.args = r.uses, r.args
	mask, err := v.mask(tree.Action)
	if err != nil {
		return nil, fmt.Errorf("%s: policy %q: %w", position(out.source), out.id, err)
	}
	out.mask = mask
	errs := r.errs
	if len(errs) == 0 {
		// With the types its own use of the arguments calls for, the policy must satisfy the schema.
		if err := validate.New(v.narrowed(out.args.record(), mask)).Policy("", tree); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("%s: policy %q: %s", position(out.source), out.id, oneLine(errs))
	}
	if opened := open(tree); opened != nil {
		out.open = cedar.NewPolicyFromAST(opened)
	}
	return out, nil
}

func oneLine(errs []error) string {
	return strings.ReplaceAll(errors.Join(errs...).Error(), "\n", "; ")
}

func position(p types.Position) string {
	return fmt.Sprintf("%s:%d:%d", p.Filename, p.Line, p.Column)
}

// mask lists the actions that a policy's scope admits.
func (v *vocabulary) mask(scope ast.IsActionScopeNode) (uint64, error) {
	switch s := scope.(type) {
	case ast.ScopeTypeAll:
		return ^uint64(0), nil
	case ast.ScopeTypeEq:
		return v.actions[string(s.Entity.ID)].bit, nil // "action == group" matches no message
	case ast.ScopeTypeIn:
		return v.masks[s.Entity], nil
	case ast.ScopeTypeInSet:
		var m uint64
		for _, e := range s.Entities {
			m |= v.masks[e]
		}
		return m, nil
	default:
		return 0, fmt.Errorf("unknown action scope %T", scope)
	}
}
