// Annotate prints the things in a film and the products that each may be.
//
//	go run ./examples/annotate localhost:50050 film.mp4 catalogs/sample
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	shoppable "shoppable.dev/client"
	pb "shoppable.dev/client/shoppablev1"
)

func main() {
	client, err := shoppable.New(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	options := &pb.AnnotateOptions{Catalog: os.Args[3]}
	for message, err := range client.Annotate(context.Background(), shoppable.File(os.Args[2]), options) {
		if err != nil {
			log.Fatal(err)
		}
		for _, match := range message.GetObject().GetProducts() {
			fmt.Println(message.GetObject().GetLabel(), match.GetDecision(), match.GetProduct().GetTitle())
		}
	}
}
