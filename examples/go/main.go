// A client of sessiond in Go: it creates a session, stores, streams and watches messages, asks a model, and handles an error.
//
// The other commands read and write one session, one message a line in base64, so that tests can compare languages.
package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	pb "sessiond-example/gen/sessiond/v1"
)

func main() {
	log.SetFlags(0)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	connection, err := connect()
	check(err)
	defer connection.Close()
	sessions := pb.NewSessionServiceClient(connection)
	conversations := pb.NewConversationServiceClient(connection)
	arguments := append(os.Args[1:], "", "")
	switch id := arguments[1]; arguments[0] {
	case "":
		demo(ctx, sessions, conversations)
	case "write":
		write(ctx, sessions, id)
	case "read":
		read(ctx, sessions, id)
	case "watch":
		count, err := strconv.Atoi(arguments[2])
		check(err)
		watch(ctx, conversations, id, count)
	case "reason":
		_, err := sessions.GetSession(ctx, &pb.GetSessionRequest{SessionId: id})
		fmt.Println(reasonOf(err))
	default:
		log.Fatalf("unknown command %q", arguments[0])
	}
}

func demo(ctx context.Context, sessions pb.SessionServiceClient, conversations pb.ConversationServiceClient) {
	// Create.
	id := fmt.Sprintf("go-%d", time.Now().UnixNano())
	session, err := sessions.CreateSession(ctx, &pb.CreateSessionRequest{
		Session:   &pb.Session{SessionId: id, Model: "echo"},
		RequestId: id + "-create",
	})
	check(err)
	fmt.Println("created", session.SessionId == id)

	// Store. A repeated request_id stores nothing, and gets the response of the first call.
	for range 2 {
		stored, err := sessions.StoreMessages(ctx, &pb.StoreMessagesRequest{
			SessionId: id,
			Messages:  []*pb.Message{openai(`{"role": "user", "content": "Hello"}`)},
			RequestId: id + "-store",
		})
		check(err)
		fmt.Println("stored at", stored.FirstSeq)
	}

	// Stream.
	read(ctx, sessions, id)

	// Send. Deltas come while the model writes; the events with a seq are what is stored.
	turn, err := conversations.Send(ctx, &pb.SendRequest{SessionId: id, Prompt: "How are you?", RequestId: id + "-send"})
	check(err)
	text := ""
	for {
		step, err := turn.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		check(err)
		for _, event := range step.Events {
			if event.Type == "assistant.message_delta" {
				text += event.Data.Fields["delta_content"].GetStringValue()
			}
		}
	}
	fmt.Println("model:", text)

	// Watch, from the beginning.
	watch(ctx, conversations, id, 3)

	// An error has a reason.
	_, err = sessions.GetSession(ctx, &pb.GetSessionRequest{SessionId: "no-such-session"})
	fmt.Println("error:", reasonOf(err))
}

func openai(json string) *pb.Message {
	return &pb.Message{Format: pb.Format_FORMAT_OPENAI, Content: &pb.Message_Json{Json: json}}
}

// write stores the messages on standard input.
func write(ctx context.Context, sessions pb.SessionServiceClient, id string) {
	_, err := sessions.CreateSession(ctx, &pb.CreateSessionRequest{
		Session: &pb.Session{SessionId: id}, GetOrCreate: true,
	})
	check(err)
	var messages []*pb.Message
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, maxMessageBytes)
	for lines.Scan() {
		json, err := base64.StdEncoding.DecodeString(lines.Text())
		check(err)
		messages = append(messages, openai(string(json)))
	}
	check(lines.Err())
	_, err = sessions.StoreMessages(ctx, &pb.StoreMessagesRequest{
		SessionId: id, Messages: messages, RequestId: fmt.Sprint(time.Now().UnixNano()),
	})
	check(err)
}

// read prints a session's messages. A stream that breaks is resumed from its last resume_token.
func read(ctx context.Context, sessions pb.SessionServiceClient, id string) {
	request := &pb.GetMessagesRequest{SessionId: id}
	for {
		err := readBatches(ctx, sessions, request)
		if errors.Is(err, io.EOF) {
			return
		}
		if reason := reasonOf(err); reason != "SERVER_DRAINING" && reason != "Unavailable" {
			check(err)
		}
	}
}

func readBatches(ctx context.Context, sessions pb.SessionServiceClient, request *pb.GetMessagesRequest) error {
	stream, err := sessions.GetMessages(ctx, request)
	if err != nil {
		return err
	}
	for {
		batch, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, message := range batch.Messages {
			fmt.Println(base64.StdEncoding.EncodeToString([]byte(message.GetJson())))
		}
		request.Start = &pb.GetMessagesRequest_ResumeToken{ResumeToken: batch.ResumeToken}
	}
}

// watch prints the first messages of a session, and waits for those that are still to come.
func watch(ctx context.Context, conversations pb.ConversationServiceClient, id string, count int) {
	beginning := int64(0)
	events, err := conversations.Watch(ctx, &pb.WatchRequest{SessionId: id, AfterSeq: &beginning})
	check(err)
	for count > 0 {
		response, err := events.Recv()
		check(err)
		for _, event := range response.Events {
			if event.Seq > 0 && count > 0 {
				fmt.Println(base64.StdEncoding.EncodeToString([]byte(event.Message.GetJson())))
				count--
			}
		}
	}
}

// reasonOf returns the reason of an error, such as SESSION_NOT_FOUND; where there is none, its status code.
func reasonOf(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.Reason
		}
	}
	return status.Code(err).String()
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
