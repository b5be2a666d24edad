package main

import (
	"context"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	// streamDrain is how long streams of responses may continue when the gateway stops. Clients resume them elsewhere.
	streamDrain = 5 * time.Second
	// callDrain is how long other calls may take.
	callDrain = 20 * time.Second
	// lastDrain is how long it may take to tell the clients.
	lastDrain = 2 * time.Second
)

// stops ends the calls in progress when the gateway stops.
type stops struct {
	streams, calls context.Context
}

// newStops returns stops that begin when ctx is done.
func newStops(ctx context.Context) *stops {
	return &stops{streams: later(ctx, streamDrain), calls: later(ctx, callDrain)}
}

func later(ctx context.Context, delay time.Duration) context.Context {
	made, cancel := context.WithCancel(context.Background())
	context.AfterFunc(ctx, func() { time.AfterFunc(delay, cancel) })
	return made
}

func (s *stops) of(method protoreflect.MethodDescriptor) context.Context {
	if method.IsStreamingServer() {
		return s.streams
	}
	return s.calls
}
