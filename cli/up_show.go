package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/warder-mcp/warder/config"
)

// show prints where to connect, with what, and how the calls ended.
func (u *quickStart) show(cfg *config.Config, self, path, token, link string, rows []outcome) error {
	url := cfg.Identity.Resource(demoGroup)
	clients, err := pasteable(self, url, token)
	if err != nil {
		return err
	}
	if u.printer.json {
		endpoints := map[string]string{demoGroup: url}
		for _, s := range cfg.Servers {
			endpoints[s.Name] = cfg.Identity.Resource(s.Name)
		}
		snippets := map[string]string{}
		for _, c := range clients {
			snippets[c.name] = c.text
		}
		return u.printer.writeJSON(map[string]any{
			"config": path, "data": cfg.Data, "endpoints": endpoints, "token": token, "login": link, "clients": snippets, "calls": rows,
		})
	}
	p := u.printer
	var b strings.Builder
	fmt.Fprintf(&b, "Warder stands in front of three sample servers.\n\n")
	fmt.Fprintf(&b, "Configuration  %s\n", path)
	for _, s := range cfg.Servers {
		fmt.Fprintf(&b, "Endpoint       %s\n", cfg.Identity.Resource(s.Name))
	}
	fmt.Fprintf(&b, "Endpoint       %s (all three)\n", url)
	fmt.Fprintf(&b, "\nToken for %s, good for an hour:\n%s\n", url, token)
	fmt.Fprintf(&b, "\nOr log in: clients that know OAuth need no token. Open this link once, within ten minutes, to be %s in\nyour browser:\n%s\n", localUser(), link)
	for _, c := range clients {
		fmt.Fprintf(&b, "\n%s: %s\n%s\n", c.name, c.where, c.text)
	}
	if err := p.text("%s\nWhat just happened:\n", b.String()); err != nil {
		return err
	}
	g := &grid{header: []string{"CALL", "OUTCOME", "CONTROL", "WHY", "THE CLIENT READS"}}
	for _, r := range rows {
		says := harmless(r.Says, false)
		if r := []rune(says); len(r) > 60 {
			says = string(r[:59]) + "…"
		}
		g.add(r.What, r.Outcome, orDash(r.Control), orDash(r.Reason), says)
	}
	if err := p.table(g); err != nil {
		return err
	}
	if err := p.text("\nWarder does not judge yet what a text means: injected instructions pass (GW-02 is planned)."); err != nil || u.once {
		return err
	}
	return p.text("\nNext: warder tools list -c %s\nServing until interrupted (Ctrl-C).", path)
}

// A client is a program that can be told about an endpoint.
type client struct{ name, where, text string }

// pasteable makes configuration for clients: Claude Desktop speaks over stdio only and comes through
// "warder connect".
func pasteable(program, url, token string) ([]client, error) {
	header := map[string]string{"Authorization": "Bearer " + token}
	render := func(v any) (string, error) {
		b, err := json.MarshalIndent(v, "", "  ")
		return string(b), err
	}
	desktop, err := render(map[string]any{"mcpServers": map[string]any{"warder": map[string]any{
		"command": program, "args": []string{"connect", url}, "env": map[string]string{"WARDER_TOKEN": token},
	}}})
	if err != nil {
		return nil, err
	}
	cursor, err := render(map[string]any{"mcpServers": map[string]any{"warder": map[string]any{"url": url, "headers": header}}})
	if err != nil {
		return nil, err
	}
	vscode, err := render(map[string]any{"servers": map[string]any{"warder": map[string]any{"type": "http", "url": url, "headers": header}}})
	if err != nil {
		return nil, err
	}
	return []client{
		{"Claude Code", "run", fmt.Sprintf("claude mcp add --transport http warder %s --header \"Authorization: Bearer %s\"", url, token)},
		{"Claude Desktop", "add to claude_desktop_config.json", desktop},
		{"Cursor", "add to .cursor/mcp.json", cursor},
		{"VS Code", "add to .vscode/mcp.json", vscode},
	}, nil
}
