package safedial

import "net/netip"

// A Class says what kind of address an address is.
type Class uint8

// Classes. Only Public may be dialed without an exception, and Metadata never.
const (
	Reserved  Class = iota // documentation, benchmarking, translation, unassigned; the strict zero value
	Public                 // globally routable unicast
	Loopback               // this host
	Private                // RFC 1918, RFC 4193 unique-local
	Shared                 // carrier-grade NAT, RFC 6598
	LinkLocal              // RFC 3927, RFC 4291
	Multicast              // RFC 5771, RFC 4291, and limited broadcast
	Metadata               // a cloud provider's instance metadata or host agent
)

// String returns the class in words.
func (c Class) String() string {
	switch c {
	case Public:
		return "public"
	case Loopback:
		return "loopback"
	case Private:
		return "private"
	case Shared:
		return "shared address space"
	case LinkLocal:
		return "link-local"
	case Multicast:
		return "multicast"
	case Metadata:
		return "a cloud metadata service"
	default:
		return "reserved"
	}
}

// Classify judges one address. An IPv6 address that carries an IPv4 address is judged by both, and
// the worse counts.
func Classify(ip netip.Addr) Class {
	if !ip.IsValid() || ip.Zone() != "" {
		return Reserved
	}
	ip = ip.Unmap()
	if isMetadata(ip) {
		return Metadata
	}
	if ip.Is4() {
		return classify4(ip)
	}
	return classify6(ip)
}

// isMetadata knows the addresses under which clouds hand out credentials. 169.254.0.0/16 also
// holds them for ECS tasks and pods, but is link-local and never allowed anyway.
func isMetadata(ip netip.Addr) bool {
	switch ip.String() {
	case "169.254.169.254", // AWS, Azure, Google, Oracle, DigitalOcean, OpenStack
		"169.254.170.2", "169.254.170.23", // AWS ECS task and EKS pod credentials
		"100.100.100.200",               // Alibaba Cloud
		"168.63.129.16",                 // Azure host agent, in public space
		"192.0.0.192",                   // Oracle Cloud
		"fd00:ec2::254", "fd00:ec2::23", // AWS over IPv6
		"fd20:ce::254",       // Google over IPv6
		"fd00:c1::a9fe:a9fe": // Oracle over IPv6
		return true
	default:
		return false
	}
}

func classify4(ip netip.Addr) Class {
	b := ip.As4()
	switch {
	case ip.IsLoopback():
		return Loopback
	case ip.IsPrivate():
		return Private
	case ip.IsLinkLocalUnicast():
		return LinkLocal
	case ip.IsMulticast(), b == [4]byte{255, 255, 255, 255}:
		return Multicast
	case b[0] == 100 && b[1]&0xc0 == 64: // 100.64.0.0/10
		return Shared
	case b[0] == 0, b[0] >= 240, // "this network", future use
		b[0] == 192 && b[1] == 0 && (b[2] == 0 || b[2] == 2), // IETF protocols, documentation
		b[0] == 192 && b[1] == 88 && b[2] == 99,              // 6to4 relay, deprecated
		b[0] == 198 && b[1]&0xfe == 18,                       // benchmarking
		b[0] == 198 && b[1] == 51 && b[2] == 100,             // documentation
		b[0] == 203 && b[1] == 0 && b[2] == 113:              // documentation
		return Reserved
	default:
		return Public
	}
}

func classify6(ip netip.Addr) Class {
	b := ip.As16()
	switch {
	case ip.IsLoopback():
		return Loopback
	case ip.IsMulticast():
		return Multicast
	case ip.IsLinkLocalUnicast():
		return LinkLocal
	case ip.IsPrivate():
		return Private
	case has(b, 0x00, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0): // NAT64, RFC 6052
		return hidden(b[12:16])
	case b[0]&0xe0 != 0x20: // outside 2000::/3 nothing is globally routable unicast
		return Reserved
	case has(b, 0x20, 0x02): // 6to4, RFC 3056
		return hidden(b[2:6])
	case has(b, 0x20, 0x01, 0x0d, 0xb8), has(b, 0x3f, 0xff), // documentation (3fff::/20 and beyond)
		b[0] == 0x20 && b[1] == 0x01 && b[2] <= 0x01: // 2001::/23: Teredo, benchmarking, ORCHID
		return Reserved
	case b[8]&^0x02 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe: // ISATAP, RFC 5214
		return hidden(b[12:16])
	default:
		return Public
	}
}

// hidden judges an IPv4 address that an IPv6 address carries. Even a public one is allowed only
// because a translator would reach exactly it.
func hidden(b []byte) Class { return Classify(netip.AddrFrom4([4]byte(b))) }

func has(b [16]byte, prefix ...byte) bool { return string(b[:len(prefix)]) == string(prefix) }
