package webhook

import (
	"net/http"
	"time"
)

// Sign sets the headers of a message as a sender does.
func Sign(k Key, h http.Header, id string, now time.Time, body []byte) { k.sign(h, id, now, body) }
