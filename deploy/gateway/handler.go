package main

import (
	"context"
	"fmt"
	"io"
	"net/http"

	connectcors "connectrpc.com/cors"
	"connectrpc.com/vanguard"
	"github.com/rs/cors"
	// Registers the details of errors, so that they are also readable as JSON.
	_ "google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/reflect/protoreflect"
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
	methods := map[string]protoreflect.MethodDescriptor{}
	target, transport := chosen.backend.transport(config)
	forwarder := newForwarder(target, transport, methods, newStops(ctx))
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
		for i := range service.Methods().Len() {
			methods[fmt.Sprintf("/%s/%s", name, service.Methods().Get(i).Name())] = service.Methods().Get(i)
		}
		services = append(services, vanguard.NewServiceWithSchema(service, forwarder,
			vanguard.WithTargetProtocols(vanguard.ProtocolGRPC),
			vanguard.WithTargetCodecs(vanguard.CodecProto),
			vanguard.WithNoTargetCompression(),
			vanguard.WithTypeResolver(types),
			vanguard.WithMaxMessageBufferBytes(maxMessageBytes),
			vanguard.WithMaxGetURLBytes(8<<10),
		))
	}
	transcoder, err := vanguard.NewTranscoder(services,
		vanguard.WithCompression(vanguard.CompressionGzip, newGzip, newBoundedGzip),
		vanguard.WithCodec(newStrictJSON),
	)
	if err != nil {
		return nil, err
	}
	served := webText(calls(methods, transcoder))
	root := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			_, _ = io.WriteString(w, "ok\n")
			return
		}
		served.ServeHTTP(w, r)
	})
	return cors.New(cors.Options{
		AllowedOrigins: chosen.origins,
		// If no origins are allowed, only pages of the gateway's own origin may call.
		AllowOriginFunc: noOrigin(chosen.origins),
		AllowedMethods:  connectcors.AllowedMethods(),
		AllowedHeaders:  append(connectcors.AllowedHeaders(), "Authorization", "X-Request-Id"),
		ExposedHeaders:  connectcors.ExposedHeaders(),
		MaxAge:          7200,
	}).Handler(exchanges(root)), nil
}

func noOrigin(origins []string) func(string) bool {
	if len(origins) > 0 {
		return nil
	}
	return func(string) bool { return false }
}
