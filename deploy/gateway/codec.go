package main

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"

	"connectrpc.com/connect"
	"connectrpc.com/vanguard"
	"google.golang.org/protobuf/proto"
)

// strictJSON refuses JSON that is not the request's message, and names of fields that it does not have.
type strictJSON struct{ *vanguard.JSONCodec }

func newStrictJSON(types vanguard.TypeResolver) vanguard.Codec {
	codec := vanguard.NewJSONCodec(types)
	codec.UnmarshalOptions.DiscardUnknown = false
	return strictJSON{codec}
}

func (c strictJSON) Unmarshal(data []byte, message proto.Message) error {
	err := c.JSONCodec.Unmarshal(data, message)
	if err == nil {
		return nil
	}
	// protojson writes some of its spaces as no-break spaces, so that nobody compares its messages.
	text := strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\u00a0", " "), "proto: ")
	name := message.ProtoReflect().Descriptor().FullName()
	return malformedError(fmt.Errorf("%s: the request is not the JSON of a %s: %s", malformed, name, text))
}

// boundedGzip reads the gzip of a request. It refuses what is not gzip, and what would become larger than a message
// may be.
type boundedGzip struct {
	gzip.Reader
	left int
}

func newGzip() connect.Compressor { return gzip.NewWriter(io.Discard) }

func newBoundedGzip() connect.Decompressor { return &boundedGzip{} }

func (z *boundedGzip) Reset(compressed io.Reader) error {
	z.left = maxMessageBytes
	return notGzip(z.Reader.Reset(compressed))
}

func (z *boundedGzip) Read(into []byte) (int, error) {
	n, err := z.Reader.Read(into)
	if z.left -= n; z.left < 0 {
		return 0, connect.NewError(connect.CodeResourceExhausted,
			fmt.Errorf("a message has more than %d bytes, uncompressed", maxMessageBytes))
	}
	return n, notGzip(err)
}

func notGzip(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return malformedError(fmt.Errorf("%s: the request is not gzip: %w", malformed, err))
}
