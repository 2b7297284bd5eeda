package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/warder-mcp/warder/wire"
)

// Limits of one request.
const (
	maxBody  = 64 << 10
	maxPath  = 512 // one parameter of a path or query
	maxDepth = 16
)

// prefix is where every operation lives.
const prefix = "/admin/v1"

// An operation is one row of the API: what the router, the table of roles, the client and the OpenAPI
// document are made from.
type operation struct {
	id      string // resource.verb
	method  string
	path    string // below prefix, with {parameters}
	summary string
	open    bool // needs no credential
	present bool // its service is there

	in, out reflect.Type // struct types; empty structs: nothing
	decode  func(r *http.Request) (any, error)
	needs   func(ctx context.Context, c *call, in any) (bool, error) // whether this request needs the second factor; nil: never
	run     func(ctx context.Context, c *call, in any) (any, error)
	current func(ctx context.Context, c *call) (any, error) // what an If-Match is about; nil: it has no meaning
}

// nothing is the type of an empty body.
type nothing = struct{}

// A call is one request on its way through an operation.
type call struct {
	op     *operation
	by     *Operator
	path   func(name string) string
	header http.Header // of the answer
}

// op makes an operation from a typed function. A GET reads In from the query, everything else from the
// body.
func op[In, Out any](id, route, summary string, present bool, run func(ctx context.Context, c *call, in In) (Out, error)) operation {
	method, path, _ := strings.Cut(route, " ")
	o := operation{
		id: id, method: method, path: path, summary: summary, present: present,
		in: reflect.TypeFor[In](), out: reflect.TypeFor[Out](),
		run: func(ctx context.Context, c *call, in any) (any, error) {
			typed, ok := in.(In)
			if !ok {
				return nil, errors.New("operation was given another type")
			}
			return run(ctx, c, typed)
		},
	}
	o.decode = decoder[In](method)
	return o
}

// decoder reads In from a request.
func decoder[In any](method string) func(r *http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		var in In
		if method == http.MethodGet {
			err := readQuery(r.URL.Query(), &in)
			return in, err
		}
		if len(r.URL.RawQuery) > 0 {
			return in, invalid("no query parameters are known here")
		}
		err := readBody(r, &in)
		return in, err
	}
}

// sometimes says when a request needs the second factor.
func sometimes[In any](o operation, needs func(ctx context.Context, c *call, in In) (bool, error)) operation {
	o.needs = func(ctx context.Context, c *call, in any) (bool, error) {
		typed, ok := in.(In)
		if !ok {
			return true, nil
		}
		return needs(ctx, c, typed)
	}
	return o
}

// versioned marks an operation that takes If-Match, which is about what get returns.
func versioned[Out any](o operation, get func(ctx context.Context, c *call, _ nothing) (Out, error)) operation {
	o.current = func(ctx context.Context, c *call) (any, error) { return get(ctx, c, nothing{}) }
	return o
}

// invalid is an error whose text is shown.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}

// readBody reads one strict JSON object: known members only, none twice.
func readBody(r *http.Request, in any) error {
	raw, err := io.ReadAll(r.Body)
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge
	}
	if err != nil {
		return invalid("the body cannot be read")
	}
	if len(raw) == 0 {
		return checkEnums(reflect.ValueOf(in).Elem())
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return errMediaType
	}
	if err := wire.Validate(raw, wire.Limits{Bytes: maxBody, Depth: maxDepth}); err != nil {
		return invalid("the body is not acceptable JSON")
	}
	if wire.Parse(raw).Kind() != '{' {
		return invalid("the body must be a JSON object")
	}
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(in); err != nil {
		return invalid("%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return checkEnums(reflect.ValueOf(in).Elem())
}

// readQuery reads the parameters of a list.
func readQuery(q url.Values, in any) error {
	v := reflect.ValueOf(in).Elem()
	known := map[string]reflect.Value{}
	collect(v, known)
	for name, values := range q {
		field, ok := known[name]
		switch {
		case !ok:
			return invalid("unknown query parameter %.64q", name)
		case len(values) != 1:
			return invalid("query parameter %q is given twice", name)
		case len(values[0]) > maxPath:
			return invalid("query parameter %q is too long", name)
		}
		if field.Kind() == reflect.Int {
			n, err := strconv.Atoi(values[0])
			if err != nil || n < 1 || n > maxPage {
				return invalid("query parameter %q: want a number from 1 to %d", name, maxPage)
			}
			field.SetInt(int64(n))
			continue
		}
		field.SetString(values[0])
	}
	return checkEnums(v)
}

// maxPage is the most items of one page, defaultPage how many without a limit.
const (
	maxPage     = 500
	defaultPage = 100
)

// limit is the size of the page that was asked for.
func (p *Paging) limit() int {
	if p.Limit < 1 || p.Limit > maxPage {
		return defaultPage
	}
	return p.Limit
}

// Cut makes a page of a whole list in the order of key.
func Cut[T any](all []T, p Paging, key func(*T) string) Page[T] {
	slices.SortFunc(all, func(a, b T) int { return strings.Compare(key(&a), key(&b)) })
	page := Page[T]{Items: []T{}}
	for i := range all {
		if p.After != "" && key(&all[i]) <= p.After {
			continue
		}
		if len(page.Items) == p.limit() {
			page.Next = key(&page.Items[len(page.Items)-1])
			break
		}
		page.Items = append(page.Items, all[i])
	}
	return page
}

func collect(v reflect.Value, into map[string]reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			collect(v.Field(i), into)
		} else if name := f.Tag.Get("query"); name != "" {
			into[name] = v.Field(i)
		}
	}
}

// checkEnums refuses a word that is none of those a field may have. An empty field says nothing, unless
// it is required.
func checkEnums(v reflect.Value) error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			if err := checkEnums(v.Field(i)); err != nil {
				return err
			}
			continue
		}
		name, required := memberOf(&f)
		if v.Field(i).Kind() != reflect.String {
			continue
		}
		word := v.Field(i).String()
		if required && word == "" {
			return invalid("%s: required", name)
		}
		if words := f.Tag.Get("enum"); words != "" && word != "" && !slices.Contains(strings.Split(words, ","), word) {
			return invalid("%s: want one of %s", name, strings.ReplaceAll(words, ",", ", "))
		}
	}
	return nil
}

// memberOf is the JSON or query name of a field, and whether it must be there.
func memberOf(f *reflect.StructField) (name string, required bool) {
	if q := f.Tag.Get("query"); q != "" {
		return q, false
	}
	name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name, !strings.Contains(options, "omit")
}
