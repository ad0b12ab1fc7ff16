// Command compose-config loads compose files as `docker compose config` does, by the same library, and prints the
// project as JSON: for machines that have no docker compose.
//
//	compose-config PROFILE FILE...
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	log.SetFlags(0)
	profiles := cli.WithProfiles(os.Args[1:2])
	options, err := cli.NewProjectOptions(os.Args[2:], cli.WithOsEnv, profiles)
	if err != nil {
		log.Fatal(err)
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(project); err != nil {
		log.Fatal(err)
	}
}
