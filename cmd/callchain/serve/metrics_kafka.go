package serve

import (
	"callchain/engine/bus"
	"callchain/engine/bus/kafka"

	"github.com/prometheus/client_golang/prometheus"
)

// laneNames are the lanes as measurements call them.
var laneNames = [bus.Lanes]string{bus.RPC: "rpc", bus.Data: "data"}

// brokers shows what passes through Kafka. The figures are read once for each look.
type brokers struct {
	stats func() kafka.Stats
	lanes []laneFigure
	away  *prometheus.Desc
	lost  *prometheus.Desc
}

// laneFigure is one measurement of each lane.
type laneFigure struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(s *kafka.Stats, lane int) float64
}

func newBrokers(stats func() kafka.Stats) *brokers {
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	of := func(name, help string, kind prometheus.ValueType, value func(*kafka.Stats, int) float64) laneFigure {
		return laneFigure{prometheus.NewDesc("callchain_kafka_"+name, help, []string{"lane"}, nil), kind, value}
	}
	return &brokers{
		stats: stats,
		lanes: []laneFigure{
			of("written_total", "Messages that the brokers acknowledged.", counter, func(s *kafka.Stats, l int) float64 { return float64(s.Written[l]) }),
			of("write_failures_total", "Messages whose write failed.", counter, func(s *kafka.Stats, l int) float64 { return float64(s.Failed[l]) }),
			of("writes_total", "Batches of messages that were written.", counter, func(s *kafka.Stats, l int) float64 { return float64(s.Writes[l]) }),
			of("write_seconds_total", "Time of all writes together; divided by writes_total, the time of one.", counter, func(s *kafka.Stats, l int) float64 { return s.WriteTime[l].Seconds() }),
			of("taken_total", "Messages that their owner took.", counter, func(s *kafka.Stats, l int) float64 { return float64(s.Taken[l]) }),
			of("read_errors_total", "Reads that failed.", counter, func(s *kafka.Stats, l int) float64 { return float64(s.ReadErrors[l]) }),
			of("unwritten", "Messages that wait to be acknowledged by the brokers.", gauge, func(s *kafka.Stats, l int) float64 { return float64(s.Unwritten[l]) }),
			of("lag", "Messages in the topic that were not handed over yet, as of the last fetch.", gauge, func(s *kafka.Stats, l int) float64 { return float64(s.Lag[l]) }),
		},
		away: prometheus.NewDesc("callchain_kafka_away", "1 while the brokers cannot be written or read.", nil, nil),
		lost: prometheus.NewDesc("callchain_kafka_messages_lost", "1 after a topic lost messages that were not taken, or the topic of events was made anew.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (b *brokers) Describe(to chan<- *prometheus.Desc) {
	for _, f := range b.lanes {
		to <- f.desc
	}
	to <- b.away
	to <- b.lost
}

// Collect implements prometheus.Collector.
func (b *brokers) Collect(to chan<- prometheus.Metric) {
	s := b.stats()
	for _, f := range b.lanes {
		for lane, name := range laneNames {
			to <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(&s, lane), name)
		}
	}
	to <- prometheus.MustNewConstMetric(b.away, prometheus.GaugeValue, oneIf(s.Away))
	to <- prometheus.MustNewConstMetric(b.lost, prometheus.GaugeValue, oneIf(s.MessagesLost))
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
