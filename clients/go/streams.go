package shoppable

import (
	"context"
	"errors"
	"io"
	"iter"

	"google.golang.org/grpc"

	pb "shoppable.dev/client/shoppablev1"
)

// Annotate finds the things in a video. It yields the video's info, progress, each object as soon as it is final, and a
// summary at the end. Leaving the loop, or ending the context, cancels the work; an error ends the loop.
func (c *Client) Annotate(
	ctx context.Context, source Source, options *pb.AnnotateOptions,
) iter.Seq2[*pb.StreamAnnotateVideoResponse, error] {
	return exchange(ctx, c.Orchestrator.StreamAnnotateVideo, requests(source,
		func(described *pb.VideoSource) *pb.StreamAnnotateVideoRequest {
			config := &pb.AnnotateConfig{Source: described, Options: options}
			return &pb.StreamAnnotateVideoRequest{Request: &pb.StreamAnnotateVideoRequest_Config{Config: config}}
		},
		func(chunk []byte) *pb.StreamAnnotateVideoRequest {
			return &pb.StreamAnnotateVideoRequest{Request: &pb.StreamAnnotateVideoRequest_Chunk{Chunk: chunk}}
		}))
}

// Decode yields a video's info, its sampled frames and a summary. The source takes the place of the config's own.
func (c *Client) Decode(
	ctx context.Context, source Source, config *pb.DecodeFramesConfig,
) iter.Seq2[*pb.DecodeFramesResponse, error] {
	return exchange(ctx, c.Decoder.DecodeFrames, requests(source,
		func(described *pb.VideoSource) *pb.DecodeFramesRequest {
			complete := clone(config)
			complete.Source = described
			return &pb.DecodeFramesRequest{Request: &pb.DecodeFramesRequest_Config{Config: complete}}
		},
		func(chunk []byte) *pb.DecodeFramesRequest {
			return &pb.DecodeFramesRequest{Request: &pb.DecodeFramesRequest_Chunk{Chunk: chunk}}
		}))
}

// Detect finds the objects of frames as they come. options may be nil.
func (c *Client) Detect(
	ctx context.Context, frames iter.Seq[*pb.DetectionFrame], options *pb.DetectionOptions,
) iter.Seq2[*pb.StreamDetectObjectsResponse, error] {
	return exchange(ctx, c.Detector.StreamDetectObjects, headed(
		&pb.StreamDetectObjectsRequest{Request: &pb.StreamDetectObjectsRequest_Config{Config: clone(options)}},
		frames,
		func(frame *pb.DetectionFrame) *pb.StreamDetectObjectsRequest {
			return &pb.StreamDetectObjectsRequest{Request: &pb.StreamDetectObjectsRequest_Frame{Frame: frame}}
		}))
}

// Upsert adds and replaces products as they come. It yields a result for each, and a summary at the end.
func (c *Client) Upsert(
	ctx context.Context, config *pb.UpsertProductsConfig, upserts iter.Seq[*pb.ProductUpsert],
) iter.Seq2[*pb.UpsertProductsResponse, error] {
	return exchange(ctx, c.Catalogs.UpsertProducts, committed(
		&pb.UpsertProductsRequest{Request: &pb.UpsertProductsRequest_Config{Config: config}},
		upserts,
		func(upsert *pb.ProductUpsert) *pb.UpsertProductsRequest {
			return &pb.UpsertProductsRequest{Request: &pb.UpsertProductsRequest_Upsert{Upsert: upsert}}
		},
		func(commit *pb.StreamCommit) *pb.UpsertProductsRequest {
			return &pb.UpsertProductsRequest{Request: &pb.UpsertProductsRequest_Commit{Commit: commit}}
		}))
}

// Calibrate learns from labelled pictures. It yields the row of each thing that was read, and a summary at the end.
func (c *Client) Calibrate(
	ctx context.Context, config *pb.CalibrationConfig, things iter.Seq[*pb.LabelledThing],
) iter.Seq2[*pb.CalibrateCatalogResponse, error] {
	return exchange(ctx, c.Catalogs.CalibrateCatalog, committed(
		&pb.CalibrateCatalogRequest{Request: &pb.CalibrateCatalogRequest_Config{Config: config}},
		things,
		func(thing *pb.LabelledThing) *pb.CalibrateCatalogRequest {
			return &pb.CalibrateCatalogRequest{Request: &pb.CalibrateCatalogRequest_Thing{Thing: thing}}
		},
		func(commit *pb.StreamCommit) *pb.CalibrateCatalogRequest {
			return &pb.CalibrateCatalogRequest{Request: &pb.CalibrateCatalogRequest_Commit{Commit: commit}}
		}))
}

// headed yields the config of a stream and then its items.
func headed[R, T any](config *R, items iter.Seq[*T], wrap func(*T) *R) iter.Seq2[*R, error] {
	return func(yield func(*R, error) bool) {
		if !yield(config, nil) {
			return
		}
		for item := range items {
			if !yield(wrap(item), nil) {
				return
			}
		}
	}
}

// committed yields the config of a stream, then its items, and then that these were all.
func committed[R, T any](
	config *R, items iter.Seq[*T], wrap func(*T) *R, end func(*pb.StreamCommit) *R,
) iter.Seq2[*R, error] {
	return func(yield func(*R, error) bool) {
		var count uint64
		for request, err := range headed(config, items, wrap) {
			if !yield(request, err) {
				return
			}
			count++
		}
		yield(end(&pb.StreamCommit{Count: count - 1}), nil) // the config is not counted
	}
}

// exchange sends requests while it yields the answers. An error of the requests themselves is yielded as it is.
func exchange[Q, A any](
	ctx context.Context,
	open func(context.Context, ...grpc.CallOption) (grpc.BidiStreamingClient[Q, A], error),
	requests iter.Seq2[*Q, error],
) iter.Seq2[*A, error] {
	return func(yield func(*A, error) bool) {
		running, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		stream, err := open(running)
		if err != nil {
			yield(nil, err)
			return
		}
		go send(stream, requests, cancel)
		for {
			answer, err := stream.Recv()
			var torn *requestError
			switch {
			case err == io.EOF:
				return
			case errors.As(context.Cause(running), &torn):
				yield(nil, torn.cause)
				return
			case err != nil:
				yield(nil, err)
				return
			case !yield(answer, nil):
				return
			}
		}
	}
}

// requestError is the end of a call whose requests could not be made.
type requestError struct{ cause error }

func (e *requestError) Error() string { return e.cause.Error() }

func send[Q, A any](
	stream grpc.BidiStreamingClient[Q, A], requests iter.Seq2[*Q, error], cancel context.CancelCauseFunc,
) {
	for request, err := range requests {
		if err != nil {
			cancel(&requestError{err})
			return
		}
		if stream.Send(request) != nil {
			return // the call has ended; who reads learns why
		}
	}
	stream.CloseSend() //nolint:errcheck // as above
}
