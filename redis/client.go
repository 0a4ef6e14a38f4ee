package redis

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
)

func init() {
	// The library has one logger for the whole process, which writes lines to the standard error that are none of Caddy's. It is set
	// before anything can use it, and tells Caddy's log at Debug: a failure that matters comes back as the error of an operation.
	goredis.SetLogger(libraryLog{})
}

// libraryLog is the log of the library.
type libraryLog struct{}

func (libraryLog) Printf(_ context.Context, format string, args ...any) {
	logger := caddy.Log().Named(string(Store{}.CaddyModule().ID))
	if logger.Core().Enabled(zapcore.DebugLevel) {
		logger.Debug(withoutArguments(fmt.Sprintf(format, args...)))
	}
}

// clients are shared by all stores with the same settings, across configuration loads.
var clients = caddy.NewUsagePool()

// client is a pool of connections, or several for a Cluster.
type client struct {
	goredis.UniversalClient
	key         string
	authorities *x509.CertPool
}

// Destruct closes the connections when nobody uses them any more.
func (c *client) Destruct() error { return c.Close() }

// acquireClient returns the shared client for a store's settings, and what gives it back.
func acquireClient(s *Store, options *goredis.UniversalOptions) (*client, func() error, error) {
	settings := *s
	settings.Prefix = ""
	description, err := json.Marshal(&settings) //nolint:gosec // hashed, and never written anywhere
	if err != nil {
		return nil, nil, err
	}
	var authorities *x509.CertPool
	if options.TLSConfig != nil {
		authorities = options.TLSConfig.RootCAs
		for _, certificate := range options.TLSConfig.Certificates {
			description = append(description, certificate.Certificate[0]...)
		}
	}
	digest := sha256.Sum256(description)
	for n := 0; ; n++ {
		// the same settings with other authorities behind them are another client
		key := hex.EncodeToString(digest[:]) + "." + strconv.Itoa(n)
		value, _, err := clients.LoadOrNew(key, func() (caddy.Destructor, error) {
			return &client{UniversalClient: goredis.NewUniversalClient(options), key: key, authorities: authorities}, nil
		})
		if err != nil {
			return nil, nil, err
		}
		shared := value.(*client)
		if authorities.Equal(shared.authorities) {
			return shared, shared.release, nil
		}
		if err := shared.release(); err != nil {
			return nil, nil, err
		}
	}
}

func (c *client) release() error {
	_, err := clients.Delete(c.key)
	return err
}

// retain keeps the connections open until release is called once more; it reports whether they still were.
func (c *client) retain() bool {
	_, _, err := clients.LoadOrNew(c.key, func() (caddy.Destructor, error) { return nil, goredis.ErrClosed })
	return err == nil
}

func (s *Store) options(ctx caddy.Context) (*goredis.UniversalOptions, error) {
	options := &goredis.UniversalOptions{
		MasterName:       s.MasterName,
		SentinelUsername: s.SentinelUsername,
		SentinelPassword: s.SentinelPassword,
		IsClusterMode:    s.isCluster(),
		Username:         s.Username,
		Password:         s.Password,
		DB:               s.Database,
		DialTimeout:      time.Duration(s.ConnectTimeout),
		WriteTimeout:     time.Duration(s.SendTimeout),
		ReadTimeout:      time.Duration(s.ReadTimeout),
		PoolTimeout:      time.Duration(s.ConnectTimeout),
		ConnMaxIdleTime:  time.Duration(s.KeepaliveTimeout),
		// Retries are for connections that a restart or a failover cut; all of them have to fit into the time of one operation.
		MaxRetries:            2,
		MinRetryBackoff:       5 * time.Millisecond,
		MaxRetryBackoff:       50 * time.Millisecond,
		DialerRetries:         1,
		ContextTimeoutEnabled: true,
		// Nothing that access control lists would have to allow besides, and no second pool: nothing here is pipelined.
		Protocol:                 2,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		PipelinePoolSize:         -1,
	}
	for _, server := range s.servers() {
		options.Addrs = append(options.Addrs, server.address)
	}
	if s.SSL {
		config, err := s.tlsConfig(ctx)
		if err != nil {
			return nil, err
		}
		options.TLSConfig = config
	}
	return options, nil
}

func (s *Store) tlsConfig(ctx caddy.Context) (*tls.Config, error) {
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         s.ServerName,
		InsecureSkipVerify: s.SSLVerify != nil && !*s.SSLVerify, //nolint:gosec // on request, with a warning
	}
	if len(s.TLSTrustPoolRaw) > 0 {
		loaded, err := ctx.LoadModule(s, "TLSTrustPoolRaw")
		if err != nil {
			return nil, fmt.Errorf("tls_trust_pool: %w", err)
		}
		pool, ok := loaded.(caddytls.CA)
		if !ok {
			return nil, errors.New("tls_trust_pool: the module is not a source of certificate authorities")
		}
		config.RootCAs = pool.CertPool()
	}
	if c := s.TLSClientCertificate; c != nil {
		certificate, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
		if err != nil {
			return nil, fmt.Errorf("tls_client_certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return config, nil
}
