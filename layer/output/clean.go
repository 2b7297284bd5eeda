package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A cleaner takes internals out of error texts. Its patterns are RE2 and run over texts of bounded
// length only. It is safe for concurrent use.
type cleaner struct {
	longest int
	lines   []pattern // a line that matches goes, and leaves one mark for a run of lines
	parts   []pattern // a part that matches is replaced by a mark
}

// A pattern is one thing that tells of the inside.
type pattern struct {
	rule    string
	mark    string
	needs   []string // one of these must occur, in lower case; empty: always try
	re      *regexp.Regexp
	echoed  bool // stays if the client itself sent it
	capture bool // only the first group is replaced
}

const (
	markStack    = "[stack trace removed]"
	markDatabase = "[database error]"
	markPath     = "[path]"
	markAddress  = "[internal address]"
	markVersion  = "[version]"
	markCut      = "[cut]"
)

// roots are the first directories of absolute paths that no URL begins with.
const roots = `(?:home|root|usr|var|etc|opt|tmp|srv|mnt|media|proc|sys|run|dev|lib(?:64)?|bin|sbin|boot|snap|nix|data|app|apps|` +
	`code|work|workspace|workspaces|workdir|src|build|builds|go|node_modules|site-packages|www|private|Users|Library|Applications|Volumes|System|cygdrive)`

// stackLines match the lines of stack traces and of the words around them.
func stackLines() map[string]string {
	return map[string]string{
		"go":     `^(?:goroutine \d+ \[|panic: |fatal error: |created by \S+|\[signal SIG|exit status \d|[\w./*()\[\]-]+\.[\w.*()\[\]-]+\(.*\)$|\s+\S+\.go:\d+)`,
		"node":   `^\s+at (?:async |new |Object\.|Module\.|Function\.|[\w$.<>\[\] ]+ \()?.*:\d+(?::\d+)?\)?$|^\s+at (?:<anonymous>|native|.*\(<anonymous>\))$|^\s*Node\.js v\d|^node:internal/|^\s+throw `,
		"java":   `^\s*(?:at [\w$.<>/@]+\((?:[\w$]+\.(?:java|kt|scala|groovy)(?::\d+)?|Native Method|Unknown Source)\)|\.\.\. \d+ (?:more|common frames omitted)|Suppressed: )|^(?:Caused by: |Exception in thread )`,
		"dotnet": `^\s+at .+\)(?: in .+:line \d+)?$|^\s*--- End of `,
		"python": `^(?:\s*\+? ?(?:Exception Group )?Traceback \(most recent call last\):|\s*(?:\| ?)?File ".*", line \d+|During handling of the above exception|The above exception was the direct cause|\s+[\^~]+\s*$)`,
		"rust":   `^(?:thread '.*' (?:\(\d+\) )?panicked at|stack backtrace:|\s+\d+: +(?:0x[0-9a-f]+ - )?[\w<{$]+|\s+at (?:\./|/|[A-Za-z]:\\).*:\d+|note: (?:run with|Some details are omitted))`,
		"php":    `^(?:PHP )?(?:Fatal error|Warning|Notice|Parse error|Deprecated|Uncaught \w+):? .* (?:in .+ on line \d+|in .+:\d+)|^#\d+ (?:\{main\}|.*\(\d+\): )|^Stack trace:|^\s+thrown in `,
		"ruby":   "^\\s*(?:from )?\\S+\\.rb:\\d+:in ['`]",
	}
}

// stackNeeds are words without which no line of a trace is looked for.
func stackNeeds() []string {
	return []string{
		"goroutine", "panic", "\tat ", " at ", "\nat ", "traceback", "file \"", ".go:", ".rb:", "stack", "caused by", "exception",
		" on line ", "backtrace", "#0 ", "sigsegv", "fatal error", "node:internal", "created by", "thrown in", "uncaught",
	}
}

// databaseLine matches what database drivers say.
const databaseLine = `(?i)\bSQLSTATE\b|\bORA-\d{4,5}\b|\bPLS-\d{5}\b|syntax error at or near|You have an error in your SQL syntax|` +
	`\bpq: |\bpsycopg|sqlite3?\.\w*Error|SQLITE_[A-Z]+|no such (?:table|column): |relation "[^"]*" does not exist|` +
	`Unknown column '|violates (?:unique|foreign key|not-null|check|exclusion) constraint|UNIQUE constraint failed|Duplicate entry '.*' for key|` +
	`near ".*": syntax error|ODBC|OLE DB|JDBC|Incorrect syntax near|MongoServerError|E11000|PrismaClient|SequelizeDatabaseError|ER_[A-Z_]{4,}|` +
	`Table '[^']*' doesn't exist|column "[^"]*" does not exist|Access denied for user '|password authentication failed for user`

func newCleaner(longest int) (*cleaner, error) {
	c := &cleaner{longest: longest}
	var errs []string
	compile := func(expression string) *regexp.Regexp {
		re, err := regexp.Compile(expression)
		if err != nil {
			errs = append(errs, err.Error())
		}
		return re
	}
	traces := stackLines()
	for _, name := range []string{"go", "node", "java", "dotnet", "python", "rust", "php", "ruby"} {
		c.lines = append(c.lines, pattern{rule: "stack_" + name, mark: markStack, needs: stackNeeds(), re: compile(traces[name])})
	}
	c.lines = append(c.lines, pattern{rule: "database", mark: markDatabase, re: compile(databaseLine)})
	c.parts = []pattern{
		{rule: "path", mark: markPath, needs: []string{"file:"}, echoed: true, re: compile(`(?i)\bfile://[^\s"'<>)\]]+`)},
		{
			rule: "path", mark: markPath, needs: []string{"/"}, echoed: true, capture: true,
			re: compile(`(?:^|[^\w/.~-])((?:~|/` + roots + `)(?:/[^\s/:"'<>|*?,;()\[\]{}` + "`" + `]+)+/?(?::\d+(?::\d+)?)?)`),
		},
		{
			rule: "path", mark: markPath, needs: []string{"/"}, echoed: true, capture: true,
			re: compile(`(?:^|[\s"'=(\[<` + "`" + `])((?:/[\w.@%+~-]+)+/[\w@%+~-]+\.[A-Za-z]\w{0,7}(?::\d+(?::\d+)?)?)`),
		},
		{
			rule: "path", mark: markPath, needs: []string{`:\`, `:/`}, echoed: true, capture: true,
			re: compile(`(?:^|[^\w])([A-Za-z]:[\\/](?:[^\\/\s:"'<>|*?]+[\\/])*[^\\/\s:"'<>|*?,;]*)`),
		},
		{rule: "path", mark: markPath, needs: []string{`\\`}, echoed: true, re: compile(`\\\\[\w.$-]+\\[^\s"'<>|]+`)},
		{rule: "address", mark: markAddress, echoed: true, capture: true, re: compile(
			`(?:^|[^\w.])((?:10\.\d{1,3}|127\.\d{1,3}|169\.254|192\.168|172\.(?:1[6-9]|2\d|3[01])|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7]))` +
				`(?:\.\d{1,3}){2}(?::\d{1,5})?)(?:$|[^\w.]|\.(?:$|\s))`)},
		{rule: "address", mark: markAddress, needs: []string{"::", "fe80", "fd", "fc"}, echoed: true, re: compile(
			`(?i)\[?(?:\bfe80:|\bf[cd][0-9a-f]{2}:)[0-9a-f:]+(?:%\w+)?\]?(?::\d{1,5}\b)?|\[::1\](?::\d{1,5})?`)},
		{
			rule: "address", mark: markAddress, needs: []string{"local", "internal", "intranet", ".lan", ".corp", ".svc", ".consul"}, echoed: true,
			re: compile(`(?i)\blocalhost:\d{1,5}\b|\b(?:[a-z0-9_-]+\.)+(?:internal|intranet|local|localdomain|lan|corp|svc|consul|cluster\.local|home\.arpa)\b(?::\d{1,5})?`),
		},
		{rule: "address", mark: markAddress, needs: []string{"0x"}, re: compile(`\b0x[0-9a-fA-F]{8,16}\b`)},
		{rule: "version", mark: markVersion, re: compile(`(?i)\b(?:node(?:\.js)?|npm|python|cpython|php|ruby|java|openjdk|jdk|jvm|rustc|nginx|apache|httpd|tomcat|` +
			`express|next\.js|django|flask|fastapi|starlette|rails|rack|spring(?: boot)?|postgres(?:ql)?|mysql|mariadb|redis|mongodb|sqlite|openssl|libressl|` +
			`linux|ubuntu|debian|alpine|windows(?: nt)?|darwin|iis|jetty|gunicorn|uvicorn|werkzeug|laravel|symfony|\.net|asp\.net|kestrel|curl|requests|urllib3|axios|undici)` +
			`(?:[/ @-]|(?: version)? )v?\d+(?:\.\d+)+[\w.+-]*|\bgo(?:1|/\d+)\.\d+(?:\.\d+)?\b`)},
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("compile patterns: %s", strings.Join(errs, "; "))
	}
	return c, nil
}

// clean returns text without internals, and the rules that found some; none if it is clean. What
// occurs in said stays.
func (c *cleaner) clean(text string, said *heard) (cleaned string, rules []string) {
	if len(text) > c.longest {
		text = strings.ToValidUTF8(text[:c.longest], "") + " " + markCut
		rules = append(rules, "length")
	}
	lower := strings.ToLower(text)
	text = c.cleanLines(text, lower, &rules)
	for i := range c.parts {
		p := &c.parts[i]
		if p.possible(lower) {
			text = p.replace(text, said, &rules)
		}
	}
	return text, rules
}

func (p *pattern) possible(lower string) bool {
	return len(p.needs) == 0 || slices.ContainsFunc(p.needs, func(word string) bool { return strings.Contains(lower, word) })
}

// cleanLines removes the lines of traces and of databases. In a Python trace the line of source
// after a frame goes with it.
func (c *cleaner) cleanLines(text, lower string, rules *[]string) string {
	var active []*pattern
	for i := range c.lines {
		if c.lines[i].possible(lower) {
			active = append(active, &c.lines[i])
		}
	}
	var kept []string
	found := false
	source := false // the line before was a frame that is followed by its source
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		p := matching(active, line)
		if p == nil && source && strings.HasPrefix(line, "    ") {
			source = false
			continue
		}
		source = p != nil && p.rule == "stack_python"
		if p == nil {
			kept = append(kept, line)
			continue
		}
		found = true
		note(rules, p.rule)
		if len(kept) == 0 || kept[len(kept)-1] != p.mark {
			kept = append(kept, p.mark)
		}
	}
	if !found {
		return text
	}
	return strings.Join(kept, "\n")
}

func matching(active []*pattern, line string) *pattern {
	for _, p := range active {
		if p.re.MatchString(line) {
			return p
		}
	}
	return nil
}

func note(rules *[]string, rule string) {
	if !slices.Contains(*rules, rule) {
		*rules = append(*rules, rule)
	}
}

// replace puts the mark in the place of every match that the client did not send itself.
func (p *pattern) replace(text string, said *heard, rules *[]string) string {
	var b strings.Builder
	last := 0
	for _, at := range p.re.FindAllStringSubmatchIndex(text, -1) {
		start, end := at[0], at[1]
		if p.capture {
			start, end = at[2], at[3]
		}
		if start < last || p.echoed && said.echo(text[start:end]) {
			continue
		}
		note(rules, p.rule)
		b.WriteString(text[last:start])
		b.WriteString(p.mark)
		last = end
	}
	if last == 0 {
		return text
	}
	b.WriteString(text[last:])
	return b.String()
}

// A heard is what the client sent, and how often one answer was compared with it.
type heard struct {
	said  []byte
	looks int
}

// maxLooks bounds the work of one answer; what comes later counts as the server's.
const maxLooks = 256

// echo reports whether the client sent this very text, as JSON writes it.
func (h *heard) echo(part string) bool {
	if h == nil || len(part) < 3 || len(h.said) == 0 || h.looks >= maxLooks {
		return false
	}
	h.looks++
	quoted, err := json.Marshal(part)
	if err != nil {
		return false
	}
	return bytes.Contains(h.said, quoted[1:len(quoted)-1])
}

// debug reports whether a member name says that its value is meant for developers.
func (c *cleaner) debug(name string) bool {
	switch strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(name)) {
	case "stack", "stacktrace", "stacktraces", "traceback", "backtrace", "trace", "exception", "exceptionclass", "debug",
		"innererror", "innerexception", "sql", "query", "sqlstate", "env", "environment", "filename", "linenumber":
		return true
	default:
		return false
	}
}

const maxEvidence = 300 // bytes of an original that go to the record

// evidence quotes and cuts an original for the record, with everything masked that looks like a
// secret: long runs of letters and digits, and what follows words such as password.
func evidence(original string) string {
	var b strings.Builder
	for i, field := range strings.Fields(original) {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(mask(field))
		if b.Len() > maxEvidence {
			break
		}
	}
	text := b.String()
	if len(text) > maxEvidence {
		text = strings.ToValidUTF8(text[:maxEvidence], "") + "…"
	}
	return strconv.Quote(text)
}

func mask(field string) string {
	lower := strings.ToLower(field)
	for _, word := range []string{"password", "passwd", "pwd", "secret", "token", "apikey", "api_key", "authorization", "bearer", "://"} {
		if i := strings.Index(lower, word); i >= 0 && len(field) > i+len(word)+1 {
			return field[:i+len(word)] + "…"
		}
	}
	run := 0
	for _, r := range field {
		if r >= '0' && r <= '9' || r|0x20 >= 'a' && r|0x20 <= 'z' || r == '-' || r == '_' {
			if run++; run >= 24 {
				return "…"
			}
			continue
		}
		run = 0
	}
	return field
}
