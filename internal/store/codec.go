package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unsafe"

	"github.com/cespare/xxhash/v2"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
)

// version is the version of the envelope. Two versions of the binary share one
// Redis during every rolling deploy, so each reads what the other wrote.
//
// Adding a field:
//
//  1. Append it at the end of appendMeta. Never insert, reorder or reuse.
//  2. Read it at the end of decodeMeta if bytes are left; its zero value must
//     mean what records without it meant. An older binary ignores the rest of
//     the metadata that it does not know.
//  3. A bool goes into the flags instead. An older binary refuses a record with
//     a flag that it does not know, so a flag may restrict the use of a record.
//  4. Where an older binary must not use a record with the new field, or where
//     anything that exists changes, raise the version: each binary then takes
//     the other's records for absent, and the origin is asked once by each
//     until the deploy is through.
//  5. Keep the record in TestGolden as it is and add one of the new form.
//     TestDecodeMetadata knows where the metadata of older binaries may end.
//
// A record is written in the lowest version that can hold it, so that an older
// binary takes only the others for absent.
const (
	version           = 1
	versionCompressed = 2
)

// The envelope is a head of fixed size, the metadata and the body:
//
//	 0  magic     3 bytes
//	 3  version   1 byte
//	 4  checksum  8 bytes, xxhash64 of what follows up to the body
//	12  metadata  4 bytes, length
//	16  body      4 bytes, length
//	20  checksum  8 bytes, xxhash64 of the body
//	28  metadata, body
//
// With a checksum of its own, metadata can be trusted without the body. The
// integers of the head are little endian, all others varints.
//
// In a compressed record, lengths and the checksum of the body are those of what
// comes out, and the head goes on. In a whole one the metadata are part of what
// is compressed, and the checksum of the body covers both.
//
//	28  payload     4 bytes, length of the zstd frame
//	32  dictionary  8 bytes, xxhash64 of its content, or 0
//	40  flags       1 byte
//	41  metadata, unless it is a whole one; payload
const (
	headSize           = 28
	metaSumAt          = 4
	compressedHeadSize = 41

	// maxMeta and maxValue bound what is written and, before anything is
	// allocated, what is believed. A string in Redis holds 512 MiB at most.
	maxMeta  = 2 << 20
	maxValue = 512 << 20
)

var magic = [3]byte{0xCA, 'R', 'C'}

var (
	// ErrVersion: another version of this program wrote the record.
	ErrVersion = errors.New("store: unknown version of a record")
	// ErrLength: the record was cut, or something was appended to it.
	ErrLength = errors.New("store: record of wrong length")
	// ErrChecksum: the record was changed.
	ErrChecksum = errors.New("store: record with wrong checksum")
	// ErrFormat: not a record at all, or one whose metadata make no sense.
	ErrFormat = errors.New("store: malformed record")
	// ErrDictionary: the record was compressed with a dictionary that is not there.
	ErrDictionary = errors.New("store: record with an unknown dictionary")
	// ErrShort: the prefix ends before the metadata do. See ShortError.
	ErrShort = errors.New("store: prefix of a record too short")
)

// ShortError is the ErrShort of DecodeHead. A prefix of Need bytes is enough,
// or at least brings the length that is.
type ShortError struct{ Need int }

func (e *ShortError) Error() string { return fmt.Sprintf("%v: %d bytes needed", ErrShort, e.Need) }

// Is makes errors.Is(err, ErrShort) true.
func (e *ShortError) Is(target error) bool { return target == ErrShort }

// The flags of a record. A reader refuses those outside knownFlags.
const (
	flagNoCache = 1 << iota
	flagMustRevalidate
	flagForAuthorization
	flagForCredentials

	knownFlags = 1<<iota - 1
)

// The marks of a record widen its use. A reader ignores those that it does not know.
const markAnyOrigin = 1 << 0

// The flags of a compressed record's head. A reader refuses others.
const flagWhole = 1

// Encode appends the record to dst. Times and durations keep milliseconds.
func Encode(dst []byte, r *Record) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, headSize)...)
	dst = appendMeta(dst, r)
	end := len(dst)
	h := head{version: version, metaLen: end - start - headSize, bodyLen: len(r.Body), bodySum: xxhash.Sum64(r.Body)}
	dst = append(dst, r.Body...)
	h.put(dst[start:end])
	return dst
}

// Decode returns the record in data, unless that needs a dictionary. The
// record's strings and body may be parts of data, which must not change as long
// as the record is in use.
func Decode(data []byte) (*Record, error) {
	r, _, err := decode(data, noDictionary)
	return r, err
}

// finder returns the dictionary of a hash, or nil.
type finder func(hash uint64) *dictionary

func noDictionary(uint64) *dictionary { return nil }

// decode is Decode with dictionaries. It also returns the record as memory keeps
// it.
func decode(data []byte, find finder) (*Record, packed, error) {
	h, err := decodeHead(data)
	if err != nil {
		return nil, packed{}, err
	}
	if len(data) != h.size() {
		return nil, packed{}, ErrLength
	}
	content, err := h.content(data, find)
	if err != nil {
		return nil, packed{}, err
	}
	p := packedFrom(content, h.metaLen)
	r, err := p.record()
	return r, p, err
}

// DecodeHead returns the record without its body from a prefix of its encoded
// form. An error that is ErrShort is a *ShortError. Like Decode, it aliases
// data.
func DecodeHead(data []byte) (*Record, error) {
	r, _, err := decodePrefix(data, noDictionary)
	return r, err
}

// decodePrefix is DecodeHead with dictionaries. It also returns the size of the
// whole encoded record.
func decodePrefix(data []byte, find finder) (*Record, int, error) {
	h, err := decodeHead(data)
	if errors.Is(err, ErrLength) {
		return nil, 0, &ShortError{Need: compressedHeadSize}
	}
	if err != nil {
		return nil, 0, err
	}
	need := h.plainEnd()
	if h.whole {
		need = h.size()
	}
	if len(data) < need {
		return nil, 0, &ShortError{Need: need}
	}
	if h.whole {
		r, _, err := decode(data[:need], find)
		if err != nil {
			return nil, 0, err
		}
		r.Body = nil
		return r, need, nil
	}
	if err := h.verify(data); err != nil {
		return nil, 0, err
	}
	r, err := decodeMeta(data[h.start():need])
	return r, h.size(), err
}

// head is the fixed part of the envelope.
type head struct {
	version          byte
	metaLen, bodyLen int
	metaSum, bodySum uint64

	// Of a compressed record:
	payload    int
	dictionary uint64
	whole      bool
}

// start is where the head ends.
func (h *head) start() int {
	if h.version == versionCompressed {
		return compressedHeadSize
	}
	return headSize
}

// plainEnd is where what can be read without decompression ends.
func (h *head) plainEnd() int {
	if h.whole {
		return h.start()
	}
	return h.start() + h.metaLen
}

// size is that of the encoded record.
func (h *head) size() int {
	if h.version == versionCompressed {
		return h.plainEnd() + h.payload
	}
	return h.plainEnd() + h.bodyLen
}

// put writes the head in front of the metadata that are not compressed.
func (h *head) put(dst []byte) {
	copy(dst, magic[:])
	dst[3] = h.version
	binary.LittleEndian.PutUint32(dst[12:], uint32(h.metaLen))
	binary.LittleEndian.PutUint32(dst[16:], uint32(h.bodyLen))
	binary.LittleEndian.PutUint64(dst[20:], h.bodySum)
	if h.version == versionCompressed {
		binary.LittleEndian.PutUint32(dst[28:], uint32(h.payload))
		binary.LittleEndian.PutUint64(dst[32:], h.dictionary)
		dst[40] = 0
		if h.whole {
			dst[40] = flagWhole
		}
	}
	binary.LittleEndian.PutUint64(dst[4:], xxhash.Sum64(dst[12:]))
}

// decodeHead reads the head alone; ErrLength means that it is not all there.
func decodeHead(data []byte) (head, error) {
	if n := min(len(data), len(magic)); !bytes.Equal(data[:n], magic[:n]) {
		return head{}, ErrFormat
	}
	if len(data) > 3 && data[3] != version && data[3] != versionCompressed {
		return head{}, ErrVersion
	}
	if len(data) < headSize {
		return head{}, ErrLength
	}
	metaLen := binary.LittleEndian.Uint32(data[12:])
	bodyLen := binary.LittleEndian.Uint32(data[16:])
	if metaLen > maxMeta || bodyLen > maxValue {
		return head{}, ErrFormat
	}
	h := head{
		version: data[3],
		metaLen: int(metaLen),
		bodyLen: int(bodyLen),
		metaSum: binary.LittleEndian.Uint64(data[4:]),
		bodySum: binary.LittleEndian.Uint64(data[20:]),
	}
	if h.version == version {
		return h, nil
	}
	return h, h.readCompressed(data)
}

// readCompressed reads the rest of the head of a compressed record.
func (h *head) readCompressed(data []byte) error {
	if len(data) < compressedHeadSize {
		return ErrLength
	}
	payload := binary.LittleEndian.Uint32(data[28:])
	h.dictionary = binary.LittleEndian.Uint64(data[32:])
	flags := data[40]
	if flags&^flagWhole != 0 {
		return ErrVersion
	}
	h.whole = flags&flagWhole != 0
	size := h.metaLen + h.bodyLen
	if payload > maxValue || size > maxExpanded || (h.whole && size > maxWhole) {
		return ErrFormat
	}
	h.payload = int(payload)
	return nil
}

// verify checks what can be read without decompression.
func (h *head) verify(data []byte) error {
	if xxhash.Sum64(data[12:h.plainEnd()]) != h.metaSum {
		return ErrChecksum
	}
	return nil
}

// content returns metadata and body, which are a part of data if they are not
// compressed. data is as long as h says.
func (h *head) content(data []byte, find finder) ([]byte, error) {
	if err := h.verify(data); err != nil {
		return nil, err
	}
	content := data[h.start():]
	if h.version == versionCompressed {
		d := plain
		if h.dictionary != 0 {
			d = find(h.dictionary)
		}
		if d == nil {
			return nil, ErrDictionary
		}
		var err error
		content = append(make([]byte, 0, h.metaLen+h.bodyLen), data[h.start():h.plainEnd()]...)
		if content, err = d.expand(content, data[h.plainEnd():]); err != nil {
			return nil, err
		}
	}
	summed := content[h.metaLen:]
	if h.whole {
		summed = content
	}
	if xxhash.Sum64(summed) != h.bodySum {
		return nil, ErrChecksum
	}
	return content, nil
}

// packed is a record as memory keeps it: its encoded metadata, and its body as
// hits write it.
type packed struct{ meta, body string }

// copiedBody is the largest body that pack copies.
const copiedBody = 32 << 10

// pack returns the record in one allocation that aliases nothing that the caller
// keeps alive, but for a large body, which stays where it is.
func pack(r *Record) packed {
	var scratch [4 << 10]byte
	buf := appendMeta(scratch[:0], r)
	metaLen := len(buf)
	body := r.Body
	if len(body) > copiedBody {
		return packed{string(buf), asString(trim(body))}
	}
	own := string(append(buf, body...))
	return packed{own[:metaLen], own[metaLen:]}
}

// packedFrom is what Decode read from data, which it shares.
func packedFrom(data []byte, metaLen int) packed {
	return packed{asString(data[:metaLen]), asString(data[metaLen:])}
}

// asString and asBytes are for data that nobody changes any more.
func asString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
func asBytes(s string) []byte  { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// trim copies a body whose buffer is much larger than it.
func trim(body []byte) []byte {
	if cap(body)-len(body) > len(body)/8 {
		return bytes.Clone(body)
	}
	return body
}

// record returns the record, whose strings and body are parts of p.
func (p packed) record() (*Record, error) {
	r, err := decodeMeta(asBytes(p.meta))
	if err == nil && p.body != "" {
		r.Body = asBytes(p.body)
	}
	return r, err
}

// key returns the full key, without which there are no metadata.
func (p packed) key() string {
	d := decoder{rest: asBytes(p.meta)}
	return d.string()
}

// metaSize is about the length of the encoded metadata.
func metaSize(r *Record) int {
	n := 77 + len(r.Key.Full) + len(r.URL) + len(r.User)
	for _, s := range [...]string{r.Key.Name, r.BaseKey, r.Namespace, r.Identifier} {
		if !strings.Contains(r.Key.Full, s) {
			n += len(s)
		}
	}
	for _, list := range [...][]string{r.Tags, r.Vary} {
		for _, s := range list {
			n += len(s) + 1
		}
	}
	for i := range r.Fields {
		n += len(r.Fields[i].Name) + 3
		for _, v := range r.Fields[i].Values {
			n += len(v) + 3
		}
	}
	for i := range r.Variants {
		n += len(r.Variants[i].Hash) + 8
	}
	return n
}

func appendMeta(dst []byte, r *Record) []byte {
	full := r.Key.Full
	dst = appendString(dst, full)
	dst = appendPart(dst, r.Key.Name, full)
	dst = appendPart(dst, r.Namespace, full)
	dst = appendPart(dst, r.Identifier, full)
	dst = appendString(dst, r.URL)
	dst = appendFreshness(dst, &r.Freshness)
	dst = appendTime(dst, r.Expires)
	dst = binary.AppendUvarint(dst, uint64(r.Status))

	values := 0
	for i := range r.Fields {
		values += len(r.Fields[i].Values)
	}
	for _, n := range [...]int{len(r.Tags), len(r.Vary), len(r.Fields), values, len(r.Variants)} {
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	for _, s := range r.Tags {
		dst = appendString(dst, s)
	}
	for _, s := range r.Vary {
		dst = appendString(dst, s)
	}
	for i := range r.Fields {
		f := &r.Fields[i]
		dst = append(dst, byte(f.Op))
		dst = appendString(dst, f.Name)
		dst = binary.AppendUvarint(dst, uint64(len(f.Values)))
		for _, v := range f.Values {
			dst = appendString(dst, v)
		}
	}
	for i := range r.Variants {
		dst = appendString(dst, r.Variants[i].Hash)
		dst = appendTime(dst, r.Variants[i].Expires)
	}
	dst = appendPart(dst, r.BaseKey, full)
	dst = appendString(dst, r.User)
	for _, n := range [...]uint64{r.Position.Epoch, r.Position.ID.Ms, r.Position.ID.Seq} {
		dst = binary.AppendUvarint(dst, n)
	}
	dst = binary.AppendVarint(dst, r.FetchTime.Milliseconds())
	var marks uint64
	if r.AnyOrigin {
		marks |= markAnyOrigin
	}
	return binary.AppendUvarint(dst, marks)
}

func appendFreshness(dst []byte, f *rfc9111.Freshness) []byte {
	var flags uint64
	// In the order of the flags.
	for i, set := range [...]bool{f.NoCache, f.MustRevalidate, f.ForAuthorization, f.ForCredentials} {
		if set {
			flags |= 1 << i
		}
	}
	dst = binary.AppendUvarint(dst, flags)
	dst = appendTime(dst, f.ResponseTime)
	for _, d := range [...]time.Duration{f.InitialAge, f.Lifetime, f.StaleWhileRevalidate, f.StaleIfError} {
		dst = binary.AppendVarint(dst, d.Milliseconds())
	}
	return dst
}

func appendTime(dst []byte, t time.Time) []byte { return binary.AppendVarint(dst, t.UnixMilli()) }

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// appendPart writes s as a place in full, where most parts of a key lie, or
// else as it is.
func appendPart(dst []byte, s, full string) []byte {
	if i := strings.Index(full, s); i >= 0 {
		dst = binary.AppendUvarint(dst, uint64(len(s))<<1|1)
		return binary.AppendUvarint(dst, uint64(i))
	}
	dst = binary.AppendUvarint(dst, uint64(len(s))<<1)
	return append(dst, s...)
}

func decodeMeta(meta []byte) (*Record, error) {
	d := decoder{rest: meta}
	r := &Record{}
	full := d.string()
	r.Key = Key{Full: full, Name: d.part(full)}
	r.Namespace = d.part(full)
	r.Identifier = d.part(full)
	r.URL = d.string()
	d.freshness(&r.Freshness)
	r.Expires = d.time()
	r.Status = d.bounded(999)

	tags, vary, fields, values, variants := d.count(1), d.count(1), d.count(3), d.count(1), d.count(2)
	if d.err != nil {
		return nil, d.err
	}
	texts := make([]string, tags+vary+values)
	r.Tags, texts = d.strings(texts, tags)
	r.Vary, texts = d.strings(texts, vary)
	r.Fields = d.fields(fields, texts)
	r.Variants = d.variants(variants)
	if len(d.rest) > 0 {
		r.BaseKey = d.part(full)
		r.User = d.string()
		r.Position = journal.Position{Epoch: d.uvarint(), ID: journal.ID{Ms: d.uvarint(), Seq: d.uvarint()}}
	}
	if len(d.rest) > 0 {
		r.FetchTime = d.duration()
	}
	if len(d.rest) > 0 {
		r.AnyOrigin = d.uvarint()&markAnyOrigin != 0
	}
	if d.err != nil {
		return nil, d.err
	}
	return r, nil
}

// decoder reads metadata. After its first error it returns zero values only, and
// never more or longer ones than the bytes that are left can hold.
type decoder struct {
	rest []byte
	err  error
}

// fail records the first error.
func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.rest = nil
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.fail(ErrFormat)
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.fail(ErrFormat)
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// bounded reads a number that may not be larger than limit.
func (d *decoder) bounded(limit int) int {
	v := d.uvarint()
	if v > uint64(limit) {
		d.fail(ErrFormat)
		return 0
	}
	return int(v)
}

// count reads the length of a list whose elements take size bytes or more each.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.rest)/size) {
		d.fail(ErrFormat)
		return 0
	}
	return int(n)
}

func (d *decoder) string() string { return d.take(d.uvarint()) }

// take returns the next n bytes as a string without copying them.
func (d *decoder) take(n uint64) string {
	if n > uint64(len(d.rest)) {
		d.fail(ErrFormat)
		return ""
	}
	s := asString(d.rest[:n])
	d.rest = d.rest[n:]
	return s
}

// part reads what appendPart wrote.
func (d *decoder) part(full string) string {
	v := d.uvarint()
	n := v >> 1
	if v&1 == 0 {
		return d.take(n)
	}
	i := d.uvarint()
	if i > uint64(len(full)) || n > uint64(len(full))-i {
		d.fail(ErrFormat)
		return ""
	}
	return full[i : i+n]
}

func (d *decoder) time() time.Time { return time.UnixMilli(d.varint()).UTC() }

func (d *decoder) duration() time.Duration {
	const limit = int64(math.MaxInt64 / time.Millisecond)
	ms := d.varint()
	if ms > limit || ms < -limit {
		d.fail(ErrFormat)
		return 0
	}
	return time.Duration(ms) * time.Millisecond
}

func (d *decoder) freshness(f *rfc9111.Freshness) {
	flags := d.uvarint()
	if flags&^knownFlags != 0 {
		d.fail(ErrVersion)
		return
	}
	f.NoCache = flags&flagNoCache != 0
	f.MustRevalidate = flags&flagMustRevalidate != 0
	f.ForAuthorization = flags&flagForAuthorization != 0
	f.ForCredentials = flags&flagForCredentials != 0
	f.ResponseTime = d.time()
	f.InitialAge = d.duration()
	f.Lifetime = d.duration()
	f.StaleWhileRevalidate = d.duration()
	f.StaleIfError = d.duration()
}

// strings reads n strings into the front of texts and returns them and the rest
// of texts.
func (d *decoder) strings(texts []string, n int) (list, rest []string) {
	if n > len(texts) {
		d.fail(ErrFormat)
		return nil, texts
	}
	if n == 0 {
		return nil, texts
	}
	for i := range n {
		texts[i] = d.string()
	}
	return texts[:n:n], texts[n:]
}

// fields reads n fields whose values together fill texts.
func (d *decoder) fields(n int, texts []string) []Field {
	if n == 0 {
		return nil
	}
	fields := make([]Field, n)
	for i := range fields {
		f := &fields[i]
		f.Op = FieldOp(d.bounded(int(FieldDel)))
		f.Name = d.string()
		f.Values, texts = d.strings(texts, d.count(1))
	}
	return fields
}

func (d *decoder) variants(n int) []Variant {
	if n == 0 {
		return nil
	}
	variants := make([]Variant, n)
	for i := range variants {
		variants[i] = Variant{Hash: d.string(), Expires: d.time()}
	}
	return variants
}
