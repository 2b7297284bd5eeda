package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/warder-mcp/warder/catalog"
	"github.com/warder-mcp/warder/cli"
	"github.com/warder-mcp/warder/config"
)

func configPage(string) (string, error) {
	entries, err := config.Reference()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(heading("Configuration",
		"One file, `warder.yaml`; its top-level keys stand in the order in which a request travels. An empty file is\n"+
			"valid and exposes nothing. Unknown keys, repeated keys, a second document and values of a wrong type are\n"+
			"errors, all reported at once. In the paths below `[]` stands for an entry of a list and `*` for a name that\n"+
			"the file chooses. The same as JSON Schema: `warder config schema`."))
	b.WriteString(table("Key", "Value", "Meaning"))
	for _, e := range entries {
		b.WriteString(row(code(e.Path), e.Type, e.Description))
	}
	for _, e := range entries {
		if len(e.Children) > 0 {
			fmt.Fprintf(&b, "\n## %s\n\n", e.Path)
			b.WriteString(table("Key", "Value", "Meaning"))
			configRows(&b, e.Children)
		}
	}
	return b.String(), nil
}

func configRows(b *strings.Builder, entries []config.Entry) {
	for _, e := range entries {
		b.WriteString(row(code(e.Path), e.Type, e.Description))
		configRows(b, e.Children)
	}
}

func cliPage(string) (string, error) {
	var b strings.Builder
	b.WriteString(heading("Command line",
		"What a command found goes to standard output, as a table or with `-o json` as JSON; everything else goes to\n"+
			"standard error. No command needs a terminal."))
	b.WriteString("## Exit codes\n\n" + table("Code", "Meaning"))
	for _, c := range cli.ExitCodes() {
		b.WriteString(row(fmt.Sprint(c.Code), c.Meaning))
	}
	commandPages(&b, cli.Root())
	return b.String(), nil
}

func commandPages(b *strings.Builder, cmd *cobra.Command) {
	if cmd.Hidden || cmd.Name() == "help" || cmd.Name() == "completion" {
		return
	}
	fmt.Fprintf(b, "\n## %s\n\n%s.\n\n", cmd.CommandPath(), strings.TrimSuffix(cmd.Short, "."))
	if cmd.Long != "" {
		b.WriteString(cmd.Long + "\n\n")
	}
	b.WriteString("```\n" + cmd.UseLine() + "\n```\n")
	if cmd.Example != "" {
		b.WriteString("\nExamples:\n\n```\n" + dedent(cmd.Example) + "\n```\n")
	}
	if cmd.HasAvailableLocalFlags() {
		b.WriteString("\n" + table("Flag", "Default", "Meaning"))
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name == "help" || f.Hidden {
				return
			}
			name := "--" + f.Name
			if f.Shorthand != "" {
				name += ", -" + f.Shorthand
			}
			b.WriteString(row(code(name), code(f.DefValue), f.Usage))
		})
	}
	for _, c := range cmd.Commands() {
		commandPages(b, c)
	}
}

func dedent(s string) string {
	var out []string
	for line := range strings.SplitSeq(s, "\n") {
		out = append(out, strings.TrimPrefix(line, "  "))
	}
	return strings.Join(out, "\n")
}

func controlsPage(string) (string, error) {
	c, err := catalog.Load()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	implemented := 0
	for _, k := range c.Controls {
		if k.Implemented() {
			implemented++
		}
	}
	fmt.Fprintf(&b, "%s", heading("Controls", fmt.Sprintf(
		"The catalogue has %d controls; %d act today, and a test proves for each of them that its code, its tests and\n"+
			"its page exist. Modes: **R** at run time, **G** as generated configuration, **V** by verification, **O** as an\n"+
			"operated workflow. `warder controls show ID` says the same and more.", len(c.Controls), implemented)))
	b.WriteString("## Acting today\n\n" + table("Id", "Control", "Does", "Not yet", "Code and test", "Threats", "Asked for by"))
	for _, k := range c.Controls {
		if !k.Implemented() {
			continue
		}
		word := strings.ReplaceAll(string(k.ID), "-", "")
		b.WriteString(row("["+string(k.ID)+"](../controls/"+string(k.ID)+".md)", k.Title, k.Summary, k.Later,
			code(k.Package+"/"+strings.ToLower(word)+"_*.go")+" "+code("Test"+word), strings.Join(k.Threats, ", "), strings.Join(k.Standards, ", ")))
	}
	b.WriteString("\n## Planned\n\n" + table("Id", "Control", "Modes", "What it will do"))
	for _, k := range c.Controls {
		if !k.Implemented() {
			b.WriteString(row(string(k.ID), k.Title, strings.Join(k.Modes, " "), k.Summary))
		}
	}
	b.WriteString("\n## Threats\n\n" + table("Id", "Threat", "Component", "Controls"))
	for _, t := range c.Threats {
		title := t.Title
		if t.Note != "" {
			title += " (" + t.Note + ")"
		}
		b.WriteString(row(t.ID, title, t.Component, strings.Join(t.Controls, ", ")))
	}
	return b.String(), nil
}
