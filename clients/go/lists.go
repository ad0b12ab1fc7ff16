package shoppable

import (
	"context"
	"iter"

	"google.golang.org/protobuf/proto"

	pb "shoppable.dev/client/shoppablev1"
)

// ListCatalogs yields all catalogues, page by page.
func (c *Client) ListCatalogs(ctx context.Context) iter.Seq2[*pb.Catalog, error] {
	return pages(func(token string) ([]*pb.Catalog, string, error) {
		page, err := c.Catalogs.ListCatalogs(ctx, &pb.ListCatalogsRequest{PageToken: token})
		return page.GetCatalogs(), page.GetNextPageToken(), err
	})
}

// ListProducts yields the products of a catalogue, catalogs/{catalog}, page by page. filter may be nil.
func (c *Client) ListProducts(
	ctx context.Context, catalog string, filter *pb.ProductFilter,
) iter.Seq2[*pb.Product, error] {
	return pages(func(token string) ([]*pb.Product, string, error) {
		request := &pb.ListProductsRequest{Parent: catalog, Filter: filter, PageToken: token}
		page, err := c.Catalogs.ListProducts(ctx, request)
		return page.GetProducts(), page.GetNextPageToken(), err
	})
}

func pages[T any](next func(token string) (items []T, following string, err error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for token, more := "", true; more; more = token != "" {
			items, following, err := next(token)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
			token = following
		}
	}
}

// clone returns a copy that may be changed; of nil, an empty message.
func clone[M any, P interface {
	*M
	proto.Message
}](message P) P {
	if message == nil {
		return P(new(M))
	}
	return proto.Clone(message).(P)
}
