package access

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// A week names times of the week in one place of the world.
type week struct {
	location *time.Location
	windows  []window
	minute   atomic.Pointer[moment] // what was found out about the current minute
}

type window struct {
	name     string
	days     [7]bool
	from, to int // minutes of the day; from > to goes past midnight, into the next day
}

// A moment is what a week says of one minute.
type moment struct {
	unix    int64 // minutes since 1970
	open    []string
	hour    int
	weekday string
}

func newWeek(cfg HoursConfig) (*week, error) {
	w := &week{location: time.UTC}
	var errs []error
	if cfg.Location != "" {
		l, err := time.LoadLocation(cfg.Location)
		if err != nil {
			errs = append(errs, fmt.Errorf("location: %w", err))
		} else {
			w.location = l
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Windows)) {
		for _, text := range cfg.Windows[name] {
			one, err := parseWindow(text)
			if err != nil || name == "" {
				errs = append(errs, fmt.Errorf("windows.%s: %q: want days and times such as %q", name, text, "mon-fri 08:00-18:00"))
				continue
			}
			one.name = name
			w.windows = append(w.windows, one)
		}
	}
	return w, errors.Join(errs...)
}

// dayNames are in the order of time.Weekday.
func dayNames() []string { return []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} }

var errWindow = errors.New("not a window")

// parseWindow reads "mon-fri 08:00-18:00", "sat,sun 00:00-24:00" or "fri 22:00-06:00".
func parseWindow(text string) (window, error) {
	var w window
	days, times, ok := strings.Cut(text, " ")
	if !ok {
		return w, errWindow
	}
	for part := range strings.SplitSeq(days, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, to := slices.Index(dayNames(), first), slices.Index(dayNames(), last)
		if from < 0 || to < 0 {
			return w, errWindow
		}
		for d := from; ; d = (d + 1) % 7 {
			w.days[d] = true
			if d == to {
				break
			}
		}
	}
	from, to, ok := strings.Cut(times, "-")
	var okFrom, okTo bool
	w.from, okFrom = minutes(from)
	w.to, okTo = minutes(to)
	if !ok || !okFrom || !okTo || w.from == w.to || w.from == 24*60 {
		return w, errWindow
	}
	return w, nil
}

func minutes(text string) (int, bool) {
	if text == "24:00" {
		return 24 * 60, true
	}
	t, err := time.Parse("15:04", text)
	return t.Hour()*60 + t.Minute(), err == nil && len(text) == 5
}

func (w *window) open(day time.Weekday, minute int) bool {
	if w.from < w.to {
		return w.days[day] && minute >= w.from && minute < w.to
	}
	return w.days[day] && minute >= w.from || w.days[(day+6)%7] && minute < w.to
}

// at says which windows are open; the answer is remembered for the minute.
func (w *week) at(now time.Time) *moment {
	unix := now.Unix() / 60
	if m := w.minute.Load(); m != nil && m.unix == unix {
		return m
	}
	local := now.In(w.location)
	m := &moment{unix: unix, hour: local.Hour(), weekday: dayNames()[local.Weekday()]}
	for i := range w.windows {
		one := &w.windows[i]
		if one.open(local.Weekday(), local.Hour()*60+local.Minute()) && !slices.Contains(m.open, one.name) {
			m.open = append(m.open, one.name)
		}
	}
	w.minute.Store(m)
	return m
}

// A Moment is what policy is told of a time: which configured windows are open, and the local hour and day.
type Moment struct {
	Hours   []string
	Hour    int
	Weekday string
}

// MomentOf is the moment of a time by a configuration.
func MomentOf(cfg HoursConfig, t time.Time) (Moment, error) {
	w, err := newWeek(cfg)
	if err != nil {
		return Moment{}, fmt.Errorf("hours: %w", err)
	}
	m := w.at(t)
	return Moment{Hours: m.open, Hour: m.hour, Weekday: m.weekday}, nil
}
