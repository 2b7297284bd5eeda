package login

import (
	"net/http"
	"slices"
	"strings"
)

// mount names every route of the site. Whatever changes something is a POST with a token, except the two
// ways back into the site that protocols prescribe: a provider's callback, which its state guards, and the
// page of a one-time link, which changes nothing.
func (s *Service) mount() {
	s.mux = http.NewServeMux()
	get := func(path string, h http.HandlerFunc) { s.handle(http.MethodGet, path, h) }
	post := func(path string, h http.HandlerFunc) { s.handle(http.MethodPost, path, s.form(s.path+path, h)) }

	post("/login/provider", s.postProvider)
	get("/login/callback/{provider}", s.getCallback)
	get("/login/passkey.js", s.getScript)
	s.handle(http.MethodPost, "/login/passkey/options", s.postLoginOptions)
	s.handle(http.MethodPost, "/login/passkey/finish", s.postLoginFinish)
	get("/login/link/{secret}", s.getLink)
	post("/login/link", s.postLink)

	get("/account", s.getAccount)
	s.handle(http.MethodPost, "/account/passkey/options", s.postKeyOptions)
	s.handle(http.MethodPost, "/account/passkey/finish", s.postKeyFinish)
	post("/account/passkey/remove", s.postKeyRemove)
	post("/account/session", s.postSession)
	post("/account/consent", s.postConsentEnd)
	get("/logout", s.getLogout)
	post("/logout", s.postLogout)

	post("/consent", s.consent.post)
	if s.deps.Approvals != nil {
		get("/approve", s.getApprovals)
		get("/approve/{id}", s.getApproval)
		post("/approve", s.postApproval)
	}
	s.mux.HandleFunc(s.path+"/", s.notFound)
}

func (s *Service) handle(method, path string, h http.HandlerFunc) {
	pattern := method + " " + s.path + path
	s.routes = append(s.routes, pattern)
	s.mux.HandleFunc(pattern, h)
}

// Routes lists the patterns that the handler serves, in the form of [http.ServeMux], with the path of the
// issuer. Whoever mounts the handler beside other endpoints mounts it under these.
func (s *Service) Routes() []string { return slices.Clone(s.routes) }

// approvalsPath is where the calls that wait are listed; empty without approvals.
func (s *Service) approvalsPath() string {
	if s.deps.Approvals == nil {
		return ""
	}
	return s.path + "/approve"
}

// ApprovalURL is the address of the page where a person decides on a call that waits.
func (s *Service) ApprovalURL(id string) string { return s.origin + s.path + "/approve/" + id }

// Handler serves the pages. Requests for another host are refused: their pages would be those of whoever
// made the name point here (DNS rebinding).
func (s *Service) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.site.Protect(w.Header(), "")
		if !strings.EqualFold(r.Host, s.host) {
			s.problem(w, http.StatusMisdirectedRequest, "host_unknown", "This is not the address of this site", "Its address is "+s.origin+s.path+"/account.")
			return
		}
		if !s.limits.request(s.deps.Peer(r)) {
			w.Header().Set("Retry-After", "60")
			s.problem(w, http.StatusTooManyRequests, "rate_limited", "Too many requests", "Wait a minute and try again.")
			return
		}
		s.mux.ServeHTTP(w, r)
	})
}

func (s *Service) notFound(w http.ResponseWriter, _ *http.Request) {
	s.problem(w, http.StatusNotFound, "page_not_found", "There is no such page", "Check the address.")
}

// getScript serves the only script of the site.
func (s *Service) getScript(w http.ResponseWriter, r *http.Request) {
	text, err := files.ReadFile("passkey.js")
	if err != nil {
		s.broken(w, r, "script", err)
		return
	}
	w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
	_, _ = w.Write(text) // the browser went away
}
