package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// sumSeries adds up the series of a measurement in Prometheus' text form.
func sumSeries(text io.Reader, name string) (float64, error) {
	sum, found := 0.0, false
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		fields := strings.Fields(rest[strings.LastIndex(rest, "}")+1:])
		if len(fields) == 0 {
			continue
		}
		v, err := strconv.ParseFloat(fields[0], 64)
		if err != nil {
			return 0, fmt.Errorf("reading %s: %w", lines.Text(), err)
		}
		sum, found = sum+v, true
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	if !found {
		return 0, fmt.Errorf("there is no measurement %s", name)
	}
	return sum, nil
}

// memory reads VmRSS and VmHWM (the peak) of a process, in bytes.
func (s *process) memory() (now, peak int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kib, _ := strconv.ParseInt(fields[1], 10, 64) // other lines have no number; theirs is not used
		switch fields[0] {
		case "VmRSS:":
			now = kib << 10
		case "VmHWM:":
			peak = kib << 10
		}
	}
	if now == 0 {
		return 0, 0, fmt.Errorf("process %d has no VmRSS: it has ended", s.cmd.Process.Pid)
	}
	return now, peak, nil
}

func mib(bytes int64) string { return fmt.Sprintf("%d MiB", bytes>>20) }

// quantile is the value below which a share of all lies; it sorts them.
func quantile(all []time.Duration, share float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[min(len(all)-1, int(share*float64(len(all))))]
}

// sum adds up.
func sum(all []float64) (total float64) {
	for _, v := range all {
		total += v
	}
	return total
}

// slope fits a line through points by least squares and gives its rise per unit of x.
func slope(x, y []float64) float64 {
	n := float64(len(x))
	var sx, sy, sxx, sxy float64
	for i := range x {
		sx, sy, sxx, sxy = sx+x[i], sy+y[i], sxx+x[i]*x[i], sxy+x[i]*y[i]
	}
	if d := n*sxx - sx*sx; d != 0 {
		return (n*sxy - sx*sy) / d
	}
	return 0
}

// slopeBeside fits y = a + b·x + c·z by least squares and gives b: the rise of y per unit of x that z does not explain.
func slopeBeside(x, z, y []float64) float64 { return slope(without(z, x), without(z, y)) }

// without is what is left of y when its line over x is taken away.
func without(x, y []float64) []float64 {
	rise, left := slope(x, y), make([]float64, len(y))
	for i := range y {
		left[i] = y[i] - rise*x[i]
	}
	return left
}

func TestSlopeBeside(t *testing.T) {
	x, z := []float64{0, 1, 2, 3, 4, 5}, []float64{0, 2, 1, 4, 9, 7}
	y := make([]float64, len(x))
	for i := range y {
		y[i] = 1 + 2*x[i] + 3*z[i]
	}
	if b := slopeBeside(x, z, y); math.Abs(b-2) > 1e-9 {
		t.Errorf("the slope beside z is %v, want 2", b)
	}
	if b := slope(x, y); b < 6 {
		t.Errorf("the slope with z is %v", b)
	}
}
