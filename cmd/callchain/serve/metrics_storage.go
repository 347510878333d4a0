package serve

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// storage shows how much room the database takes and how much is left.
type storage struct {
	used  func(context.Context) (int64, error) // bytes of the database
	dir   string
	limit int64

	mu    sync.Mutex
	last  int64
	asked time.Time

	bytes, limitBytes, total, free *prometheus.Desc
}

// askEvery bounds how often the database is asked for its size.
const askEvery = 30 * time.Second

func (s *Server) newStorage() *storage {
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc("callchain_"+name, help, nil, nil) }
	out := &storage{
		dir: s.settings.Data.Dir, limit: int64(s.settings.Retention.MaxBytes),
		bytes:      desc("store_bytes", "Size of the database."),
		limitBytes: desc("store_limit_bytes", "Size that retention.max_bytes allows; 0: no limit."),
		total:      desc("data_dir_total_bytes", "Size of the file system that holds data.dir."),
		free:       desc("data_dir_free_bytes", "What is free there for the server."),
	}
	if out.used = s.sizeOnServer; s.settings.Store.URL == "" {
		out.used = func(context.Context) (int64, error) { return sizeOfFiles(out.dir) }
	}
	return out
}

// sizeOnServer asks PostgreSQL.
func (s *Server) sizeOnServer(ctx context.Context) (n int64, err error) {
	err = s.database.QueryRowContext(ctx, "SELECT pg_database_size(current_database())").Scan(&n)
	return n, err
}

// sizeOfFiles adds up SQLite's files.
func sizeOfFiles(dir string) (int64, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.db*"))
	if err != nil {
		return 0, err
	}
	var n int64
	for _, f := range files {
		if info, err := os.Stat(f); err == nil { // one may be gone by now
			n += info.Size()
		}
	}
	return n, nil
}

// Describe implements prometheus.Collector.
func (s *storage) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{s.bytes, s.limitBytes, s.total, s.free} {
		to <- d
	}
}

// Collect implements prometheus.Collector. What cannot be found out is left out.
func (s *storage) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, n int64) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n))
	}
	if n, ok := s.size(); ok {
		gauge(s.bytes, n)
	}
	gauge(s.limitBytes, s.limit)
	if total, free, ok := fileSystem(s.dir); ok {
		gauge(s.total, total)
		gauge(s.free, free)
	}
}

// size is the size of the database, asked for not too often; while it does not answer, the last one.
func (s *storage) size() (int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.asked.IsZero() && time.Since(s.asked) < askEvery {
		return s.last, s.last > 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s.asked = time.Now()
	if n, err := s.used(ctx); err == nil {
		s.last = n
	}
	return s.last, s.last > 0
}
