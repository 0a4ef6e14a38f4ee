package redis

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"go.uber.org/zap"
)

// server is one address of the configuration.
type server struct {
	field, network, address string
	err                     error
}

// servers reads the addresses. The texts are not repeated in errors, since a URL may have a password in it.
func (s *Store) servers() []server {
	port := 6379
	if s.MasterName != "" {
		port = 26379
	}
	if len(s.Address) == 0 {
		host := s.Host
		if host == "" {
			host = "127.0.0.1"
		}
		if s.Port != 0 {
			port = s.Port
		}
		return []server{parseServer("host", host, "", port)}
	}
	servers := make([]server, 0, len(s.Address))
	for _, text := range s.Address {
		host, given, err := net.SplitHostPort(text)
		if err != nil || strings.HasPrefix(text, unixPrefix) {
			host, given = text, ""
		}
		servers = append(servers, parseServer("address", host, given, port))
	}
	return servers
}

const unixPrefix = "unix/"

func parseServer(field, host, given string, port int) server {
	if path, ok := strings.CutPrefix(host, unixPrefix); ok {
		if !strings.HasPrefix(path, "/") {
			return server{field: field, err: fmt.Errorf("%s: a Unix socket is written unix//path", field)}
		}
		return server{field: field, network: "unix", address: path}
	}
	if given != "" {
		var err error
		if port, err = strconv.Atoi(given); err != nil || port < 1 || port > 65535 {
			return server{field: field, err: fmt.Errorf("%s: the port must be a number from 1 to 65535", field)}
		}
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if host == "" || strings.ContainsAny(host, "/@ ") || strings.Contains(host, ":") && net.ParseIP(host) == nil {
		return server{field: field, err: fmt.Errorf("%s: is not a host; a URL is not accepted", field)}
	}
	return server{field: field, network: "tcp", address: net.JoinHostPort(host, strconv.Itoa(port))}
}

// warn tells what lets others read what is sent.
func (s *Store) warn(logger *zap.Logger) {
	if s.SSL && s.SSLVerify != nil && !*s.SSLVerify {
		logger.Warn("ssl_verify is off: whoever is between this server and Redis can read the password and drop sessions")
	}
	if s.SSL || s.Password == "" && s.SentinelPassword == "" {
		return
	}
	for _, server := range s.servers() {
		if server.network == "tcp" && !isLoopback(server.address) {
			logger.Warn("the password is sent to another host without encryption; set ssl", zap.String("address", server.address))
			return
		}
	}
}

func isLoopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}
