package warder

// A Revision is a dated revision of the Model Context Protocol, such as "2025-11-25". Revisions
// compare as strings in the order of their dates.
type Revision string

// The published revisions.
const (
	Revision20241105 Revision = "2024-11-05"
	Revision20250326 Revision = "2025-03-26"
	Revision20250618 Revision = "2025-06-18"
	Revision20251125 Revision = "2025-11-25"
	Revision20260728 Revision = "2026-07-28"
)

// Revisions lists every published revision Warder speaks, oldest first.
func Revisions() []Revision {
	return []Revision{Revision20241105, Revision20250326, Revision20250618, Revision20251125, Revision20260728}
}

// Known reports whether Warder speaks the revision.
func (r Revision) Known() bool {
	switch r {
	case Revision20241105, Revision20250326, Revision20250618, Revision20251125, Revision20260728:
		return true
	default:
		return false
	}
}

// Modern reports whether the revision is stateless: every request carries its own version and
// capabilities and no session exists (2026-07-28 and later).
func (r Revision) Modern() bool { return r >= Revision20260728 }
