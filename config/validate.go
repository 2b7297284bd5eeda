package config

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/warder-mcp/warder/admin"
	"github.com/warder-mcp/warder/internal/strictyaml"
	"github.com/warder-mcp/warder/issuer"
	"github.com/warder-mcp/warder/layer/access"
	"github.com/warder-mcp/warder/layer/gateway"
	"github.com/warder-mcp/warder/layer/identity"
	"github.com/warder-mcp/warder/layer/input"
	"github.com/warder-mcp/warder/layer/output"
	"github.com/warder-mcp/warder/layer/record"
	"github.com/warder-mcp/warder/layer/tools"
)

// Default returns the configuration of an empty file. It exposes nothing.
func Default() *Config {
	return &Config{
		Version:  1,
		Gateway:  gateway.Default(),
		Identity: identity.Default(),
		Issuer:   Issuer{Config: issuer.Default()},
		Tools:    tools.Default(),
		Input:    input.Default(),
		Access:   access.Default(),
		Output:   output.Default(),
		Record:   record.Default(),
		Admin:    Admin{API: admin.Default()},
	}
}

// Validate returns everything that makes no sense in a configuration. It is a pure function: it reads
// no file, no clock and no network. Paths of the problems name the places in the file.
func Validate(cfg *Config) []Problem {
	v := &validator{}
	if cfg.Version != 1 {
		v.add("version", fmt.Sprintf("version %d is not known", cfg.Version), "the only version is 1")
	}
	v.listeners(cfg)
	v.found = append(v.found, Defaults{}.Refuse(cfg)...)
	v.servers(cfg)
	v.shared(cfg)
	v.controls(cfg)
	if cfg.Admin.Address != "" {
		v.loopback("admin.address", cfg.Admin.Address)
	}
	v.nested("", reflect.ValueOf(cfg).Elem())
	return v.found
}

type validator struct{ found []Problem }

func (v *validator) add(path, message, hint string) {
	v.found = append(v.found, Problem{Path: path, Message: message, Hint: hint})
}

func (v *validator) listeners(cfg *Config) {
	seen := map[string]string{}
	for i, l := range cfg.Listen {
		at := fmt.Sprintf("listen[%d]", i)
		if _, _, err := SplitAddress(l.Address); err != nil {
			v.add(at+".address", err.Error(), `write host:port, such as "127.0.0.1:8443" or ":8443"`)
			continue
		}
		if other, dup := seen[l.Address]; dup {
			v.add(at+".address", "the address is that of "+other, "")
		}
		seen[l.Address] = at
		if l.TLS == nil {
			continue // TAB-03 judges it
		}
		if l.TLS.Cert.IsZero() {
			v.add(at+".tls.cert", "a certificate is required", "name a file: cert: {file: tls.crt}")
		}
		if l.TLS.Key.IsZero() {
			v.add(at+".tls.key", "a private key is required", "name a file: key: {file: tls.key}")
		}
	}
}

// serverName is the form of names that become parts of URLs and prefixes: no "__", which separates
// a server's name from a tool's.
var serverName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

func (v *validator) name(at, name string, seen map[string]string) {
	switch other, dup := seen[name]; {
	case name == "":
		v.add(at, "a name is required", "")
	case len(name) > 63 || !serverName.MatchString(name):
		v.add(at+".name", fmt.Sprintf("name %q: want lower-case letters and digits with single hyphens, at most 63", strictyaml.Clip(name)), "")
	case dup:
		v.add(at+".name", fmt.Sprintf("the name %q is that of %s", name, other), "names of servers and groups share one space of URLs")
	}
	seen[name] = at
}

func (v *validator) resource(at, uri string) {
	if uri == "" {
		return
	}
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" || u.Fragment != "" || u.User != nil || (u.Scheme != "https" && u.Scheme != "http") {
		v.add(at+".resource", "want an absolute http or https URI without fragment and user", "RFC 8707 section 2: https://gate.example.com/mcp/files")
	}
}

func (v *validator) servers(cfg *Config) {
	seen, names := map[string]string{}, []string{}
	for i, s := range cfg.Servers {
		at := fmt.Sprintf("servers[%d]", i)
		v.name(at, s.Name, seen)
		v.resource(at, s.Resource)
		names = append(names, s.Name)
	}
	for i, g := range cfg.Groups {
		at := fmt.Sprintf("groups[%d]", i)
		v.name(at, g.Name, seen)
		v.resource(at, g.Resource)
		if len(g.Servers) == 0 {
			v.add(at, "a group needs at least one server", "")
		}
		for j, s := range g.Servers {
			if !slices.Contains(names, s) {
				v.add(fmt.Sprintf("%s.servers[%d]", at, j), fmt.Sprintf("no server is named %q", strictyaml.Clip(s)), closest(s, names))
			}
			if slices.Index(g.Servers, s) != j {
				v.add(fmt.Sprintf("%s.servers[%d]", at, j), fmt.Sprintf("server %q stands here twice", strictyaml.Clip(s)), "")
			}
		}
	}
}

func (v *validator) controls(cfg *Config) {
	for _, id := range slices.Sorted(maps.Keys(cfg.Controls)) {
		c, at := cfg.Controls[id], "controls."+string(id)
		if !controlID.MatchString(string(id)) {
			v.add(at, fmt.Sprintf("%q is not the id of a control", strictyaml.Clip(string(id))), "ids look like PRT-02; list them with: warder controls list")
			continue
		}
		if c.Mode == Enforce {
			continue
		}
		if strings.TrimSpace(c.Owner) == "" {
			v.add(at, fmt.Sprintf("mode %s needs an owner", c.Mode), "say who answers for the exception: owner: name@example.com")
		}
		if c.Until.IsZero() {
			v.add(at, fmt.Sprintf("mode %s needs an end", c.Mode), "say when the exception ends: until: 2027-01-31")
		}
	}
}

var controlID = regexp.MustCompile(`^[A-Z][A-Z0-9]{1,4}-[0-9]{2}$`)

func (v *validator) loopback(at, address string) {
	host, _, err := SplitAddress(address)
	if err != nil {
		v.add(at, err.Error(), `write host:port, such as "127.0.0.1:9443"`)
		return
	}
	if !IsLoopback(host) {
		v.add(at, "want a loopback address", "put 127.0.0.1 before the port")
	}
}

// nested asks every value that can check itself, such as a secret reference or the configuration of
// a layer.
func (v *validator) nested(path string, value reflect.Value) {
	if value.Kind() == reflect.Pointer {
		if value.IsNil() {
			return
		}
		value = value.Elem()
	}
	if err := judge(value); err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") { // errors.Join puts one per line
			at, message := located(value, path, line)
			v.add(at, message, "")
		}
	}
	switch {
	case strictyaml.IsScalar(value.Type()):
	case value.Kind() == reflect.Struct:
		for _, k := range strictyaml.Keys(value.Type()) {
			if field, err := value.FieldByIndexErr(k.Index); err == nil {
				v.nested(strictyaml.Join(path, k.Name), field)
			}
		}
	case value.Kind() == reflect.Slice:
		for i := range value.Len() {
			v.nested(fmt.Sprintf("%s[%d]", path, i), value.Index(i))
		}
	case value.Kind() == reflect.Map:
		for _, key := range slices.SortedFunc(slices.Values(value.MapKeys()), func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) }) {
			v.nested(strictyaml.Join(path, key.String()), value.MapIndex(key))
		}
	}
}

// located splits an error that begins with a path below the value, such as "issuers[0].url: …".
func located(value reflect.Value, path, line string) (at, message string) {
	below, rest, ok := strings.Cut(line, ": ")
	if !ok || value.Kind() != reflect.Struct || !keyPath.MatchString(below) {
		return path, line
	}
	first := below[:strings.IndexAny(below+".", ".[")]
	if !slices.ContainsFunc(strictyaml.Keys(value.Type()), func(k strictyaml.Key) bool { return k.Name == first }) {
		return path, line
	}
	return strictyaml.Join(path, below), rest
}

var keyPath = regexp.MustCompile(`^[a-z0-9_]+(\[[0-9]+\])*(\.[a-z0-9_]+(\[[0-9]+\])*)*$`)

// judge asks a value that can check itself.
func judge(value reflect.Value) error {
	if value.IsZero() {
		return nil
	}
	if v, ok := reflect.TypeAssert[interface{ Validate() error }](value); ok {
		return v.Validate()
	}
	if v, ok := reflect.TypeAssert[interface{ Check() error }](value); ok {
		return v.Check()
	}
	return nil
}

// SplitAddress splits host:port. An empty host means every interface.
func SplitAddress(address string) (host, port string, err error) {
	host, port, err = net.SplitHostPort(address)
	if err != nil {
		return "", "", fmt.Errorf("address %q: want host:port", strictyaml.Clip(address))
	}
	if _, err := netip.ParseAddrPort("127.0.0.1:" + port); err != nil {
		return "", "", fmt.Errorf("address %q: the port must be a number from 0 to 65535", strictyaml.Clip(address))
	}
	return host, port, nil
}

// IsLoopback reports whether the host is a loopback address or "localhost".
func IsLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

func closest(got string, names []string) string {
	best, distance := "", 4
	for _, n := range names {
		if d := strictyaml.EditDistance(got, n, distance); d < distance {
			best, distance = n, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}
