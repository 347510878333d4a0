package observe

import (
	"context"
	"log/slog"
	"time"

	"callchain/engine/owner"
)

// Notices counts and logs the notices of an owner. alone: there are no other nodes.
func (m *Metrics) Notices(log *slog.Logger, alone bool, notices []owner.Notice) {
	for i := range notices {
		m.notice(log, alone, &notices[i])
	}
}

func (m *Metrics) notice(log *slog.Logger, alone bool, n *owner.Notice) {
	switch n.Kind { //nolint:exhaustive // the others are not counted
	case owner.NoticeRejected:
		m.rejected.Inc()
	case owner.NoticeDeadLetter:
		m.deadLetters.WithLabelValues(n.Reason).Inc()
	case owner.NoticeNoRow:
		m.withoutRow.WithLabelValues(n.Reason).Inc()
	case owner.NoticeUnknownAnswer:
		m.unknownAnswers.Inc()
	case owner.NoticeTracesDropped:
		m.tracesDropped.Add(float64(n.Count))
	case owner.NoticeFenced:
		m.fenced.Add(float64(len(n.Partitions)))
	case owner.NoticeAppendFailed:
		m.reloads.Inc()
	}
	logNotice(log, alone, n)
}

// logNotice writes the log line of a notice, if it has one.
func logNotice(log *slog.Logger, alone bool, n *owner.Notice) {
	switch n.Kind { //nolint:exhaustive // the others are counted only
	case owner.NoticePanicked:
		log.Error("command panicked and is rejected", "command", n.Command, "device", n.Device, "error", n.Err, "stack", string(n.Stack))
	case owner.NoticeSkipped:
		log.Error("dead letter refused by the store; the command is skipped", "command", n.Command, "device", n.Device, "partition", n.Partition, "error", n.Err)
	case owner.NoticeFull:
		log.Warn("no room for rows of dead letters; rerun or drop some", "waiting", n.Count, "wanted", n.Most, "reason", n.Reason)
	case owner.NoticeQuarantined:
		log.Error("stored stream damaged and quarantined", "stream", n.Stream, "partition", n.Partition, "error", n.Err)
	case owner.NoticeWaits:
		log.Warn("command waits for the store or the registry", "command", n.Command, "device", n.Device, "partition", n.Partition, "error", n.Err)
	case owner.NoticeUnknownAnswer:
		log.Debug("device answered an unknown call", "device", n.Device, "tenant", n.Tenant)
	case owner.NoticeFenced:
		log.Warn("partitions claimed by another process", "partitions", n.Partitions)
	case owner.NoticeAppendFailed:
		log.Error("append failed; its partitions are loaded again", "partitions", n.Partitions, "events", n.Count, "error", n.Err)
	case owner.NoticeNotClaimed:
		log.Warn("partitions not loaded", "partitions", n.Partitions, "again", n.Again.Time().UTC().Format(time.RFC3339Nano), "error", n.Err)
	case owner.NoticeInboxLost:
		log.Error("inbox lost messages; the partitions wait for a decision", "partitions", n.Partitions, "error", n.Err)
	case owner.NoticeNewerEvents:
		log.Error("stored events are of a newer program", "partitions", n.Partitions, "error", n.Err)
	case owner.NoticeReassigned:
		log.Info("partitions went to another node while this one was away", "partitions", n.Partitions)
	case owner.NoticeClaimed:
		level := slog.LevelInfo
		if alone { // there, the server logs that it is ready
			level = slog.LevelDebug
		}
		log.Log(context.Background(), level, "partitions loaded", "partitions", n.Partitions, "calls", n.Calls, "runs", n.Runs)
	case owner.NoticeAheadOfClock:
		log.Warn("stored times are ahead of this node's clock", "partition", n.Partition, "stored", n.Stored.Time().UTC(), "clock", n.Now.Time().UTC())
	}
}
