package config

import (
	"encoding/json"
	"testing"
)

func TestMinEncode(t *testing.T) {
	for config, want := range map[string]int{
		`{}`:                          1 << 10,
		`{"encode":{}}`:               1 << 10,
		`{"encode":{"min_size":100}}`: 100,
		`{"encode":{"format":"zstd","min_size":100}}`: 100,
		`{"encode":{"format":"off"}}`:                 0,
	} {
		var p Policy
		if err := json.Unmarshal([]byte(config), &p); err != nil {
			t.Fatal(err)
		}
		if got := p.minEncode(); got != want {
			t.Errorf("%s: %d, want %d", config, got, want)
		}
	}
}
