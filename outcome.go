package rediscache

// Outcome says how a request was answered. Header, statistics and placeholders
// read the same value.
type Outcome uint8

// The outcomes, as X-Cache shows them.
const (
	OutcomeBypass      Outcome = iota // the cache took no part
	OutcomeMiss                       // answered by the upstream
	OutcomeHit                        // answered from a stored response
	OutcomeStale                      // answered from a stale stored response
	OutcomeRevalidated                // answered from a stored response that the upstream confirmed
	numOutcomes
)

var outcomeNames = [numOutcomes]string{"BYPASS", "MISS", "HIT", "STALE", "REVALIDATED"}

func (o Outcome) String() string { return outcomeNames[o] }
