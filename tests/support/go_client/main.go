// A client of ext_proc by google.golang.org/grpc, with raw messages: what it sends is given in hexadecimal, a message a line
// on standard input; each reply goes out as a line. An empty line half-closes the call; its status is the last line.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

type raw struct{}

func (raw) Marshal(v any) ([]byte, error)   { return *v.(*[]byte), nil }
func (raw) Unmarshal(d []byte, v any) error { *v.(*[]byte) = append([]byte(nil), d...); return nil }
func (raw) Name() string                    { return "proto" }

func main() {
	address, method, secure := os.Args[1], os.Args[2], os.Args[3] == "tls"
	trust := insecure.NewCredentials()
	if secure {
		trust = credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(trust))
	if err != nil {
		panic(err)
	}
	defer connection.Close()
	limit, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	description := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	call, err := connection.NewStream(limit, description, method, grpc.ForceCodec(raw{}),
		grpc.MaxCallRecvMsgSize(64<<20), grpc.MaxCallSendMsgSize(64<<20))
	if err != nil {
		panic(err)
	}
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		lines.Buffer(make([]byte, 1<<20), 256<<20)
		for lines.Scan() {
			if lines.Text() == "" {
				call.CloseSend()
				return
			}
			message, err := hex.DecodeString(lines.Text())
			if err != nil {
				panic(err)
			}
			if call.SendMsg(&message) != nil {
				return
			}
		}
	}()
	for {
		var reply []byte
		if err = call.RecvMsg(&reply); err != nil {
			break
		}
		fmt.Println(hex.EncodeToString(reply))
	}
	if err == io.EOF {
		fmt.Println("OK")
	} else {
		fmt.Println(status.Code(err))
	}
}
