package store

// Records in Redis are compressed with zstd: the body alone where it is large,
// so that the metadata can be read without it, else metadata and body together,
// with the dictionary of the namespace once there is one (dictionaries.go).
// Memory keeps what hits write, so nothing is compressed there.

import (
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"
)

const (
	// maxWhole is the largest record, metadata and body, that is compressed as one,
	// and the largest that a dictionary is of use for.
	maxWhole = 32 << 10

	// maxExpanded is the largest record that is compressed, and the most that a
	// reader allocates for what a record says of itself.
	maxExpanded = 64 << 20

	// maxShare is the share of its raw size, in percent, up to which a compressed
	// record is worth the work of reading it.
	maxShare = 90
)

// dictionary is what zstd compresses with: plain, or trained for a namespace.
// It does not change and is safe for concurrent use; its encoder and decoder
// are made on first use; they bound how many goroutines compress at once.
type dictionary struct {
	hash    uint64 // of the content; 0: no dictionary
	content []byte
	encoder func() (*zstd.Encoder, error)
	decoder func() (*zstd.Decoder, error)
}

// plain compresses without dictionary.
var plain = newDictionary(nil)

func newDictionary(content []byte) *dictionary {
	d := &dictionary{content: content}
	workers := runtime.GOMAXPROCS(0)
	decoding := []zstd.DOption{
		zstd.WithDecoderConcurrency(min(workers, 4)), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxMemory(maxExpanded),
		zstd.WithDecoderMaxWindow(maxExpanded),
	}
	encoding := []zstd.EOption{
		// The envelope has a checksum. Two encoders are enough: no request waits for one.
		zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(min(workers, 2)), zstd.WithLowerEncoderMem(true),
	}
	if content == nil {
		encoding = append(encoding, zstd.WithWindowSize(1<<20))
	} else {
		d.hash = xxhash.Sum64(content)
		decoding = append(decoding, zstd.WithDecoderDicts(content))
		encoding = append(encoding, zstd.WithEncoderDict(content), zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithWindowSize(2*maxWhole))
	}
	d.encoder = sync.OnceValues(func() (*zstd.Encoder, error) { return zstd.NewWriter(nil, encoding...) })
	d.decoder = sync.OnceValues(func() (*zstd.Decoder, error) { return zstd.NewReader(nil, decoding...) })
	return d
}

// compress appends the compressed form of src to dst.
func (d *dictionary) compress(dst, src []byte) ([]byte, error) {
	encoder, err := d.encoder()
	if err != nil {
		return nil, err
	}
	return encoder.EncodeAll(src, dst), nil
}

// expand appends to dst what src was compressed from, which must fill it to its
// capacity.
func (d *dictionary) expand(dst, src []byte) ([]byte, error) {
	decoder, err := d.decoder()
	if err != nil {
		return nil, err
	}
	dst, err = decoder.DecodeAll(src, dst)
	if err != nil || len(dst) != cap(dst) {
		return nil, ErrFormat
	}
	return dst, nil
}

// encodeCompressed returns the record of which raw is the form of Encode in its
// compressed form, or raw where that is hardly smaller.
func encodeCompressed(raw []byte, d *dictionary) []byte {
	h, err := decodeHead(raw)
	if err != nil || len(raw) > maxExpanded {
		return raw
	}
	h.version, h.dictionary = versionCompressed, d.hash
	h.whole = h.metaLen+h.bodyLen <= maxWhole
	src := raw[headSize+h.metaLen:]
	dst := make([]byte, compressedHeadSize, compressedHeadSize+len(raw)*maxShare/100)
	if h.whole {
		src = raw[headSize:]
		h.bodySum = xxhash.Sum64(src)
	} else {
		dst = append(dst, raw[headSize:headSize+h.metaLen]...)
	}
	plainLen := len(dst)
	dst, err = d.compress(dst, src)
	if err != nil || len(dst) > len(raw)*maxShare/100 {
		return raw
	}
	h.payload = len(dst) - plainLen
	h.put(dst[:plainLen])
	return slices.Clip(dst)
}

// compressible reports whether it is worth the try to compress the record.
func (r *Record) compressible() bool {
	if r.IsBase() || r.MinEncode <= 0 {
		return false
	}
	for i := range r.Fields {
		f := &r.Fields[i]
		if len(f.Values) == 0 {
			continue
		}
		switch f.Name {
		case "Content-Encoding":
			return false
		case "Content-Type":
			if isCompressed(f.Values[0]) {
				return false
			}
		}
	}
	return true
}

// isCompressed reports whether a media type is one of formats that are
// compressed in themselves.
func isCompressed(contentType string) bool {
	mediaType, _, _ := strings.Cut(contentType, ";")
	mediaType = strings.ToLower(strings.TrimSpace(mediaType))
	kind, format, _ := strings.Cut(mediaType, "/")
	switch kind {
	case "image":
		return format != "svg+xml" && format != "bmp" && format != "x-icon" && format != "vnd.microsoft.icon"
	case "video", "audio":
		return true
	case "font":
		return strings.HasPrefix(format, "woff")
	case "application":
		switch format {
		case "zip", "gzip", "x-gzip", "zstd", "x-bzip2", "x-xz", "x-7z-compressed", "vnd.rar", "pdf":
			return true
		}
	}
	return false
}
