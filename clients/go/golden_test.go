package shoppable

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	pb "shoppable.dev/client/shoppablev1"
)

func TestGoldenMessagesDecodeAndLaterFieldsSurvive(t *testing.T) {
	paths, _ := filepath.Glob("../../tests/golden/*.binpb")
	if len(paths) == 0 {
		t.Skip("the golden messages are in the checkout only")
	}
	later := []byte{0xf8, 0xff, 0x0f, 0x2a} // field 32767, a varint: 42
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".binpb")
		// A union's alternative follows the message's name.
		kind, err := protoregistry.GlobalTypes.FindMessageByName(
			protoreflect.FullName(strings.Join(strings.Split(name, ".")[:3], ".")))
		if err != nil {
			t.Fatal(err)
		}
		binary, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(strings.TrimSuffix(path, "binpb") + "json")
		if err != nil {
			t.Fatal(err)
		}
		fromBinary, fromText, grown := kind.New().Interface(), kind.New().Interface(), kind.New().Interface()
		if err := proto.Unmarshal(binary, fromBinary); err != nil {
			t.Fatal(name, err)
		}
		if err := protojson.Unmarshal(text, fromText); err != nil {
			t.Fatal(name, err)
		}
		if !proto.Equal(fromBinary, fromText) {
			t.Errorf("%s: binary and JSON differ", name)
		}
		if err := proto.Unmarshal(append(binary, later...), grown); err != nil {
			t.Fatal(name, err)
		}
		if again, err := proto.Marshal(grown); err != nil || !bytes.Contains(again, later) {
			t.Errorf("%s: a later field is lost: %v", name, err)
		}
	}
}

func TestALaterEnumValueSurvives(t *testing.T) {
	sent, _ := proto.Marshal(&pb.Image{Format: 99})
	var image pb.Image
	if err := proto.Unmarshal(sent, &image); err != nil || image.GetFormat() != 99 {
		t.Fatal(image.GetFormat(), err)
	}
}
