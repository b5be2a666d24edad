package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"

	connectcors "connectrpc.com/cors"
	"connectrpc.com/vanguard"
	"github.com/rs/cors"
	// Registers the details of errors, so that they are also readable as JSON.
	_ "google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/dynamicpb"
)

// maxMessageBytes is the largest request or response that is translated; sessiond's own limit is the same.
const maxMessageBytes = 64 << 20

func newHandler(ctx context.Context, chosen options) (http.Handler, error) {
	config, err := chosen.backend.tlsConfig()
	if err != nil {
		return nil, err
	}
	files, names, err := chosen.backend.schema(ctx, config)
	if err != nil {
		return nil, err
	}
	proxy := chosen.backend.proxy(config)
	types := dynamicpb.NewTypes(files)
	var services []*vanguard.Service
	for _, name := range names {
		if name == adminService && !chosen.hasAdmin {
			continue
		}
		service, err := serviceOf(files, name)
		if err != nil {
			return nil, err
		}
		services = append(services, vanguard.NewServiceWithSchema(service, proxy,
			vanguard.WithTargetProtocols(vanguard.ProtocolGRPC),
			vanguard.WithTargetCodecs(vanguard.CodecProto),
			vanguard.WithNoTargetCompression(),
			vanguard.WithTypeResolver(types),
			vanguard.WithMaxMessageBufferBytes(maxMessageBytes),
			vanguard.WithMaxGetURLBytes(8<<10),
		))
	}
	transcoder, err := vanguard.NewTranscoder(services)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "ok\n")
	})
	mux.Handle("/", fullDuplex(plainPosts(transcoder)))
	return cors.New(cors.Options{
		AllowedOrigins: chosen.origins,
		// If no origins are allowed, only pages of the gateway's own origin may call.
		AllowOriginFunc: noOrigin(chosen.origins),
		AllowedMethods:  connectcors.AllowedMethods(),
		AllowedHeaders:  append(connectcors.AllowedHeaders(), "Authorization", "X-Request-Id"),
		ExposedHeaders:  connectcors.ExposedHeaders(),
		MaxAge:          7200,
	}).Handler(mux), nil
}

func noOrigin(origins []string) func(string) bool {
	if len(origins) > 0 {
		return nil
	}
	return func(string) bool { return false }
}

// fullDuplex lets responses begin before the end of the request was read. Without it, an HTTP/1 server closes the
// request's body when a response begins: a stream whose server answers quickly breaks off, since its request could
// not be read to the end.
func fullDuplex(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			slog.Warn("no_full_duplex", "protocol", r.Proto, "error", err.Error())
		}
		next.ServeHTTP(w, r)
	})
}

// plainPosts treats a POST of JSON as a call in the Connect protocol, so that curl needs no further header.
func plainPosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		isJSON := strings.HasPrefix(r.Header.Get("Content-Type"), "application/json")
		if r.Method == http.MethodPost && isJSON && r.Header.Get("Connect-Protocol-Version") == "" {
			r.Header.Set("Connect-Protocol-Version", "1")
		}
		next.ServeHTTP(w, r)
	})
}
