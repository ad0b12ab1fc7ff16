// Package shoppable is the Go client of the shoppable services: a video in, the things one can buy in it out.
//
// It adds to the generated stubs, which it hands out as they are, what is hard with them: uploads, streams as
// iterators, errors with their details, retries and deadlines by the services' own configuration, TLS and keys.
//
//	client, err := shoppable.New("localhost:50050")
//	...
//	for message, err := range client.Annotate(ctx, shoppable.File("film.mp4"), options) {
//		...
//	}
//
// Every error of a call is an *Error; find it with errors.As.
package shoppable

import (
	"crypto/tls"
	_ "embed"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	pb "shoppable.dev/client/shoppablev1"
)

const maxMessageBytes = 64 << 20

// The services' deadlines and retries, as they lie beside the protos; `make gen` copies them here.
//
//go:embed service_config.json
var serviceConfig string

// Client calls the services behind one address. A service that is not served there answers UNIMPLEMENTED.
// It is safe for concurrent use.
type Client struct {
	Orchestrator pb.OrchestratorServiceClient
	Decoder      pb.FrameDecoderServiceClient
	Detector     pb.ObjectDetectorServiceClient
	Matcher      pb.ProductMatcherServiceClient
	Catalogs     pb.ProductCatalogServiceClient
	Info         pb.ServerInfoServiceClient

	connection *grpc.ClientConn
}

type settings struct {
	transport credentials.TransportCredentials
	identity  identity
	dial      []grpc.DialOption
}

// Option changes how a Client connects.
type Option func(*settings)

// WithTLS encrypts the connection. Without it, the connection is plain text, which is for loopback and for networks
// that encrypt by themselves. See TLSFiles for a configuration from PEM files.
func WithTLS(config *tls.Config) Option {
	return func(s *settings) { s.transport = credentials.NewTLS(config) }
}

// WithAPIKey sends a key with each call, as x-api-key.
func WithAPIKey(key string) Option {
	return func(s *settings) { s.identity = append(s.identity, "x-api-key", key) }
}

// WithToken sends a JWT with each call, as authorization: Bearer.
func WithToken(token string) Option {
	return func(s *settings) { s.identity = append(s.identity, "authorization", "Bearer "+token) }
}

// WithDialOptions adds options of gRPC itself, behind those of this package.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) { s.dial = append(s.dial, options...) }
}

// New returns a client of the services at target: host:port or any other gRPC name. It connects with the first call.
func New(target string, options ...Option) (*Client, error) {
	chosen := settings{transport: insecure.NewCredentials()}
	for _, option := range options {
		option(&chosen)
	}
	connection, err := grpc.NewClient(target, append([]grpc.DialOption{
		grpc.WithTransportCredentials(chosen.transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithChainUnaryInterceptor(translateUnary, chosen.identity.unary),
		grpc.WithChainStreamInterceptor(translateStream, chosen.identity.stream),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(maxMessageBytes),
			grpc.MaxCallSendMsgSize(maxMessageBytes),
			// The default would silently switch retries off for a call that carries a picture.
			grpc.MaxRetryRPCBufferSize(maxMessageBytes),
		),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		// Finds a peer that is gone without a word; servers accept a ping a minute while calls run.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: time.Minute, Timeout: 10 * time.Second}),
	}, chosen.dial...)...)
	if err != nil {
		return nil, err
	}
	return &Client{
		Orchestrator: pb.NewOrchestratorServiceClient(connection),
		Decoder:      pb.NewFrameDecoderServiceClient(connection),
		Detector:     pb.NewObjectDetectorServiceClient(connection),
		Matcher:      pb.NewProductMatcherServiceClient(connection),
		Catalogs:     pb.NewProductCatalogServiceClient(connection),
		Info:         pb.NewServerInfoServiceClient(connection),
		connection:   connection,
	}, nil
}

// Close ends all calls and the connection.
func (c *Client) Close() error {
	return c.connection.Close()
}
