package sigs

import (
	"encoding/asn1"
	"fmt"
	"math/big"
)

// fixed turns an ECDSA signature in ASN.1 into r and s of 32 bytes each (RFC 9421 section 3.3.4).
func fixed(der []byte) ([]byte, error) {
	var sig struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &sig); err != nil || len(rest) > 0 || sig.R.BitLen() > 256 || sig.S.BitLen() > 256 {
		return nil, fmt.Errorf("sign: unexpected form of the signature")
	}
	out := make([]byte, 64)
	sig.R.FillBytes(out[:32])
	sig.S.FillBytes(out[32:])
	return out, nil
}
