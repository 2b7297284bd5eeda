package secret

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// awsKeys sign requests to AWS.
type awsKeys struct {
	id      string
	secret  Value
	session Value
}

// signV4 signs a request (AWS Signature Version 4): every header that is set, and the payload.
func signV4(r *http.Request, payload []byte, keys awsKeys, region, service string, now time.Time) {
	stamp := now.UTC().Format("20060102T150405Z")
	day := stamp[:8]
	r.Header.Set("X-Amz-Date", stamp)
	if len(keys.session.Bytes()) > 0 {
		r.Header.Set("X-Amz-Security-Token", string(keys.session.Bytes()))
	}
	names, canonical := canonicalRequest(r, payload)
	scope := day + "/" + region + "/" + service + "/aws4_request"
	toSign := "AWS4-HMAC-SHA256\n" + stamp + "\n" + scope + "\n" + hexSum([]byte(canonical))
	key := append([]byte("AWS4"), keys.secret.Bytes()...)
	for _, part := range []string{day, region, service, "aws4_request"} {
		next := mac(key, part)
		clear(key)
		key = next
	}
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+keys.id+"/"+scope+", SignedHeaders="+names+", Signature="+hex.EncodeToString(mac(key, toSign)))
	clear(key)
}

// canonicalRequest is what the signature covers.
func canonicalRequest(r *http.Request, payload []byte) (names, text string) {
	headers := map[string]string{"host": r.URL.Host}
	if r.Host != "" {
		headers["host"] = r.Host
	}
	for name, values := range r.Header {
		trimmed := make([]string, len(values))
		for i, v := range values {
			trimmed[i] = strings.Join(strings.Fields(v), " ")
		}
		headers[strings.ToLower(name)] = strings.Join(trimmed, ",")
	}
	var list []string
	for name := range headers {
		list = append(list, name)
	}
	slices.Sort(list)
	var b strings.Builder
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	b.WriteString(r.Method + "\n" + path + "\n" + canonicalQuery(r.URL.Query()) + "\n")
	for _, name := range list {
		b.WriteString(name + ":" + headers[name] + "\n")
	}
	names = strings.Join(list, ";")
	b.WriteString("\n" + names + "\n" + hexSum(payload))
	return names, b.String()
}

// canonicalQuery sorts parameters by name, then value, and encodes as RFC 3986 does.
func canonicalQuery(q url.Values) string {
	var pairs []string
	for name, values := range q {
		for _, v := range values {
			pairs = append(pairs, escape(name)+"="+escape(v))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

func escape(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(url.QueryEscape(s), "+", "%20"), "%7E", "~")
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
