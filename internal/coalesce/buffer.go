package coalesce

// Buffer is a body that grows. It grows by blocks, so that a large one is not
// copied over and over, and what was read of it stays as it is. Its zero value
// is empty and ready for use.
type Buffer struct {
	blocks [][]byte // all but the last are full
	size   int
}

const (
	minBlock = 4 << 10
	maxBlock = 1 << 20
)

// Reserve makes room for the whole body, where its size is known beforehand.
func (b *Buffer) Reserve(size int64) {
	if size > 0 && b.size == 0 {
		b.blocks = [][]byte{make([]byte, 0, size)}
	}
}

// Write appends to the body. It never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	n := len(p)
	b.size += n
	for len(p) > 0 {
		last := len(b.blocks) - 1
		if last < 0 || len(b.blocks[last]) == cap(b.blocks[last]) {
			b.blocks = append(b.blocks, make([]byte, 0, max(minBlock, min(b.size, maxBlock))))
			last++
		}
		block := b.blocks[last]
		k := min(len(p), cap(block)-len(block))
		b.blocks[last] = append(block, p[:k]...)
		p = p[k:]
	}
	return n, nil
}

// Len returns the length of the body.
func (b *Buffer) Len() int { return b.size }

// Bytes returns the body in one piece that wastes little memory.
func (b *Buffer) Bytes() []byte {
	if len(b.blocks) == 1 && cap(b.blocks[0]) <= b.size+b.size/8 {
		return b.blocks[0][:b.size:b.size]
	}
	body := make([]byte, 0, b.size)
	for _, block := range b.blocks {
		body = append(body, block...)
	}
	return body
}

// place is where a reader is in a Buffer.
type place struct{ block, offset int }

// next returns what follows a place, up to the end of its block, and moves the
// place behind it.
func (b *Buffer) next(at *place) []byte {
	for at.block < len(b.blocks) {
		block := b.blocks[at.block]
		if p := block[at.offset:len(block):len(block)]; len(p) > 0 {
			at.offset = len(block)
			return p
		}
		if at.block == len(b.blocks)-1 {
			break
		}
		at.block, at.offset = at.block+1, 0
	}
	return nil
}
