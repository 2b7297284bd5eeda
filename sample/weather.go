package sample

import (
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/warder-mcp/warder/wire"
)

// Weather returns an honest server of 2026-07-28 over Streamable HTTP. Its forecasts are computed from
// the name of the city, so they are the same every time; it knows no real weather.
func Weather() http.Handler {
	s := newWeather()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		m, err := wire.Decode(body, wire.DefaultLimits())
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write(wire.ErrorResponse(nil, -32700, "parse error", nil)) // the peer may be gone
			return
		}
		answer := s.handle(m)
		switch {
		case answer == nil:
			w.WriteHeader(http.StatusAccepted)
			return
		case m.Method == wire.MethodInitialize:
			w.WriteHeader(http.StatusBadRequest)
		}
		_, _ = w.Write(answer) // the peer may be gone
	})
}

func newWeather() *server {
	s := &server{name: "weather", modern: true, instructions: "Ask for one city at a time."}
	s.tools = map[string]tool{
		"forecast": {
			fixed(`{"name":"forecast","title":"Forecast","description":"Returns a made-up forecast for a city, the same every time.","inputSchema":{"type":"object","properties":{"city":{"type":"string","minLength":1,"maxLength":80},"days":{"type":"integer","minimum":1,"maximum":7}},"required":["city"],"additionalProperties":false},"outputSchema":{"type":"object","properties":{"city":{"type":"string"},"celsius":{"type":"array","items":{"type":"integer"}},"sky":{"type":"string","enum":["clear","cloudy","rain","snow"]}},"required":["city","celsius","sky"],"additionalProperties":false},"annotations":{"readOnlyHint":true}}`),
			forecast,
		},
	}
	return s
}

// forecast computes the answer from the city's name.
func forecast(args wire.Value) string {
	city := argument(args, "city")
	days, ok := args.Get("days").Int()
	if !ok {
		days = 1
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(city)) // never fails
	seed := h.Sum32()
	var degrees strings.Builder
	degrees.WriteString("[")
	for d := range int(days) {
		if d > 0 {
			degrees.WriteString(",")
		}
		degrees.WriteString(strconv.Itoa(int(seed>>(2*d)%28) - 3))
	}
	sky := [...]string{"clear", "cloudy", "rain", "snow"}[seed%4]
	structured := fmt.Sprintf(`{"city":%s,"celsius":%s],"sky":%q}`, wire.Quote(city), degrees.String(), sky)
	return fmt.Sprintf(`{"content":[{"type":"text","text":%s}],"structuredContent":%s,"resultType":"complete"}`, wire.Quote(structured), structured)
}
