package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	// deadlineGrace is how long the server may take to say that a deadline has passed.
	deadlineGrace = 2 * time.Second
	// maxTimeout is the longest timeout that is passed on; a longer one is shortened to it.
	maxTimeout    = 365 * 24 * time.Hour
	envelopeBytes = 5
)

var (
	errDeadline = errors.New("the deadline has passed")
	errTooLarge = errors.New("the message is too large")
	errDraining = errors.New("the gateway is shutting down")
)

// requestError is a failure to read a request. Its text may quote the request, so it is not logged.
type requestError struct{ error }

func (e requestError) Unwrap() error { return e.error }

// forwarder passes the gRPC calls of a method on to the server, headers and trailers included.
type forwarder struct {
	proxy   *httputil.ReverseProxy
	methods map[string]protoreflect.MethodDescriptor
	stops   *stops
}

func newForwarder(
	target *url.URL, transport http.RoundTripper, methods map[string]protoreflect.MethodDescriptor, stops *stops,
) *forwarder {
	return &forwarder{methods: methods, stops: stops, proxy: &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:      transport,
		FlushInterval:  -1, // Events of a stream are passed on as they come.
		ModifyResponse: endWithStatus,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			answer(w, failure(r, err, "the gateway cannot reach the sessiond server"))
		},
	}}
}

func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := f.methods[r.URL.Path]
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(f.stops.of(method), func() { cancel(errDraining) })()
	if timeout, ok := grpcTimeout(r.Header.Get("Grpc-Timeout")); ok {
		var release context.CancelFunc
		ctx, release = context.WithTimeoutCause(ctx, timeout+deadlineGrace, errDeadline)
		defer release()
	}
	r = r.WithContext(ctx)
	x := exchangeOf(ctx)
	if method.IsStreamingClient() {
		r.Body = requestStream{r.Body, x}
		f.proxy.ServeHTTP(w, r)
		return
	}
	// The server does not answer a call whose request never comes. So the request is read before the call begins.
	message, err := oneMessage(r.Body)
	switch {
	case x.isAnswered.Load(): // The translation has said what is wrong with the request.
		return
	case errors.Is(err, io.EOF):
		answer(w, failed(codes.InvalidArgument, malformed, "the call has no request; send {} for an empty one"))
		return
	case errors.Is(err, errTooLarge):
		answer(w, failed(codes.ResourceExhausted, "", fmt.Sprintf("a message has more than %d bytes", maxMessageBytes)))
		return
	case err != nil:
		answer(w, failed(codes.InvalidArgument, malformed, "the request breaks off"))
		return
	}
	x.discard()
	r.ContentLength = int64(len(message))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(message)), nil }
	r.Body, _ = r.GetBody()
	f.proxy.ServeHTTP(w, r)
}

// oneMessage reads a message in its envelope. The error is io.EOF if there is none.
func oneMessage(body io.Reader) ([]byte, error) {
	message := make([]byte, envelopeBytes)
	if _, err := io.ReadFull(body, message); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(message[1:])
	if size > maxMessageBytes {
		return nil, errTooLarge
	}
	whole := bytes.NewBuffer(message)
	if n, err := io.CopyN(whole, body, int64(size)); err != nil {
		return nil, fmt.Errorf("%d of %d bytes: %w", n, size, noEOF(err))
	}
	return whole.Bytes(), nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// requestStream is a stream of requests. The translation ends a stream with io.EOF also when it cannot read a message
// of it; the server would take what came before for the whole.
type requestStream struct {
	io.ReadCloser
	exchange *exchange
}

func (s requestStream) Read(into []byte) (int, error) {
	n, err := s.ReadCloser.Read(into)
	if err == nil {
		return n, nil
	}
	if errors.Is(err, io.EOF) && s.exchange.isEnded.Load() && !s.exchange.isAnswered.Load() {
		return n, io.EOF
	}
	return n, requestError{noEOF(err)}
}

// failure says why a call failed: of its deadline, its client, its request, the gateway, or the server.
func failure(r *http.Request, err error, otherwise string) *status.Status {
	var ofRequest requestError
	switch cause := context.Cause(r.Context()); {
	case errors.Is(cause, errDraining):
		return failed(codes.Unavailable, "SERVER_DRAINING",
			"the gateway is shutting down; continue on another one, from the last resume_token or seq")
	case errors.Is(cause, errDeadline):
		return failed(codes.DeadlineExceeded, "DEADLINE_EXCEEDED",
			"the server did not answer in time; the call may have taken effect")
	case cause != nil:
		return failed(codes.Canceled, "", "the client has gone away")
	case errors.As(err, &ofRequest):
		return failed(codes.InvalidArgument, malformed, "the request breaks off, or one of its messages cannot be read")
	case strings.Contains(err.Error(), "header list larger"):
		return failed(codes.ResourceExhausted, "", "the headers of the request are larger than the server accepts")
	}
	slog.Warn("backend_failed", "path", r.URL.Path, "error", err.Error())
	return failed(codes.Unavailable, "", otherwise)
}

// endWithStatus gives each response a status at its end, even if the connection to the server breaks.
//
// An error without a response has its status in the headers. It is moved to the trailers: the proxy may flush the
// headers before it ends the response, and gRPC clients then miss the trailers.
func endWithStatus(response *http.Response) error {
	stream := &responseStream{ReadCloser: response.Body, response: response, ended: http.Header{}}
	for _, name := range statusHeaders {
		if values := response.Header.Values(name); len(values) > 0 {
			stream.ended[name] = values
			response.Header.Del(name)
		}
	}
	response.Body = stream
	return nil
}

var statusHeaders = []string{"Grpc-Status", "Grpc-Message", "Grpc-Status-Details-Bin"}

type responseStream struct {
	io.ReadCloser
	response *http.Response
	ended    http.Header // The status of an error without a response; else empty.
}

func (s *responseStream) Read(into []byte) (int, error) {
	n, err := s.ReadCloser.Read(into)
	if err == nil {
		return n, nil
	}
	switch {
	case errors.Is(err, io.EOF) && len(s.ended) > 0:
		s.response.Trailer = s.ended
	case !errors.Is(err, io.EOF) || s.response.Trailer.Get("Grpc-Status") == "":
		lost := failure(s.response.Request, noEOF(err), "the connection to the sessiond server broke off")
		s.response.Trailer = trailers(lost)
	}
	return n, io.EOF
}

// grpcTimeout reads a timeout such as 1500m.
func grpcTimeout(text string) (time.Duration, bool) {
	units := map[byte]time.Duration{
		'H': time.Hour, 'M': time.Minute, 'S': time.Second,
		'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
	}
	if text == "" {
		return 0, false
	}
	unit, known := units[text[len(text)-1]]
	count, err := strconv.ParseInt(text[:len(text)-1], 10, 64)
	if !known || err != nil || count < 0 {
		return 0, false
	}
	return time.Duration(min(count, int64(maxTimeout/unit))) * unit, true
}
