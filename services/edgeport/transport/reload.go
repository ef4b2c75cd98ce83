package transport

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// fileCheck is how often, at most, the files of TLS are looked at, by who makes a handshake.
const fileCheck = 2 * time.Second

// fromFiles is what files of TLS say. They are read again when they change; what is established already is not touched.
type fromFiles[T any] struct {
	files []string
	read  func() (T, error)
	log   *slog.Logger

	mu      sync.Mutex
	current T
	checked time.Time
	seen    []stamp
}

// stamp tells one version of a file from another.
type stamp struct {
	time time.Time
	size int64
}

func newFromFiles[T any](log *slog.Logger, read func() (T, error), files ...string) (*fromFiles[T], error) {
	f := &fromFiles[T]{files: files, read: read, log: log, checked: time.Now()}
	f.seen = f.stamps()
	var err error
	f.current, err = read()
	return f, err
}

// get is what a handshake uses. Files that are broken change nothing, and are logged once.
func (f *fromFiles[T]) get() T {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.checked) < fileCheck {
		return f.current
	}
	f.checked = time.Now()
	now := f.stamps()
	if slices.Equal(now, f.seen) {
		return f.current
	}
	f.seen = now
	current, err := f.read()
	if err != nil {
		f.log.Error("a file of TLS has changed and cannot be read, what it said before stays in use", "file", f.files[0], "err", err)
		return f.current
	}
	f.log.Info("a file of TLS has changed", "file", f.files[0])
	f.current = current
	return f.current
}

func (f *fromFiles[T]) stamps() []stamp {
	s := make([]stamp, len(f.files))
	for i, file := range f.files {
		if info, err := os.Stat(file); err == nil {
			s[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return s
}

// certificateFiles is a certificate and its key.
func certificateFiles(log *slog.Logger, certFile, keyFile string) (*fromFiles[*tls.Certificate], error) {
	return newFromFiles(log, func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("read certificate %s: %w", certFile, err)
		}
		return &pair, nil
	}, certFile, keyFile)
}

// clientFiles is cfg for the clients whose certificates are of the authorities in caFile.
func clientFiles(log *slog.Logger, cfg *tls.Config, caFile string) (*fromFiles[*tls.Config], error) {
	return newFromFiles(log, func() (*tls.Config, error) {
		pool, err := ReadCAs(caFile)
		if err != nil {
			return nil, err
		}
		c := cfg.Clone()
		c.ClientCAs = pool
		return c, nil
	}, caFile)
}
