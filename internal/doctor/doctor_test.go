package doctor

import (
	"testing"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

func TestJudges(t *testing.T) {
	for _, tt := range []struct {
		got  api.Check
		want api.Status
	}{
		{checkVersion(map[string]string{"redis_version": "7.0.0"}), api.OK},
		{checkVersion(map[string]string{"redis_version": "6.2.14"}), api.Fail},
		{checkVersion(nil), api.Fail},
		{checkEviction(map[string]string{"maxmemory": "1", "maxmemory_policy": "allkeys-lfu"}), api.Fail},
		{checkEviction(map[string]string{"maxmemory": "1", "maxmemory_policy": "noeviction"}), api.Warn},
		{checkEviction(map[string]string{"maxmemory": "0", "maxmemory_policy": "noeviction"}), api.Warn},
		{checkEviction(map[string]string{"maxmemory": "1", "maxmemory_policy": "volatile-ttl"}), api.OK},
		{checkMemory(map[string]string{"maxmemory": "100", "used_memory": "91"}), api.Warn},
		{checkMemory(map[string]string{"maxmemory": "100", "used_memory": "90"}), api.OK},
		{checkMemory(map[string]string{"maxmemory": "0", "used_memory": "90"}), api.OK},
		{checkPersistence(map[string]string{"aof_enabled": "1"}), api.OK},
		{checkPersistence(map[string]string{"aof_enabled": "0", "rdb_saves": "2", "rdb_last_save_time": "1"}), api.OK},
		{checkPersistence(map[string]string{"aof_enabled": "0", "rdb_saves": "0", "rdb_last_save_time": "1"}), api.Warn},
		{checkReplicas(map[string]string{"role": "master", "connected_slaves": "1"}), api.OK},
		{checkReplicas(map[string]string{"role": "master", "connected_slaves": "0"}), api.Warn},
		{checkReplicas(map[string]string{"role": "slave", "connected_slaves": "1"}), api.Fail},
		{checkMarks(journal.Stats{RequestMarks: 49, MaxRequestMarks: 100}), api.OK},
		{checkMarks(journal.Stats{RequestMarks: 50, MaxRequestMarks: 100}), api.Warn},
		{checkMarks(journal.Stats{RequestMarks: 1, MaxRequestMarks: 100, Forgotten: 1}), api.Warn},
		{clockCheck(time.Second), api.OK},
		{clockCheck(2 * time.Second), api.Warn},
		{clockCheck(31 * time.Second), api.Fail},
		{worst([]map[string]string{{"redis_version": "6"}, {"redis_version": "7"}}, checkVersion), api.Fail},
	} {
		if tt.got.Status != tt.want || (tt.want == api.OK) != (tt.got.Advice == "") {
			t.Errorf("%+v, want %s", tt.got, tt.want)
		}
	}
}
