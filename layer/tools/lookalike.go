package tools

import (
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/warder-mcp/warder"
)

// lookalikes returns a finding for every name of a list that a reader would take for an earlier one:
// equal when case, separators, width and the usual stand-ins for Latin letters are disregarded.
func lookalikes(m listMethod, list []namedRaw) []warder.Finding {
	first := make(map[string]string, len(list))
	var findings []warder.Finding
	for i := range list {
		s := skeleton(list[i].name)
		have, ok := first[s]
		if !ok {
			first[s] = list[i].name
			continue
		}
		if have != list[i].name && len(findings) < maxFindings {
			findings = append(findings, warder.Finding{
				Rule: "lookalike_name", Severity: warder.Medium, Pointer: pointerTo(m.member, i),
				Evidence: quoted(list[i].name) + " looks like " + quoted(have), Confidence: 0.8,
			})
		}
	}
	return findings
}

// skeleton maps a name to the form that names which look alike share.
func skeleton(name string) string {
	plain := true
	for i := range len(name) {
		if name[i] >= 0x80 {
			plain = false
		}
	}
	if !plain {
		name = norm.NFKD.String(name)
	}
	return strings.Map(standIn, strings.ToLower(name))
}

// standIn replaces a character by the Latin letter it stands in for, and drops separators and marks.
func standIn(r rune) rune {
	switch {
	case strings.ContainsRune("_-. /:", r), r >= 0x300 && r <= 0x36F:
		return -1
	case r == '0':
		return 'o'
	case r == '1' || r == 'i' || r == '|':
		return 'l'
	case r == '5':
		return 's'
	case r < 0x80:
		return r
	}
	const foreign, latin = "аеорсухіјѕԁһӏвкмнтғαονρτικυβηωγɑɡı", "aeopcyxljsdhlbkmhtfaovptlkubnwyagl"
	from, to := []rune(foreign), []rune(latin)
	for i := range from {
		if from[i] == r {
			return to[i]
		}
	}
	return r
}
