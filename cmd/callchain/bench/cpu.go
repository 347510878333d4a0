package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is USER_HZ, which Linux fixes at 100 for all programs (proc(5)).
const ticksPerSecond = 100

// usage is who used the processor since boot, in ticks.
type usage struct {
	at     time.Time
	all    float64 // user, nice, system, steal
	self   float64
	server float64
}

// system names the processes that belong to what is measured.
type system struct {
	pids  []int    // of the server
	names []string // of programs that work for it, like postgres
}

// read looks at /proc; on a machine without it ok is false.
func (s system) read() (u usage, ok bool) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return u, false
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal …
	if len(fields) < 9 {
		return u, false
	}
	u.at = time.Now()
	for _, i := range []int{1, 2, 3, 8} {
		n, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return u, false
		}
		u.all += n
	}
	u.self, _ = ticksOf(os.Getpid())
	for _, pid := range append(s.byName(), s.pids...) {
		n, _ := ticksOf(pid)
		u.server += n
	}
	return u, true
}

// byName are the processes that run one of the named programs now.
func (s system) byName() []int {
	if len(s.names) == 0 {
		return nil
	}
	paths, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return nil
	}
	var out []int
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		name := string(bytes.TrimSpace(text))
		for _, want := range s.names {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); name == want && err == nil {
				out = append(out, pid)
			}
		}
	}
	return out
}

// ticksOf are utime and stime of a process, with those of its children that have ended.
func ticksOf(pid int) (ticks float64, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	_, rest, _ := bytes.Cut(text, []byte(") ")) // the program's name may hold blanks
	fields := strings.Fields(string(rest))
	if len(fields) < 15 {
		return 0, false
	}
	for _, i := range []int{11, 12, 13, 14} { // utime, stime, cutime, cstime
		n, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return 0, false
		}
		ticks += n
	}
	return ticks, true
}

// rss is the resident memory of a process in bytes, 0 if it cannot be told.
func rss(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// CPU is the use of the processor during a run, in cores.
type CPU struct {
	Server    float64 `json:"server"`
	Generator float64 `json:"generator"`
	Others    float64 `json:"others"`
}

// since is what was used between two readings.
func (u usage) since(before usage) CPU {
	seconds := u.at.Sub(before.at).Seconds()
	if seconds <= 0 {
		return CPU{}
	}
	cores := func(ticks float64) float64 { return ticks / ticksPerSecond / seconds }
	c := CPU{Server: cores(u.server - before.server), Generator: cores(u.self - before.self)}
	c.Others = max(0, cores(u.all-before.all)-c.Server-c.Generator)
	return c
}
