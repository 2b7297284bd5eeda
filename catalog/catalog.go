// Package catalog is the list of Warder's controls, the threats they answer and the texts that ask for
// them. It is the single source of the documentation's index, of "warder controls", and of the tests
// at the root that prove that every implemented control has its code, its test and its page:
//
//	c, err := catalog.Load()
//	control, ok := c.Control("PRT-02")
//
// The data are three YAML files embedded in the program: controls.yaml, threats.yaml, mappings.yaml.
package catalog

import (
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	warder "github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/strictyaml"
)

//go:embed controls.yaml
var controlsFile []byte

//go:embed threats.yaml
var threatsFile []byte

//go:embed mappings.yaml
var mappingsFile []byte

// A Control is one control of the catalogue.
type Control struct {
	// ID names the control everywhere, such as PRT-02.
	ID warder.ControlID `yaml:"id" json:"id"`
	// Title is its name for people.
	Title string `yaml:"title" json:"title"`
	// Layer is the line of defence of the framework that it belongs to.
	Layer string `yaml:"layer" json:"layer"`
	// Modes says how it acts: R at run time, G generated, V verified, O operated.
	Modes []string `yaml:"modes" json:"modes"`
	// Package is the folder of its code.
	Package string `yaml:"package" json:"package"`
	// Status is implemented or planned.
	Status string `yaml:"status" json:"status"`
	// Bullets are the numbers of the demands of the paper that it answers, 1 to 92.
	Bullets []int `yaml:"bullets" json:"bullets,omitempty"`
	// AskedBy names other texts that ask for it.
	AskedBy []string `yaml:"asked_by" json:"asked_by,omitempty"`
	// Summary says what it does; of an implemented control, what it does today.
	Summary string `yaml:"summary" json:"summary"`
	// Later says what an implemented control does not do yet.
	Later string `yaml:"later" json:"later,omitempty"`
	// Proof says how a test proves it.
	Proof string `yaml:"proof" json:"proof"`

	// Threats are the ids of the threats it answers; filled in by [Load] from threats.yaml.
	Threats []string `yaml:"-" json:"threats,omitempty"`
	// Standards are places of other texts, such as "owasp-mcp-top-10 MCP03"; filled in by [Load].
	Standards []string `yaml:"-" json:"standards,omitempty"`
}

// Implemented reports whether the control acts today.
func (c Control) Implemented() bool { return c.Status == "implemented" }

// Runtime reports whether the control acts in the data path.
func (c Control) Runtime() bool { return slices.Contains(c.Modes, "R") }

// A Threat is one of the paper's 21 threats.
type Threat struct {
	ID        string   `yaml:"id" json:"id"`
	Component string   `yaml:"component" json:"component"`
	Layers    []string `yaml:"layers" json:"layers"` // MAESTRO layers, L1 to L7
	Title     string   `yaml:"title" json:"title"`
	Controls  []string `yaml:"controls" json:"controls"` // ids, prefixes expanded
	Note      string   `yaml:"note" json:"note,omitempty"`
}

// A Standard is a text that asks for controls.
type Standard struct {
	ID    string `yaml:"id" json:"id"`
	Title string `yaml:"title" json:"title"`
	Items []Item `yaml:"items" json:"items"`
}

// An Item is one place of a standard.
type Item struct {
	ID       string   `yaml:"id" json:"id"`
	Title    string   `yaml:"title" json:"title,omitempty"`
	Controls []string `yaml:"controls" json:"controls"` // ids, prefixes expanded
}

// A Catalog is the whole catalogue. It is not changed after [Load].
type Catalog struct {
	Controls  []Control  `yaml:"controls" json:"controls"`
	Threats   []Threat   `yaml:"threats" json:"threats"`
	Standards []Standard `yaml:"standards" json:"standards"`
}

// Load reads the embedded catalogue and checks it: ids well formed and unique, words of the closed
// lists, every reference resolved.
func Load() (*Catalog, error) {
	var c Catalog
	for _, f := range []struct {
		name string
		data []byte
		into any
	}{
		{"controls.yaml", controlsFile, &struct {
			Controls *[]Control `yaml:"controls"`
		}{&c.Controls}},
		{"threats.yaml", threatsFile, &struct {
			Threats *[]Threat `yaml:"threats"`
		}{&c.Threats}},
		{"mappings.yaml", mappingsFile, &struct {
			Standards *[]Standard `yaml:"standards"`
		}{&c.Standards}},
	} {
		if err := strictyaml.Decode(f.name, f.data, f.into, nil); err != nil {
			return nil, fmt.Errorf("catalogue: %w", err)
		}
	}
	if err := errors.Join(c.check(), c.link()); err != nil {
		return nil, fmt.Errorf("catalogue: %w", err)
	}
	return &c, nil
}

// Control returns the control with the id.
func (c *Catalog) Control(id warder.ControlID) (Control, bool) {
	i := slices.IndexFunc(c.Controls, func(k Control) bool { return k.ID == id })
	if i < 0 {
		return Control{}, false
	}
	return c.Controls[i], true
}

var idForm = regexp.MustCompile(`^[A-Z][A-Z0-9]{1,4}-[0-9]{2}$`)

// Modes lists how a control can act: at run time, generated, verified, operated.
func Modes() []string { return []string{"R", "G", "V", "O"} }

// Layers lists the lines of defence: the seven of the paper, then hosting and assurance.
func Layers() []string {
	return []string{"network", "gateway", "host", "identity", "tools", "io", "operations", "hosting", "assurance"}
}

func (c *Catalog) check() error {
	var errs []error
	seen := map[warder.ControlID]bool{}
	for _, k := range c.Controls {
		switch {
		case !idForm.MatchString(string(k.ID)):
			errs = append(errs, fmt.Errorf("control id %q is malformed", k.ID))
		case seen[k.ID]:
			errs = append(errs, fmt.Errorf("control %s stands twice", k.ID))
		case k.Title == "" || k.Package == "" || k.Summary == "" || k.Proof == "":
			errs = append(errs, fmt.Errorf("control %s lacks title, package, summary or proof", k.ID))
		case !slices.Contains(Layers(), k.Layer):
			errs = append(errs, fmt.Errorf("control %s: unknown layer %q", k.ID, k.Layer))
		case k.Status != "implemented" && k.Status != "planned":
			errs = append(errs, fmt.Errorf("control %s: unknown status %q", k.ID, k.Status))
		case len(k.Modes) == 0 || slices.ContainsFunc(k.Modes, func(m string) bool { return !slices.Contains(Modes(), m) }):
			errs = append(errs, fmt.Errorf("control %s: modes %v, want some of R, G, V, O", k.ID, k.Modes))
		}
		seen[k.ID] = true
		for _, b := range k.Bullets {
			if b < 1 || b > 92 {
				errs = append(errs, fmt.Errorf("control %s: the paper has no demand %d", k.ID, b))
			}
		}
	}
	return errors.Join(errs...)
}

// link expands prefixes and writes threats and standards into the controls they name.
func (c *Catalog) link() error {
	var errs []error
	for i := range c.Threats {
		t := &c.Threats[i]
		t.Controls = c.expand(t.Controls, "threat "+t.ID, &errs)
		for _, k := range c.named(t.Controls) {
			k.Threats = append(k.Threats, t.ID)
		}
	}
	for i := range c.Standards {
		for j := range c.Standards[i].Items {
			item := &c.Standards[i].Items[j]
			item.Controls = c.expand(item.Controls, c.Standards[i].ID+" "+item.ID, &errs)
			for _, k := range c.named(item.Controls) {
				k.Standards = append(k.Standards, c.Standards[i].ID+" "+item.ID)
			}
		}
	}
	return errors.Join(errs...)
}

func (c *Catalog) named(ids []string) []*Control {
	var out []*Control
	for i := range c.Controls {
		if slices.Contains(ids, string(c.Controls[i].ID)) {
			out = append(out, &c.Controls[i])
		}
	}
	return out
}

func (c *Catalog) expand(names []string, where string, errs *[]error) []string {
	var out []string
	for _, name := range names {
		prefix, all := strings.CutSuffix(name, "*")
		n := len(out)
		for _, k := range c.Controls {
			if string(k.ID) == name || all && strings.HasPrefix(string(k.ID), prefix) {
				out = append(out, string(k.ID))
			}
		}
		if len(out) == n {
			*errs = append(*errs, fmt.Errorf("%s: no control is named %q", where, name))
		}
	}
	return out
}
