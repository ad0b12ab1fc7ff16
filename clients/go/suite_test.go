package shoppable

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "shoppable.dev/client/shoppablev1"
)

// variable returns what `make test-clients` tells; the test is skipped without it.
func variable(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv("SHOPPABLE_TEST_" + name)
	if value == "" {
		t.Skip("needs a running suite: make test-clients")
	}
	return value
}

func suite(t *testing.T) *Client {
	t.Helper()
	client, err := New(variable(t, "ORCHESTRATOR"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// essence is what all clients must read of an object.
type essence struct {
	ObjectID string   `json:"object_id"`
	Label    string   `json:"label"`
	Category string   `json:"category"`
	Decision string   `json:"decision"`
	Products []string `json:"products"`
	StartMS  int64    `json:"start_ms"`
}

func essences(objects []*pb.ShoppableObject) string {
	list := []essence{}
	for _, object := range objects {
		one := essence{
			object.GetObjectId(), object.GetLabel(), object.GetCategory(), object.GetDecision().String(),
			[]string{}, object.GetSegments()[0].GetStart().AsDuration().Milliseconds(),
		}
		for _, match := range object.GetProducts() {
			one.Products = append(one.Products, match.GetProduct().GetName())
		}
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b essence) int { return strings.Compare(a.ObjectID, b.ObjectID) })
	text, _ := json.Marshal(list)
	return string(text)
}

func expected(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(variable(t, "EXPECTED"))
	if err != nil {
		t.Fatal(err)
	}
	var list []essence
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	again, _ := json.Marshal(list)
	return string(again)
}

func objectsOf(t *testing.T, client *Client, source Source) []*pb.ShoppableObject {
	t.Helper()
	var objects []*pb.ShoppableObject
	complete := false
	options := &pb.AnnotateOptions{Catalog: variable(t, "CATALOG")}
	for message, err := range client.Annotate(t.Context(), source, options) {
		if err != nil {
			t.Fatal(err)
		}
		if object := message.GetObject(); object != nil {
			objects = append(objects, object)
		}
		complete = complete || message.GetSummary() != nil
	}
	if !complete {
		t.Fatal("no summary")
	}
	return objects
}

func TestAnUploadedFilmGivesWhatPythonReads(t *testing.T) {
	got, want := essences(objectsOf(t, suite(t), File(variable(t, "FILM")))), expected(t)
	if got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

func TestAFilmNamedByItsURIGivesTheSameAlsoAtOnce(t *testing.T) {
	client, want := suite(t), expected(t)
	if got := essences(objectsOf(t, client, URI(variable(t, "FILM_URI")))); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
	answer, err := client.Orchestrator.AnnotateVideo(t.Context(), &pb.AnnotateVideoRequest{
		Source:  &pb.VideoSource{Source: &pb.VideoSource_Uri{Uri: variable(t, "FILM_URI")}},
		Options: &pb.AnnotateOptions{Catalog: variable(t, "CATALOG")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := essences(answer.GetObjects()); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

func TestABadRequestNamesAllItsFields(t *testing.T) {
	side, confidence := uint32(1), float32(7)
	_, err := drain(suite(t).Annotate(t.Context(), URI(variable(t, "FILM_URI")), &pb.AnnotateOptions{
		LongestSide: &side, MatchConfidence: &confidence, StartTime: durationpb.New(-time.Second),
	}))
	var refused *Error
	if !errors.As(err, &refused) || refused.Code != codes.InvalidArgument || refused.Reason != "INVALID_REQUEST" {
		t.Fatalf("%#v", err)
	}
	fields := []string{}
	for _, violation := range refused.Violations {
		fields = append(fields, violation.Field[strings.LastIndex(violation.Field, ".")+1:])
	}
	slices.SortFunc(fields, cmp.Compare[string])
	if !slices.Equal(fields, []string{"longest_side", "match_confidence", "start_time"}) {
		t.Fatal(refused.Violations)
	}
}

func TestCancellingAndADeadlineEndTheWork(t *testing.T) {
	client, source := suite(t), File(variable(t, "FILM"))
	running, cancel := context.WithCancel(t.Context())
	var last error
	for _, err := range client.Annotate(running, source, nil) {
		cancel() // at the first message
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Fatal(last)
	}
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := drain(client.Annotate(short, source, nil)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

func TestProductsAreListedAndAMissingOneIsNamed(t *testing.T) {
	client, err := New(variable(t, "MATCHER"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	count, err := drain(client.ListProducts(t.Context(), variable(t, "CATALOG"), nil))
	if err != nil || count != 33 {
		t.Fatal(count, err)
	}
	missing := variable(t, "CATALOG") + "/products/no-such"
	_, err = client.Catalogs.GetProduct(t.Context(), &pb.GetProductRequest{Name: missing})
	var refused *Error
	if !errors.As(err, &refused) || refused.Code != codes.NotFound || refused.ResourceName != missing {
		t.Fatalf("%#v", err)
	}
}

func TestTLSIsSpokenToAServerOfTrustAndToNoOther(t *testing.T) {
	film := &pb.ProbeVideoRequest{Source: &pb.VideoSource{Source: &pb.VideoSource_Uri{Uri: variable(t, "FILM_URI")}}}
	for roots, works := range map[string]bool{variable(t, "TLS_ROOTS"): true, "": false} {
		config, err := TLSFiles(roots, "", "")
		if err != nil {
			t.Fatal(err)
		}
		client, err := New(variable(t, "TLS_DECODER"), WithTLS(config))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if _, err = client.Decoder.ProbeVideo(t.Context(), film); (err == nil) != works {
			t.Fatalf("roots %q: %v", roots, err)
		}
	}
}

func TestTheExampleRuns(t *testing.T) {
	output, err := exec.Command("go", "run", "./examples/annotate",
		variable(t, "ORCHESTRATOR"), variable(t, "FILM"), variable(t, "CATALOG")).CombinedOutput()
	if err != nil || strings.Count(string(output), "\n") < 10 {
		t.Fatalf("%v: %s", err, output)
	}
}
