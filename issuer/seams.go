package issuer

import (
	"net/http"
	"time"

	"github.com/warder-mcp/warder"
)

// A User is a person who logged in. It is set by a [Login] from a verified login and never changed.
type User struct {
	Issuer   string    // who vouches for the person: an identity provider, or this server itself
	Subject  string    // unique within Issuer; becomes the sub of tokens
	Name     string    // for pages
	Email    string    // for pages and policies; empty if unknown
	Tenant   string    // empty in single-tenant deployments
	Groups   []string  // groups or roles
	ACR      string    // authentication context class of the login
	AMR      []string  // authentication methods of the login (RFC 8176)
	AuthTime time.Time // when the person last authenticated
	Session  string    // id of the login session; becomes the sid of tokens
}

// A Need says what an authorization request asks of the login.
type Need struct {
	ACR    []string       // any one of these classes; empty: any login
	MaxAge *time.Duration // the login may be at most this old; nil: any age; 0: the person must log in now
	Back   string         // path and query on this host to come back to once logged in
	Prompt string         // OpenID Connect prompt: "", "login", "none", "select_account", "consent"
}

// A Login authenticates the person at the browser. It returns the user; or it has answered the
// request itself, with a page or a redirect, and returns false. With prompt "none" it never answers:
// it returns nil and true when nobody is logged in as needed. It is safe for concurrent use.
type Login interface {
	Authenticate(w http.ResponseWriter, r *http.Request, need Need) (*User, bool)
}

// A Client is an OAuth client as this server knows it. It is immutable once found and shared by many
// requests.
type Client struct {
	ID       string // client_id: an https URL for a metadata document, else opaque
	Name     string // client_name; the client's own word unless Source is SourceConfig
	URI      string // client_uri; the same
	Redirect string // the redirect URI of this request, already matched
	Source   Source // where the registration came from
	// Loopback warns that the client redirects to this computer's loopback interface only, so that any
	// program that runs on it can pass for the client (draft-ietf-oauth-client-id-metadata-document
	// section 6.1, MCP authorization "localhost redirect URI risks").
	Loopback bool

	meta clientMeta
}

// A Source says where the registration of a client came from.
type Source string

// The sources of a registration.
const (
	SourceConfig   Source = "config"   // the operator wrote it down
	SourceDocument Source = "document" // a client id metadata document, fetched
	SourceDynamic  Source = "dynamic"  // RFC 7591
)

// A Question asks a person whether a client may have what it asks for.
type Question struct {
	User        *User
	Client      Client
	Resource    string // the one server, as a canonical URI
	Server      string // its name
	Scopes      []string
	Details     []warder.Detail
	RedirectURI string    // where the answer goes
	Back        string    // path and query on this host to come back to once the person has answered
	Prompt      string    // "consent": ask even if the person has consented before; "none": never show a page
	Since       time.Time // when the request began: with prompt "consent", an answer given after it is the answer
}

// A Consent keeps the answers of people (control AUT-05). granted means that this user has consented
// to this client for all that is asked. answered means that the response is written: a page is shown.
// Neither means that the person refused; or, with prompt "none", that there is no answer yet.
// It is safe for concurrent use.
type Consent interface {
	Ask(w http.ResponseWriter, r *http.Request, q Question) (granted, answered bool)
}

// A Resource is a server that tokens can be issued for. Set by configuration; never changed.
type Resource struct {
	URI    string   // canonical URI, the audience of tokens (RFC 8707)
	Server string   // server name
	Tenant string   // the tenant it belongs to; empty: every tenant
	Scopes []string // scopes that may be asked for; empty: any well-formed scope
	// Logins true: nobody gets a token for it on the word of a foreign issuer alone, such as for the admin
	// API, where what a login says decides what may be done.
	Logins bool
}

// foreign refuses a resource to whom a foreign issuer vouches for.
func (r *Resource) foreign() *fault {
	if !r.Logins {
		return nil
	}
	return refuse(errTarget, "This resource is for people who log in here.").because("login_required", r.Server)
}
