package shoppable

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// FieldViolation is one thing that is wrong with a request.
type FieldViolation struct {
	Field       string
	Description string
}

// Error says why a call failed. Branch on Code and Reason; show Message to people.
//
// errors.Is finds context.DeadlineExceeded and context.Canceled in errors of these codes.
type Error struct {
	Code    codes.Code
	Message string
	// Stable, such as NOT_A_VIDEO; empty if the error did not come from a server of the suite.
	Reason       string
	Violations   []FieldViolation
	ResourceType string
	ResourceName string
	// How long to wait before trying again; zero if the server did not say.
	RetryAfter time.Duration
	Metadata   map[string]string

	status *status.Status
}

// Error returns one line for people.
func (e *Error) Error() string {
	return e.Code.String() + ": " + e.Message
}

// GRPCStatus returns the status as it came, with all details.
func (e *Error) GRPCStatus() *status.Status {
	return e.status
}

// Is tells whether the error is what a context's end looks like.
func (e *Error) Is(target error) bool {
	return (target == context.DeadlineExceeded && e.Code == codes.DeadlineExceeded) ||
		(target == context.Canceled && e.Code == codes.Canceled)
}

// FromStatus reads a status, as partial failures carry it. It returns nil for OK and for no status.
func FromStatus(value *statuspb.Status) *Error {
	if value.GetCode() == int32(codes.OK) {
		return nil
	}
	return read(status.FromProto(value))
}

func read(s *status.Status) *Error {
	e := &Error{Code: s.Code(), Message: s.Message(), status: s}
	for _, detail := range s.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			e.Reason, e.Metadata = detail.GetReason(), detail.GetMetadata()
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				e.Violations = append(e.Violations, FieldViolation{violation.GetField(), violation.GetDescription()})
			}
		case *errdetails.ResourceInfo:
			e.ResourceType, e.ResourceName = detail.GetResourceType(), detail.GetResourceName()
		case *errdetails.RetryInfo:
			e.RetryAfter = detail.GetRetryDelay().AsDuration()
		}
	}
	return e
}

func translate(err error) error {
	var known *Error
	if err == nil || err == io.EOF || errors.As(err, &known) {
		return err
	}
	return read(status.Convert(err))
}

func translateUnary(
	ctx context.Context, method string, request, reply any, connection *grpc.ClientConn,
	invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	return translate(invoke(ctx, method, request, reply, connection, options...))
}

func translateStream(
	ctx context.Context, description *grpc.StreamDesc, connection *grpc.ClientConn, method string,
	open grpc.Streamer, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	stream, err := open(ctx, description, connection, method, options...)
	if err != nil {
		return nil, translate(err)
	}
	return translatedStream{stream}, nil
}

type translatedStream struct{ grpc.ClientStream }

func (s translatedStream) SendMsg(message any) error {
	return translate(s.ClientStream.SendMsg(message))
}

func (s translatedStream) RecvMsg(message any) error {
	return translate(s.ClientStream.RecvMsg(message))
}
