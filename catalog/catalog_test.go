package catalog

import (
	"slices"
	"testing"
)

func TestLoad(t *testing.T) {
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Threats) != 21 {
		t.Errorf("%d threats, want the paper's 21", len(c.Threats))
	}
	covered := map[int]bool{}
	for _, k := range c.Controls {
		for _, b := range k.Bullets {
			covered[b] = true
		}
	}
	for b := 1; b <= 92; b++ {
		if b != 34 && !covered[b] { // 34 is prose: the Zero Trust principle, ZTA-01
			t.Errorf("no control answers demand %d of the paper", b)
		}
	}
	k, ok := c.Control("TDP-04")
	if !ok || !k.Implemented() || !k.Runtime() {
		t.Fatalf("TDP-04 = %+v, %v", k, ok)
	}
	if !slices.Contains(k.Threats, "TH-T3") || !slices.Contains(k.Standards, "owasp-mcp-top-10 MCP03") {
		t.Errorf("TDP-04: threats %v, standards %v", k.Threats, k.Standards)
	}
	if _, ok := c.Control("XXX-99"); ok {
		t.Error("an unknown control was found")
	}
}

func TestCheckFindsMistakes(t *testing.T) {
	good := Control{ID: "AAA-01", Title: "t", Package: "p", Summary: "s", Proof: "p", Layer: "io", Status: "planned", Modes: []string{"R"}}
	for name, change := range map[string]func(*Control){
		"id":     func(k *Control) { k.ID = "aaa-1" },
		"layer":  func(k *Control) { k.Layer = "cellar" },
		"status": func(k *Control) { k.Status = "soon" },
		"modes":  func(k *Control) { k.Modes = []string{"RG"} },
		"title":  func(k *Control) { k.Title = "" },
		"bullet": func(k *Control) { k.Bullets = []int{93} },
	} {
		t.Run(name, func(t *testing.T) {
			k := good
			change(&k)
			if err := (&Catalog{Controls: []Control{k}}).check(); err == nil {
				t.Error("the mistake was not found")
			}
		})
	}
	if err := (&Catalog{Controls: []Control{good}}).check(); err != nil {
		t.Errorf("a good control was refused: %v", err)
	}
	if err := (&Catalog{Controls: []Control{good, good}}).check(); err == nil {
		t.Error("a control that stands twice was not found")
	}
	if err := (&Catalog{Threats: []Threat{{ID: "T", Controls: []string{"BBB-*"}}}}).link(); err == nil {
		t.Error("a dangling reference was not found")
	}
}
