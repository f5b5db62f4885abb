// Package redisconn leads from a configured connection to a client of Redis: one server,
// a Cluster, or a master that Sentinels know. It resolves and checks, and never dials.
package redisconn

import (
	"errors"
	"time"
)

// Config says where Redis is. Placeholders have been replaced. The fields are part of
// the configuration of users, whose names and words they have.
type Config struct {
	// A URL: `redis://[[user]:password@]host[:port][/db]`, `rediss://` for TLS,
	// `unix://[user:password@]/path/to.sock[?db=0]`; or host:port.
	// Default: the environment variable REDIS_URL, else REDIS_HOST, REDIS_PORT,
	// REDIS_DB and REDIS_PASSWORD, else redis://localhost:6379/0.
	URL string `json:"url,omitempty"`

	// Several addresses, in place of `url`: seeds of a Cluster, or Sentinels. What
	// the first URL says holds for all; further ones need only host:port.
	Addresses []string `json:"addresses,omitempty"`

	// Whether it is a Redis Cluster. Default: false.
	Cluster bool `json:"cluster,omitempty"`

	// Set if the addresses are those of Sentinels, which know the master.
	Sentinel *Sentinel `json:"sentinel,omitempty"`

	// Encrypts connections, as `rediss://` does. Default: the system's authorities
	// and no client certificate.
	TLS *TLS `json:"tls,omitempty"`

	// The user name; beats that of the URL.
	Username string `json:"username,omitempty"`

	// The password; beats that of the URL.
	Password string `json:"password,omitempty"`

	// The database number; beats that of the URL.
	DB *int `json:"db,omitempty"`
}

// Sentinel says how Sentinels are asked.
type Sentinel struct {
	// The name under which they watch the master.
	Master string `json:"master"`

	// The user name for the Sentinels themselves. Default: none.
	Username string `json:"username,omitempty"`

	// The password for the Sentinels themselves. Default: none.
	Password string `json:"password,omitempty"`
}

// TLS says how connections are encrypted. The files are read when the
// configuration is loaded.
type TLS struct {
	// A PEM file with the authorities that are trusted. Default: the system's.
	CA string `json:"ca,omitempty"`

	// A PEM file with the certificate by which Redis knows this client, and one
	// with its private key. Default: none.
	Cert string `json:"cert,omitempty"`
	Key  string `json:"key,omitempty"`

	// The name that the certificate of Redis must have. Default: the host of its
	// address.
	ServerName string `json:"server_name,omitempty"`
}

// Limits bound what a client may take. Zero stands for the default: what the URL says,
// else what is said here.
type Limits struct {
	Dial        time.Duration // Default: 500ms
	Read, Write time.Duration // Default: 50ms
	PoolSize    int           // connections, up to 10,000. Default: ten per CPU
}

const (
	defaultDialTimeout = 500 * time.Millisecond
	defaultIOTimeout   = 50 * time.Millisecond
	maxPoolSize        = 10_000
)

// Validate finds what cannot be meant, whatever placeholders stand for.
func (c *Config) Validate() error {
	for _, rule := range []struct {
		broken bool
		text   string
	}{
		{c.URL != "" && len(c.Addresses) > 0, "url and addresses exclude each other"},
		{c.Cluster && c.Sentinel != nil, "cluster and sentinel exclude each other"},
		{c.Cluster && c.DB != nil && *c.DB != 0, "a cluster has only database 0"},
		{len(c.Addresses) > 1 && !c.Cluster && c.Sentinel == nil, "several addresses need cluster or sentinel"},
		{c.Sentinel != nil && c.Sentinel.Master == "", "sentinel needs the name of the master"},
		{c.TLS != nil && (c.TLS.Cert == "") != (c.TLS.Key == ""), "tls: cert and key need each other"},
	} {
		if rule.broken {
			return errors.New(rule.text)
		}
	}
	return nil
}

// Texts are the fields in which placeholders are replaced, in a copy of the configuration.
func (c *Config) Texts() (texts []*string, own *Config) {
	own = new(*c)
	own.Addresses = append([]string(nil), c.Addresses...)
	texts = []*string{&own.URL, &own.Username, &own.Password}
	for i := range own.Addresses {
		texts = append(texts, &own.Addresses[i])
	}
	if c.Sentinel != nil {
		own.Sentinel = new(*c.Sentinel)
		texts = append(texts, &own.Sentinel.Master, &own.Sentinel.Username, &own.Sentinel.Password)
	}
	if c.TLS != nil {
		own.TLS = new(*c.TLS)
		texts = append(texts, &own.TLS.CA, &own.TLS.Cert, &own.TLS.Key, &own.TLS.ServerName)
	}
	return texts, own
}
