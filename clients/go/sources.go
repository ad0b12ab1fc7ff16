package shoppable

import (
	"io"
	"iter"
	"os"

	pb "shoppable.dev/client/shoppablev1"
)

const chunkBytes = 256 << 10

// Source is where a video comes from: see File, URI and Reader.
type Source struct {
	uri  string
	open func() (reader io.ReadCloser, size int64, err error) // size below 0: not known
}

// File is a file of this machine; it is uploaded.
func File(path string) Source {
	return Source{open: func() (io.ReadCloser, int64, error) {
		file, err := os.Open(path)
		if err != nil {
			return nil, 0, err
		}
		facts, err := file.Stat()
		if err != nil {
			file.Close()
			return nil, 0, err
		}
		return file, facts.Size(), nil
	}}
}

// URI is an address that the decoder can read by itself.
func URI(uri string) Source {
	return Source{uri: uri}
}

// Reader is a video that comes as it is read, and is uploaded.
func Reader(reader io.Reader) Source {
	return Source{open: func() (io.ReadCloser, int64, error) { return io.NopCloser(reader), -1, nil }}
}

// requests yields the first message of a stream, made of the source's description, and then the chunks, if any.
// The file is read as fast as gRPC's flow control lets messages go, and not faster.
func requests[R any](source Source, first func(*pb.VideoSource) *R, chunk func([]byte) *R) iter.Seq2[*R, error] {
	return func(yield func(*R, error) bool) {
		if source.open == nil {
			yield(first(&pb.VideoSource{Source: &pb.VideoSource_Uri{Uri: source.uri}}), nil)
			return
		}
		reader, size, err := source.open()
		if err != nil {
			yield(nil, err)
			return
		}
		defer reader.Close()
		upload := &pb.VideoUpload{}
		if size >= 0 {
			total := uint64(size)
			upload.TotalBytes = &total
		}
		if !yield(first(&pb.VideoSource{Source: &pb.VideoSource_Upload{Upload: upload}}), nil) {
			return
		}
		buffer := make([]byte, chunkBytes)
		for {
			count, err := io.ReadFull(reader, buffer)
			// gRPC has made its own copy by the time that Send returns.
			if count > 0 && !yield(chunk(buffer[:count]), nil) {
				return
			}
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}
}
