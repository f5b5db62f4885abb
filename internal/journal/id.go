package journal

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ID is the ID of a stream entry. The zero ID is before every entry.
type ID struct{ Ms, Seq uint64 }

// maxID ends a stream: nothing can be appended after it.
var maxID = ID{math.MaxUint64, math.MaxUint64}

// Compare returns -1, 0 or 1 as id is before, equal to or after other.
func (id ID) Compare(other ID) int {
	if c := cmp.Compare(id.Ms, other.Ms); c != 0 {
		return c
	}
	return cmp.Compare(id.Seq, other.Seq)
}

// Before reports whether id is before other.
func (id ID) Before(other ID) bool { return id.Compare(other) < 0 }

// IsZero reports whether id is before every entry.
func (id ID) IsZero() bool { return id == ID{} }

// String returns the ID as Redis writes it: ms-seq.
func (id ID) String() string {
	return strconv.FormatUint(id.Ms, 10) + "-" + strconv.FormatUint(id.Seq, 10)
}

// ParseID reads an ID as Redis writes it.
func ParseID(s string) (ID, error) {
	ms, seq, ok := strings.Cut(s, "-")
	if ok {
		m, errMs := strconv.ParseUint(ms, 10, 64)
		n, errSeq := strconv.ParseUint(seq, 10, 64)
		if errMs == nil && errSeq == nil {
			return ID{m, n}, nil
		}
	}
	return ID{}, fmt.Errorf("journal: %q is not the ID of a stream entry", s)
}

func laterOf(a, b ID) ID {
	if a.Before(b) {
		return b
	}
	return a
}

// Position is what a node had applied at one moment. Positions of different
// epochs cannot be compared: nobody knows what happened between them.
type Position struct {
	// Epoch is the random name of an unbroken stretch of the journal. It is 0
	// until the node has seen the journal for the first time.
	Epoch uint64
	ID    ID
	// Local is how many purges this node had taken before they were recorded, or
	// since the process began. It means something to this process alone: Redis never
	// has it, and a record from there is taken to be older than all of them.
	Local uint64
}

// Before reports whether p was noted before other, as far as positions of one
// epoch tell.
func (p Position) Before(other Position) bool {
	if c := p.ID.Compare(other.ID); c != 0 || p.Epoch != other.Epoch {
		return c < 0 && p.Epoch == other.Epoch
	}
	return p.Local < other.Local
}

// Checked says up to which purges a record is known not to be covered: those of
// the journal up to an ID, and those that wait at this node up to a count. The
// zero Checked says nothing.
type Checked struct {
	ID    ID
	Local uint64
	rules uint64 // the version of the rules under which ID was found
}

// Beyond reports whether c says more than other.
func (c Checked) Beyond(other Checked) bool {
	return other.ID.Before(c.ID) || other.Local < c.Local || other.rules != c.rules
}

// String returns the position as ParsePosition reads it, without Local.
func (p Position) String() string { return formatEpoch(p.Epoch) + "/" + p.ID.String() }

// ParsePosition reads what String returned.
func ParsePosition(s string) (Position, error) {
	epoch, id, _ := strings.Cut(s, "/")
	p := Position{Epoch: parseEpoch(epoch)}
	var err error
	if p.ID, err = ParseID(id); err == nil && p.Epoch == 0 {
		err = fmt.Errorf("journal: %q has no epoch", s)
	}
	return p, err
}

func formatEpoch(epoch uint64) string { return fmt.Sprintf("%016x", epoch) }

// parseEpoch returns 0 for what is no epoch.
func parseEpoch(s string) uint64 {
	epoch, err := strconv.ParseUint(s, 16, 64)
	if err != nil || len(s) != 16 {
		return 0
	}
	return epoch
}
