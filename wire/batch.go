package wire

import "github.com/warder-mcp/warder"

// maxBatch bounds the messages of one batch. Batches exist in 2025-03-26 only; its clients send a
// handful.
const maxBatch = 100

// SplitBatch returns the messages of a JSON-RPC batch (2025-03-26), each still to be decoded. A body
// that is not an array is returned as one message, unchecked. The whole batch is held to the limits
// and to the strictness of Decode; an empty one, or one of more than 100 messages, is an error.
func SplitBatch(raw []byte, lim Limits) (messages [][]byte, isBatch bool, err error) {
	trimmed := trimSpace(raw)
	if len(trimmed) == 0 || trimmed[0] != '[' {
		return [][]byte{raw}, false, nil
	}
	if err := Validate(trimmed, lim); err != nil {
		return nil, true, err
	}
	for i, v := range Parse(trimmed).Elements() {
		if i >= maxBatch {
			return nil, true, warder.Fail(warder.CodeTooLarge, ReasonBatch, nil)
		}
		messages = append(messages, v.Raw())
	}
	if len(messages) == 0 {
		return nil, true, warder.Fail(warder.CodeInvalidRequest, ReasonBatch, nil)
	}
	return messages, true, nil
}
