package kafka

import "github.com/rcrowley/go-metrics"

// noMetrics is the registry of the client library's own measurements: it keeps none. Their samples took a twelfth of the server's time under
// light load (a profile of one caller), and nobody reads them; what an operator needs is in Stats.
type noMetrics struct{ metrics.Registry }

// GetOrRegister gives measurements that do nothing, in the forms in which the library asks for them.
func (u noMetrics) GetOrRegister(name string, made any) any {
	switch made.(type) {
	case func() metrics.Counter:
		return metrics.NilCounter{}
	case func() metrics.Meter:
		return metrics.NilMeter{}
	case func() metrics.Histogram:
		return metrics.NilHistogram{}
	}
	return u.Registry.GetOrRegister(name, made)
}
