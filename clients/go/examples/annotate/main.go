// Annotate prints the things in a film and the product that each may be.
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
		if object := message.GetObject(); object != nil {
			fmt.Println(object.GetLabel(), object.GetDecision(), object.GetProducts()[0].GetProduct().GetTitle())
		}
	}
}
