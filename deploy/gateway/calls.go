package main

import (
	"mime"
	"net/http"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

const (
	unaryTypes  = "application/json, application/proto"
	streamTypes = "application/connect+json, application/connect+proto"
	otherTypes  = ", application/grpc-web+proto, application/grpc-web-text, application/grpc"
)

// calls lets only those requests through that are calls of a known method, and says what is wrong with the others.
// A request without the headers of the Connect protocol is taken for a call in it, so that curl needs none.
func calls(methods map[string]protoreflect.MethodDescriptor, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		method, known := methods[r.URL.Path]
		if !known {
			refuse(w, r, http.StatusNotFound, connect.CodeUnimplemented,
				"there is no such method; a call goes to /sessiond.v1.SERVICE/METHOD")
			return
		}
		if isGET := r.Method == http.MethodGet; isGET && !isReadable(method) || !isGET && r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			refuse(w, r, http.StatusMethodNotAllowed, connect.CodeUnimplemented, "call this method with POST")
			return
		}
		if wrong := protocolOf(r); wrong != "" {
			refuse(w, r, http.StatusBadRequest, connect.CodeInvalidArgument, wrong)
			return
		}
		if encoding := encodingOf(r); encoding != "" && encoding != "identity" && encoding != "gzip" {
			w.Header().Set("Grpc-Accept-Encoding", "gzip")
			refuse(w, r, http.StatusUnsupportedMediaType, connect.CodeUnimplemented, "compress with gzip, or not at all")
			return
		}
		if r.Method == http.MethodPost {
			if wrong := contentTypeOf(r, method); wrong != "" {
				refuse(w, r, http.StatusUnsupportedMediaType, connect.CodeInvalidArgument, wrong)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func isReadable(method protoreflect.MethodDescriptor) bool {
	return !method.IsStreamingClient() && !method.IsStreamingServer() && hasNoSideEffects(method)
}

func hasNoSideEffects(method protoreflect.MethodDescriptor) bool {
	options, ok := method.Options().(*descriptorpb.MethodOptions)
	return ok && options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS
}

// encodingOf returns how the request is compressed.
func encodingOf(r *http.Request) string {
	for _, name := range []string{"Grpc-Encoding", "Connect-Content-Encoding", "Content-Encoding"} {
		if encoding := r.Header.Get(name); encoding != "" {
			return encoding
		}
	}
	return r.URL.Query().Get("compression")
}

// protocolOf checks the headers of the Connect protocol.
func protocolOf(r *http.Request) string {
	switch version := r.Header.Get("Connect-Protocol-Version"); version {
	case "", "1":
	default:
		return "Connect-Protocol-Version is " + strconv.Quote(version) + "; it must be 1"
	}
	if given := r.Header.Get("Connect-Timeout-Ms"); given != "" {
		timeout, err := strconv.ParseInt(given, 10, 64)
		if err != nil || timeout < 0 {
			return "Connect-Timeout-Ms is not a number of milliseconds"
		}
		timeout = min(timeout, maxTimeout.Milliseconds())
		r.Header.Set("Connect-Timeout-Ms", strconv.FormatInt(timeout, 10))
	}
	if given := r.Header.Get("Grpc-Timeout"); given != "" {
		timeout, ok := grpcTimeout(given)
		if !ok {
			return "grpc-timeout is not a number with a unit, such as 1500m"
		}
		if timeout == maxTimeout {
			r.Header.Del("Grpc-Timeout") // The translation refuses longer ones.
		}
	}
	if r.Method == http.MethodGet {
		query := r.URL.Query()
		if !query.Has("message") || !query.Has("encoding") {
			return "a call by GET has its request in the query: ?connect=v1&encoding=json&message=%7B%7D"
		}
		query.Set("connect", "v1")
		r.URL.RawQuery = query.Encode()
		r.Header.Del("Content-Type")
	}
	return ""
}

// contentTypeOf checks the content type, and writes it as the translation expects it.
func contentTypeOf(r *http.Request, method protoreflect.MethodDescriptor) string {
	given := r.Header.Values("Content-Type")
	offered := unaryTypes
	if method.IsStreamingClient() || method.IsStreamingServer() {
		offered = streamTypes
	}
	wrong := "set one Content-Type: " + offered + otherTypes
	if len(given) != 1 {
		return wrong
	}
	mediaType, parameters, err := mime.ParseMediaType(given[0])
	if err != nil {
		return wrong
	}
	if charset, has := parameters["charset"]; has && !strings.EqualFold(charset, "utf-8") {
		return "the charset must be utf-8"
	}
	switch mediaType {
	case "application/grpc", "application/grpc+proto", "application/grpc+json",
		"application/grpc-web", "application/grpc-web+proto", "application/grpc-web+json":
	default:
		if !strings.Contains(offered+",", mediaType+",") {
			return wrong
		}
	}
	r.Header.Set("Content-Type", mediaType)
	if offered == unaryTypes && strings.Contains(unaryTypes+",", mediaType+",") {
		r.Header.Set("Connect-Protocol-Version", "1")
	}
	return ""
}
