package shoppable

import (
	"context"
	"errors"
	"io"
	"iter"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "shoppable.dev/client/shoppablev1"
)

// told is a decoder that does as a test says.
type told struct {
	pb.UnimplementedFrameDecoderServiceServer
	failures int32 // so many calls fail first
	attempts atomic.Int32
	bytes    atomic.Int64
	refuse   bool // refuse the upload after its third chunk
	hang     bool
	ended    chan error
	identity atomic.Pointer[metadata.MD]
}

func (s *told) ProbeVideo(ctx context.Context, _ *pb.ProbeVideoRequest) (*pb.ProbeVideoResponse, error) {
	caller, _ := metadata.FromIncomingContext(ctx)
	s.identity.Store(&caller)
	if s.attempts.Add(1) <= s.failures {
		failed, _ := status.New(codes.Unavailable, "told so").WithDetails(
			&errdetails.RetryInfo{RetryDelay: durationpb.New(1500 * time.Millisecond)})
		return nil, failed.Err()
	}
	return &pb.ProbeVideoResponse{Video: &pb.VideoInfo{Codec: "h264"}}, nil
}

func (s *told) DecodeFrames(stream pb.FrameDecoderService_DecodeFramesServer) error {
	caller, _ := metadata.FromIncomingContext(stream.Context())
	s.identity.Store(&caller)
	video := &pb.DecodeFramesResponse{Response: &pb.DecodeFramesResponse_Video{Video: &pb.VideoInfo{}}}
	if err := stream.Send(video); err != nil {
		return err
	}
	for chunks := 0; ; chunks++ {
		request, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			s.ended <- err
			return err
		}
		s.bytes.Add(int64(len(request.GetChunk())))
		if s.refuse && chunks == 3 {
			refused, _ := status.New(codes.InvalidArgument, "not liked").WithDetails(
				&errdetails.ErrorInfo{Reason: "NOT_LIKED", Domain: "shoppable", Metadata: map[string]string{"a": "b"}},
				&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
					{Field: "config.source", Description: "must be liked"}}})
			return refused.Err()
		}
	}
	if s.hang {
		<-stream.Context().Done()
		s.ended <- stream.Context().Err()
		return stream.Context().Err()
	}
	return stream.Send(&pb.DecodeFramesResponse{Response: &pb.DecodeFramesResponse_Summary{}})
}

// serve starts a server and returns a client of it.
func serve(t *testing.T, servicer *told, options ...Option) *Client {
	t.Helper()
	servicer.ended = make(chan error, 4)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterFrameDecoderServiceServer(server, servicer)
	go server.Serve(listener) //nolint:errcheck // ends with Stop
	t.Cleanup(server.Stop)
	client, err := New(listener.Addr().String(), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func drain[T any](answers iter.Seq2[T, error]) (count int, err error) {
	for _, err := range answers {
		if err != nil {
			return count, err
		}
		count++
	}
	return count, nil
}

func film(t *testing.T, size int) Source {
	t.Helper()
	path := filepath.Join(t.TempDir(), "film.mp4")
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	return File(path)
}

func TestCallsAreRetriedAsTheServiceConfigSays(t *testing.T) {
	servicer := &told{failures: 2}
	client := serve(t, servicer)
	answer, err := client.Decoder.ProbeVideo(t.Context(), &pb.ProbeVideoRequest{})
	if err != nil || answer.GetVideo().GetCodec() != "h264" || servicer.attempts.Load() != 3 {
		t.Fatalf("%v after %d attempts: %v", answer, servicer.attempts.Load(), err)
	}
	servicer.failures = 99
	_, err = client.Decoder.ProbeVideo(t.Context(), &pb.ProbeVideoRequest{})
	var failed *Error
	if !errors.As(err, &failed) || failed.Code != codes.Unavailable || failed.RetryAfter != 1500*time.Millisecond {
		t.Fatalf("%#v", err)
	}
}

func TestAFileIsUploadedWhole(t *testing.T) {
	servicer := &told{}
	client := serve(t, servicer)
	count, err := drain(client.Decode(t.Context(), film(t, 3*chunkBytes+7), nil))
	if err != nil || count != 2 || servicer.bytes.Load() != 3*chunkBytes+7 {
		t.Fatalf("%d answers, %d bytes: %v", count, servicer.bytes.Load(), err)
	}
}

func TestARefusalInTheMiddleOfAnUploadArrivesWhole(t *testing.T) {
	client := serve(t, &told{refuse: true})
	_, err := drain(client.Decode(t.Context(), film(t, 64<<20), nil))
	var refused *Error
	if !errors.As(err, &refused) {
		t.Fatalf("%#v", err)
	}
	want := FieldViolation{"config.source", "must be liked"}
	if refused.Code != codes.InvalidArgument || refused.Reason != "NOT_LIKED" || refused.Metadata["a"] != "b" ||
		len(refused.Violations) != 1 || refused.Violations[0] != want {
		t.Fatalf("%#v", refused)
	}
	if status.Code(err) != codes.InvalidArgument {
		t.Fatal("gRPC's own functions no longer understand the error")
	}
}

type torn struct{}

var errTorn = errors.New("the disk is gone")

func (torn) Read(buffer []byte) (int, error) { return 0, errTorn }

func TestAnErrorOfTheUploadItselfReachesWhoReads(t *testing.T) {
	client := serve(t, &told{})
	if _, err := drain(client.Decode(t.Context(), Reader(torn{}), nil)); !errors.Is(err, errTorn) {
		t.Fatal(err)
	}
	if _, err := drain(client.Decode(t.Context(), File("/no/such/film.mp4"), nil)); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

func TestLeavingTheLoopCancelsTheWork(t *testing.T) {
	servicer := &told{hang: true}
	client := serve(t, servicer)
	for _, err := range client.Decode(t.Context(), URI("file:///film.mp4"), nil) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	select {
	case <-servicer.ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the server goes on")
	}
}

func TestAnEndedContextIsTheErrorThatGoKnows(t *testing.T) {
	client := serve(t, &told{hang: true})
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := drain(client.Decode(short, URI("a:b"), nil)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err := drain(client.Decode(ended, URI("a:b"), nil)); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestKeyAndTokenGoWithEveryCall(t *testing.T) {
	servicer := &told{}
	client := serve(t, servicer, WithAPIKey("k-123"), WithToken("t-456"))
	check := func() {
		t.Helper()
		caller := *servicer.identity.Swap(nil)
		if got := caller.Get("x-api-key"); len(got) != 1 || got[0] != "k-123" {
			t.Fatal(caller)
		}
		if got := caller.Get("authorization"); len(got) != 1 || got[0] != "Bearer t-456" {
			t.Fatal(caller)
		}
	}
	if _, err := client.Decoder.ProbeVideo(t.Context(), &pb.ProbeVideoRequest{}); err != nil {
		t.Fatal(err)
	}
	check()
	if _, err := drain(client.Decode(t.Context(), URI("a:b"), nil)); err != nil {
		t.Fatal(err)
	}
	check()
}

func TestPagesAreAskedForUntilTheLast(t *testing.T) {
	asked := []string{}
	items := pages(func(token string) ([]int, string, error) {
		asked = append(asked, token)
		following := map[string]string{"": "a", "a": "b"}[token]
		return []int{len(asked)}, following, nil
	})
	count, err := drain(items)
	if err != nil || count != 3 || len(asked) != 3 || asked[2] != "b" {
		t.Fatal(count, err, asked)
	}
}
