// Measures unary appends and full reads from Go; see ../../languages.py.
//
// Usage: measure TARGET SESSION APPENDS LONG_SESSION READS, with the message on the standard input. Prints a JSON object.
package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"os"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "sessiond-example/gen/sessiond/v1"
)

const warmUp = 30

func main() {
	ctx := context.Background()
	target, session, long := os.Args[1], os.Args[2], os.Args[4]
	appends, reads := number(os.Args[3]), number(os.Args[5])
	text, err := io.ReadAll(os.Stdin)
	check(err)
	connection, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	check(err)
	defer connection.Close()
	sessions := pb.NewSessionServiceClient(connection)
	_, err = sessions.CreateSession(ctx, &pb.CreateSessionRequest{Session: &pb.Session{SessionId: session}})
	check(err)

	var times []time.Duration
	for i := range warmUp + appends {
		began := time.Now()
		_, err := sessions.StoreMessages(ctx, &pb.StoreMessagesRequest{
			SessionId: session,
			Messages:  []*pb.Message{{Format: pb.Format_FORMAT_OPENAI, Content: &pb.Message_Json{Json: string(text)}}},
			RequestId: session + strconv.Itoa(i),
		})
		check(err)
		if i >= warmUp {
			times = append(times, time.Since(began))
		}
	}
	count := read(ctx, sessions, long)
	began := time.Now()
	for range reads {
		read(ctx, sessions, long)
	}
	took := time.Since(began).Seconds()
	slices.Sort(times)
	check(json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"append_p50_ms":   milliseconds(times[len(times)/2]),
		"append_p99_ms":   milliseconds(times[len(times)*99/100]),
		"read_messages_s": float64(reads*count) / took,
	}))
}

func read(ctx context.Context, sessions pb.SessionServiceClient, id string) int {
	stream, err := sessions.GetMessages(ctx, &pb.GetMessagesRequest{SessionId: id})
	check(err)
	count := 0
	for {
		batch, err := stream.Recv()
		if err == io.EOF {
			return count
		}
		check(err)
		count += len(batch.Messages)
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func number(text string) int {
	value, err := strconv.Atoi(text)
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
