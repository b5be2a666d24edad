package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxReadAhead is the size of requests that are read before their call begins.
	maxReadAhead = 1 << 20
	// maxDiscarded is how much of a request is still read after its response has begun.
	maxDiscarded = 256 << 20
	// discardPatience is how long to wait for more of such a request.
	discardPatience = 2 * time.Second
)

type exchangeKey struct{}

// exchange is an HTTP request whose body may end after its response has begun.
type exchange struct {
	http.ResponseWriter
	body       io.ReadCloser
	isStreamed bool        // The call begins before the request has been read.
	isAnswered atomic.Bool // The header of the response has been written.
	isEnded    atomic.Bool // The request has been read to its end.
	received   atomic.Int64
	discarding sync.Once
	discarded  chan struct{}
}

func exchangeOf(ctx context.Context) *exchange {
	found, _ := ctx.Value(exchangeKey{}).(*exchange)
	return found
}

// exchanges lets responses begin before the end of their request has been read. An HTTP/1 server of Go closes the
// request's body when a response begins, unless it serves in full duplex. In full duplex it fails to reuse a
// connection whose request was not read to its end. Small requests are therefore read before the call, and the
// connection is closed after a response that begins before the end of its request.
func exchanges(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{ResponseWriter: w, body: r.Body, discarded: make(chan struct{})}
		if r.ProtoMajor == 1 {
			dropUpgrade(r.Header)
			if r.ContentLength >= 0 && r.ContentLength <= maxReadAhead {
				whole, err := io.ReadAll(r.Body)
				if err != nil {
					return // The client has gone away.
				}
				x.body = io.NopCloser(bytes.NewReader(whole))
			} else {
				x.isStreamed = true
				_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/1 servers can.
			}
		}
		r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
		r.Body = requestBody{x}
		next.ServeHTTP(x, r)
		x.finish()
	})
}

// dropUpgrade removes the offer of another protocol, which curl makes with --http2. It is not for the server.
func dropUpgrade(header http.Header) {
	for _, name := range []string{"Upgrade", "Http2-Settings", "Connection"} {
		header.Del(name)
	}
}

func (x *exchange) WriteHeader(status int) {
	if status >= http.StatusOK && x.isAnswered.CompareAndSwap(false, true) {
		x.Header().Del("Accept-Encoding") // Meant for the gateway.
		if x.isStreamed && !x.isEnded.Load() {
			x.Header().Set("Connection", "close")
		}
	}
	x.ResponseWriter.WriteHeader(status)
}

func (x *exchange) Write(data []byte) (int, error) {
	if !x.isAnswered.Load() {
		x.WriteHeader(http.StatusOK)
	}
	return x.ResponseWriter.Write(data)
}

func (x *exchange) Flush() { _ = http.NewResponseController(x.ResponseWriter).Flush() }

func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// discard reads the rest of the request in the background, so that a client that sends all of its request before
// it reads gets the response.
func (x *exchange) discard() {
	x.discarding.Do(func() {
		go func() {
			defer close(x.discarded)
			_, _ = io.CopyN(io.Discard, requestBody{x}, maxDiscarded)
		}()
	})
}

// finish waits for the end of the request, as long as more of it comes.
func (x *exchange) finish() {
	if !x.isStreamed || x.isEnded.Load() {
		return
	}
	x.Flush()
	x.discard()
	for before := int64(-1); before != x.received.Load(); {
		before = x.received.Load()
		select {
		case <-x.discarded:
			return
		case <-time.After(discardPatience):
		}
	}
}

// requestBody is the body of an exchange. It notes the end.
type requestBody struct{ *exchange }

func (b requestBody) Read(into []byte) (int, error) {
	n, err := b.body.Read(into)
	b.received.Add(int64(n))
	if err == io.EOF {
		b.isEnded.Store(true)
	}
	return n, err
}

func (b requestBody) Close() error { return b.body.Close() }
